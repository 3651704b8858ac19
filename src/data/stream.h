/* Batches for training and evaluation. A split is read as B contiguous streams, cut into segments.
 *
 * In a split of N tokens each stream has n_step = N div B tokens. Stream b is tokens
 * [b * n_step, (b + 1) * n_step), and the last N - B * n_step tokens are not used. Segment k of an
 * epoch begins at position i = k * L of every stream. Its inputs are [i, i + L) and its targets are
 * the positions one further. The last segment is shorter, with min(L, n_step - 1 - i) inputs. The
 * order is the same in every epoch, and every position but the first of each stream is a target
 * exactly once.
 *
 * A split of records (see shard.h) is read record by record instead. A segment is one whole record
 * of each stream, with its own targets and nothing before it. Of N records, each stream has N div
 * B.
 *
 * Shards are never read whole. A background thread reads the next segments of all streams into one
 * of two buffers while the other is used up. stream_memory gives the memory this takes.
 *
 * Opening checks the whole split once (headers, sizes, DIR/vocab.txt, checksums, range of ids) in
 * one pass over the files through a buffer of 256 KiB. This takes the time of the disk, or about
 * 0.35 s per GB once the files are in the page cache. Ids are checked again when they are read.
 *
 * Calls on one stream are made from one thread at a time.
 */
#ifndef DEQ_DATA_STREAM_H
#define DEQ_DATA_STREAM_H

#include "base/status.h"
#include "data/token_file.h"
#include "data/vocab.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The part of a batch that one of several ranks reads. The batch is cut into `groups` equal parts
 * and each of them into `ranks` slices. The rank reads slice `rank` of each part, part after part,
 * which is B / ranks streams. All zero stands for the whole batch. */
struct stream_partition {
    int64_t groups, ranks, rank;
};

struct stream_config {
    const char *dir;   /* a folder made by deq tokenize, or of token files of other programs */
    const char *split; /* "train", "valid" or "test" */
    enum token_format format;  /* of token files of other programs */
    const struct vocab *vocab; /* borrows, during stream_open: that of such files. NULL takes the
                                  folder's vocab.txt. Shards are always compared with the latter. */
    int64_t batch;             /* B of all ranks together, at least 1 */
    int64_t length;            /* L, at least 1 */
    int64_t buffer_tokens; /* of both read-ahead buffers together, or 0 for STREAM_BUFFER_TOKENS. It
                              is raised to what one segment in each needs, 2 * B * (L + 1). */
    struct stream_partition partition;
};

enum { STREAM_BUFFER_TOKENS = 1 << 20 };

struct batch {
    int64_t B, L;                  /* streams read here, and the length of this segment */
    const int32_t *input, *target; /* [B][L], valid until the next call */
    int64_t epoch, segment;        /* both from 0 */
    bool first; /* the segment begins an epoch or is a record, so memory must be reset */
};

struct stream;

/* Opens a split and starts reading. The caller frees *out with stream_close. *out is NULL on error.
 * Returns
 *   - STATUS_NOINPUT for missing files
 *   - STATUS_IO for files that exist but cannot be opened or read, and if no thread can be started
 *   - STATUS_DATA, naming the file and the remedy, for damaged, foreign or inconsistent files, for
 *     another vocabulary than DIR/vocab.txt, and for a split too short for B streams, with the
 *     largest possible B
 *   - STATUS_CONFIG for token files of another program whose vocabulary is not known, for a batch
 * or length below 1, for a batch that cannot be partitioned so, and for a length below that of a
 * record
 *   - STATUS_NOMEM */
enum status stream_open(struct stream **out, const struct stream_config *c, struct error *err);

/* The next segment. Returns STATUS_DATA or STATUS_IO if reading failed. Every further call then
 * gives the same error, until a stream_seek. */
enum status stream_next(struct stream *s, struct batch *out, struct error *err);

/* Makes the next stream_next return this segment. Returns STATUS_DATA if the epoch has no such
 * segment, because the folder or the batch has changed since the position was saved. */
enum status stream_seek(struct stream *s, int64_t epoch, int64_t segment, struct error *err);

/* Tokens of the split, or in a split of records its targets. */
int64_t stream_tokens(const struct stream *s);
/* The share of <unk> among the tokens of the split. */
double stream_unknown(const struct stream *s);
/* Segments of an epoch. */
int64_t stream_segments(const struct stream *s);
/* Targets of an epoch for all ranks together, B * (n_step - 1) in a text. */
int64_t stream_tokens_per_epoch(const struct stream *s);
/* Targets of a full segment for all ranks together, B * L. */
int64_t stream_tokens_per_segment(const struct stream *s);
uint64_t stream_vocab_hash(const struct stream *s);
/* A hash of the split's tokens, which is another one for another text. */
uint64_t stream_digest(const struct stream *s);
/* Bytes of the text of the split, or 0 if they are not known. */
int64_t stream_text_bytes(const struct stream *s);
/* Words of the text of the split, without <eos>, or 0 if they were not counted. */
int64_t stream_words(const struct stream *s);
/* Whether tokens are bytes and not words. */
bool stream_is_bytes(const struct stream *s);
/* Positions at the end of every segment that the task is about, or 0 in a text. */
int64_t stream_recall(const struct stream *s);

/* Bytes the stream holds from stream_open on, without the stack of its thread. They are at most
 * 4 * max(buffer_tokens, 2 * B * (L + 1)) + 8 * B * L + 256 KiB + 128 bytes a shard + 4 KiB,
 * with 2 * L in place of L + 1 for records. While it opens, the vocabulary is held in addition. */
size_t stream_memory(const struct stream *s);

/* NULL is allowed. */
void stream_close(struct stream *s);

#endif
