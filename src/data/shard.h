/* Shards: the token ids of a split (train, valid, test) on disk.
 *
 * A split is the files DIR/SPLIT-00000.bin, DIR/SPLIT-00001.bin, ... One file is a header of 128
 * bytes and then the ids, little endian, 2 bytes each if the vocabulary has at most 65536 words,
 * else 4. All numbers of the header are unsigned and little endian:
 *
 *   offset size
 *        0    8  magic "DEQSHARD"
 *        8    4  version, 1
 *       12    4  bytes of this header, 128
 *       16    4  bytes of one id: 2 or 4
 *       20    4  flags: bit 0 = ids are bytes of text; bit 1 = records, not a text
 *       24    4  number of this shard, from 0
 *       28    4  number of shards of the split
 *       32    8  tokens in this shard (the file ends after them)
 *       40    8  tokens of the split before this shard
 *       48    8  tokens of the split
 *       56    8  vocabulary size
 *       64    8  vocabulary hash (vocab.h)
 *       72    8  bytes of the text of the split (for bits per byte)
 *       80    8  words of the text of the split, what white space separates; <eos> is none
 *       88    8  XXH3 (64 bits) of the ids as stored
 *       96    8  records: positions S of one; a record is S inputs, then their S targets. Text: 0
 *      104    8  records: positions at the end of each that its task is about (all are scored)
 *      112    8  zero
 *      120    8  XXH3 (64 bits) of the 120 bytes before
 */
#ifndef DEQ_DATA_SHARD_H
#define DEQ_DATA_SHARD_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SHARD_HEADER_BYTES = 128,
    SHARD_VERSION = 1,
    SHARD_NAME_MAX = 32,    /* of a file name without its folder */
    SHARD_COUNT_MAX = 99999 /* shards of a split */
};

struct shard_header {
    int32_t width;  /* bytes of one id */
    bool bytes;     /* ids are bytes of text */
    int64_t index;  /* of this shard */
    int64_t count;  /* shards of the split */
    int64_t tokens; /* in this shard */
    int64_t first;  /* tokens of the split before this shard */
    int64_t split_tokens;
    int64_t vocab_size;
    uint64_t vocab_hash;
    int64_t text_bytes;
    int64_t words;
    uint64_t payload_hash;
    int64_t sequence, recall; /* of records; 0 in a text */
};

/* Bytes of one id for a vocabulary of this size. */
int32_t shard_width(int64_t vocab_size);

void shard_header_encode(const struct shard_header *h, unsigned char out[SHARD_HEADER_BYTES]);

/* STATUS_DATA, with `path` and the remedy, if the bytes are not a header this program can use. */
enum status shard_header_decode(struct shard_header *h, const unsigned char in[SHARD_HEADER_BYTES],
                                const char *path, struct error *err);

/* "SPLIT-00012.bin" */
void shard_name(char out[SHARD_NAME_MAX], const char *split, int64_t index);

/* Whether `name` (without folder) is vocab.txt, a shard's name or a left-over temporary file of
 * one of them: what a tokenisation may replace or remove. */
bool shard_owns_name(const char *name);

/* --- Writing a split ------------------------------------------------------------------------ */

struct shard_writer;

/* Starts the split `split` in folder `dir`: shards of at most `shard_tokens` tokens for a
 * vocabulary of that size and hash. Nothing has its final name before shard_writer_commit. */
enum status shard_writer_open(struct shard_writer **out, const char *dir, const char *split,
                              int64_t shard_tokens, int64_t vocab_size, uint64_t vocab_hash,
                              bool bytes, struct error *err);

/* Makes it a split of records, before anything is appended: S = sequence inputs and S targets each,
 * of which the last `recall` are what the task is about. */
void shard_writer_records(struct shard_writer *w, int64_t sequence, int64_t recall);

/* Appends `count` ids as stored: shard_width(vocab_size) bytes each. */
enum status shard_writer_append(struct shard_writer *w, const void *ids, int64_t count,
                                struct error *err);

/* Completes all headers and forces all files to disk, still under temporary names. */
enum status shard_writer_finish(struct shard_writer *w, int64_t text_bytes, int64_t words,
                                struct error *err);

/* Gives all files their final names, after shard_writer_finish. If one cannot have its name, the
 * files renamed before keep theirs (shard_writer_remove takes them away). */
enum status shard_writer_commit(struct shard_writer *w, struct error *err);

/* After a failed shard_writer_commit: removes what has the final name of one of the shards. */
void shard_writer_remove(struct shard_writer *w);

/* Removes what has no final name yet and frees; NULL is allowed. */
void shard_writer_close(struct shard_writer *w);

int64_t shard_writer_tokens(const struct shard_writer *w);
int64_t shard_writer_shards(const struct shard_writer *w);

/* --- Reading a split ------------------------------------------------------------------------ */

struct shard_set;

/* Opens all shards of a split and checks their headers, their sizes and that they belong together.
 * Holds one descriptor a shard, so the split stays the same even if it is replaced on disk, and no
 * ids in memory. STATUS_NOINPUT if shards are missing, STATUS_IO if one cannot be opened,
 * STATUS_DATA if they are not usable. */
enum status shard_set_open(struct shard_set **out, const char *dir, const char *split,
                           struct error *err);
void shard_set_close(struct shard_set *s);

/* Reads all ids once, through `buffer` of `size` bytes (a multiple of 4), and compares checksums
 * and the range of ids. STATUS_DATA names the damaged file. Cost: one pass over the files at the
 * speed of the disk, or about 3 GB/s once they are in the page cache. */
enum status shard_set_verify(const struct shard_set *s, void *buffer, size_t size,
                             struct error *err);

/* Reads ids [first, first + count) of the split into `out`, through `buffer` of `size` bytes;
 * across shards where needed. Each id is checked against the vocabulary size. Safe to call from
 * several threads with buffers of their own. */
enum status shard_set_read(const struct shard_set *s, int64_t first, int64_t count, int32_t *out,
                           void *buffer, size_t size, struct error *err);

/* The header of the first shard (split totals, vocabulary). */
const struct shard_header *shard_set_header(const struct shard_set *s);

/* Bytes of memory the object holds. */
size_t shard_set_memory(const struct shard_set *s);

#endif
