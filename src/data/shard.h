/* Shards, which hold the token ids of a split (train, valid, test) on disk.
 *
 * A split is the files DIR/SPLIT-00000.bin, DIR/SPLIT-00001.bin, ... A file is a header of 128
 * bytes and then the ids, little endian, of 2 bytes each if the vocabulary has at most 65536 words
 * and of 4 bytes otherwise. A split is a text or, for a task such as copy memory, a list of records
 * of one length. A record is S inputs and then their S targets. All numbers of the header are
 * unsigned and little endian.
 *
 *   offset size
 *        0    8  magic "DEQSHARD"
 *        8    4  version, 1
 *       12    4  bytes of this header, 128
 *       16    4  bytes of one id, 2 or 4
 *       20    4  flags, bit 0 if ids are bytes of text, bit 1 if the split is records
 *       24    4  number of this shard, from 0
 *       28    4  number of shards of the split
 *       32    8  tokens in this shard (the file ends after them)
 *       40    8  tokens of the split before this shard
 *       48    8  tokens of the split
 *       56    8  vocabulary size
 *       64    8  vocabulary hash (vocab.h)
 *       72    8  bytes of the text of the split, for bits per byte
 *       80    8  words of the text of the split, which are what white space separates, without
 * <eos> 88    8  XXH3 (64 bits) of the ids as stored 96    8  S of records, or 0 in a text 104    8
 * positions at the end of each record that its task is about, though all are scored 112    8  zero
 *      120    8  XXH3 (64 bits) of the 120 bytes before
 */
#ifndef DEQ_DATA_SHARD_H
#define DEQ_DATA_SHARD_H

#include "base/status.h"
#include "data/token_file.h"
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
    int64_t sequence, recall; /* S and scored positions of a record, both 0 in a text */
};

/* Bytes of one id for a vocabulary of this size. */
int32_t shard_width(int64_t vocab_size);

void shard_header_encode(const struct shard_header *h, unsigned char out[SHARD_HEADER_BYTES]);

/* Returns STATUS_DATA, with `path` and the remedy in the message, if the bytes are not a header
 * that this program can use. */
enum status shard_header_decode(struct shard_header *h, const unsigned char in[SHARD_HEADER_BYTES],
                                const char *path, struct error *err);

/* Writes "SPLIT-00012.bin" to `out`. */
void shard_name(char out[SHARD_NAME_MAX], const char *split, int64_t index);

enum { SHARD_REMEDY_MAX = 600 };
/* Writes what makes the folder `dir`, as in "scripts/kjv.sh makes it". */
void shard_remedy(const char *dir, char out[SHARD_REMEDY_MAX]);

/* Whether `name` (without folder) is vocab.txt, tokenizer.model, a shard's name or a left-over
 * temporary file of one of them. These are the files that a tokenisation may replace or remove. */
bool shard_owns_name(const char *name);

/* --- Writing a split ------------------------------------------------------------------------ */

struct shard_writer;

struct shard_writer_config {
    const char *dir;      /* the folder, which must exist when the first id is appended */
    const char *split;    /* its name, as in the files' names */
    int64_t shard_tokens; /* tokens of a shard, at least 1 */
    int64_t vocab_size;   /* at least 1 */
    uint64_t vocab_hash;
    bool bytes;               /* ids are bytes of text */
    int64_t sequence, recall; /* of records, as in the header, both 0 for a text */
};

/* Starts a split. No file has its final name before shard_writer_commit. The strings are copied.
 * The caller frees *out with shard_writer_close. *out is NULL on error. Returns STATUS_NOMEM on
 * failure. */
enum status shard_writer_open(struct shard_writer **out, const struct shard_writer_config *c,
                              struct error *err);

/* Appends `count` ids of shard_width(vocab_size) bytes each. Returns STATUS_CANTCREATE if a file
 * cannot be made or the split would have too many, STATUS_IO or STATUS_NOMEM. */
enum status shard_writer_append(struct shard_writer *w, const void *ids, int64_t count,
                                struct error *err);

/* Completes all headers and forces all files to disk, still under temporary names. Returns
 * STATUS_IO, and for a split without tokens also what shard_writer_append returns. */
enum status shard_writer_finish(struct shard_writer *w, int64_t text_bytes, int64_t words,
                                struct error *err);

/* Gives all files their final names, after shard_writer_finish. If one rename fails, the files
 * renamed before keep their final names, and shard_writer_remove removes them. Returns
 * STATUS_CANTCREATE, STATUS_IO or STATUS_NOMEM. */
enum status shard_writer_commit(struct shard_writer *w, struct error *err);

/* Removes, after a failed shard_writer_commit, all files with the final name of one of the shards.
 */
void shard_writer_remove(struct shard_writer *w);

/* Removes the files without a final name and frees `w`. NULL is allowed. */
void shard_writer_close(struct shard_writer *w);

int64_t shard_writer_tokens(const struct shard_writer *w);
int64_t shard_writer_shards(const struct shard_writer *w);

/* --- Reading a split ------------------------------------------------------------------------ */

struct shard_set;

/* Scratch memory of the caller, through which ids are read. */
struct shard_buffer {
    void *data;  /* borrows, aligned for uint32_t */
    size_t size; /* bytes, a multiple of 4 and at least 4 */
};

/* Where a split is read from. */
struct shard_source {
    const char *dir, *split;  /* borrow */
    enum token_format format; /* of files of other programs */
};

/* Opens all shards of a split and checks their headers, their sizes and that they belong together.
 * If the folder has none, token files of other programs (token_file.h) are taken in their place.
 * The object holds one descriptor a file, so that the split stays the same even if it is replaced
 * on disk, and no ids. The caller frees *out with shard_set_close. *out is NULL on error. Returns
 * STATUS_NOINPUT if shards are missing, STATUS_IO if one cannot be opened or read, STATUS_DATA if
 * they are not usable, or STATUS_NOMEM. */
enum status shard_set_open(struct shard_set **out, const struct shard_source *source,
                           struct error *err);

/* Whether the files are those of another program. They do not say what their vocabulary is, nor
 * how many bytes and words their text has. Their headers then have 0 for all of that. */
bool shard_set_is_foreign(const struct shard_set *s);
/* Tells the vocabulary of such files, before their first id is read. */
void shard_set_take_vocabulary(struct shard_set *s, int64_t size, uint64_t hash);
/* NULL is allowed. */
void shard_set_close(struct shard_set *s);

/* Reads all ids once, compares checksums and the range of ids, and counts how many are `id`, which
 * may be -1. This takes one pass over the files at the speed of the disk, or at about 3 GB/s once
 * they are in the page cache. Files of another program have no checksum, and get the one that is
 * found, which shard_set_digest takes. Returns STATUS_DATA, naming the damaged file, STATUS_IO or
 * STATUS_NOMEM. */
enum status shard_set_verify(struct shard_set *s, const struct shard_buffer *buffer, int64_t id,
                             int64_t *count, struct error *err);

/* Reads ids [first, first + count) of the split into out[count], across shards where needed, and
 * checks each id against the vocabulary size. Several threads may call it with buffers of their
 * own. Returns STATUS_DATA or STATUS_IO. */
enum status shard_set_read(const struct shard_set *s, int64_t first, int64_t count, int32_t *out,
                           const struct shard_buffer *buffer, struct error *err);

/* The header of the first shard, which has the totals of the split and its vocabulary. */
const struct shard_header *shard_set_header(const struct shard_set *s);

/* A hash of the ids of the split, as they are stored in its shards. */
uint64_t shard_set_digest(const struct shard_set *s);

/* Bytes of memory the object holds. */
size_t shard_set_memory(const struct shard_set *s);

#endif
