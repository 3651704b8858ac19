/* What training and evaluation read: a split as B contiguous streams, cut into segments.
 *
 * A split of N tokens gives n_step = N div B tokens to each stream: stream b is tokens
 * [b * n_step, (b + 1) * n_step); the last N - B * n_step tokens are not used. Segment k of an
 * epoch is positions i = k * L of every stream: inputs [i, i + L), and as targets the positions
 * one further. The last segment is shorter: min(L, n_step - 1 - i). The order is the same in every
 * epoch, and every position but the first of each stream is a target exactly once.
 *
 * A split of records (a task such as copy memory, see shard.h) is read record by record instead: a
 * segment is one whole record of each stream, with its own targets and nothing before it. The N
 * records are shared out likewise, N div B to a stream.
 *
 * Shards are never read whole. A background thread reads the next segments of all streams into one
 * of two buffers while the other is used up. Memory: see stream_memory.
 *
 * Opening checks the whole split once: headers, sizes, vocabulary (DIR/vocab.txt), checksums and
 * the range of ids, one pass over the files through a buffer of 256 KiB: the time the disk takes,
 * or about 0.35 s per GB once they are in the page cache. Ids are checked again when they are read.
 *
 * Calls on one stream are made from one thread at a time.
 */
#ifndef DEQ_DATA_STREAM_H
#define DEQ_DATA_STREAM_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a batch that several processes share, only what one of them reads: the batch is cut into
 * `groups` equal parts, each of them into `shares`, and share number `share` of each part is
 * returned, part after part: B / shares streams. All zero: the whole batch. */
struct stream_share {
    int64_t groups, shares, share;
};

struct stream_config {
    const char *dir;       /* a folder made by deq tokenize */
    const char *split;     /* "train", "valid" or "test" */
    int64_t batch;         /* B >= 1, of the whole */
    int64_t length;        /* L >= 1 */
    int64_t buffer_tokens; /* of both read-ahead buffers together; 0: STREAM_BUFFER_TOKENS. Raised
                              to what one segment in each needs, 2 * B * (L + 1) */
    struct stream_share share;
};

enum { STREAM_BUFFER_TOKENS = 1 << 20 };

struct batch {
    int64_t B, L;                  /* B: streams read here; L: of this segment */
    const int32_t *input, *target; /* [B][L]; valid until the next call */
    int64_t epoch, segment;        /* both from 0 */
    bool first; /* first segment of an epoch, or a record: memory must be reset */
};

struct stream;

/* STATUS_NOINPUT for missing files; STATUS_IO for those that are there but cannot be opened or
 * read; STATUS_DATA, naming the file and the remedy, for damaged, foreign or inconsistent ones, for
 * another vocabulary than DIR/vocab.txt, and for a split too short for B streams (the message says
 * the largest possible B); STATUS_CONFIG for a batch or length below 1, or a batch that cannot be
 * shared so. *out is owned by the caller. */
enum status stream_open(struct stream **out, const struct stream_config *c, struct error *err);

/* The next segment. After an error every further call gives the same error, until a
 * stream_seek. */
enum status stream_next(struct stream *s, struct batch *out, struct error *err);

/* Makes the next stream_next return this segment. STATUS_DATA if the epoch has no such segment
 * (the folder or the batch has changed since the position was saved). */
enum status stream_seek(struct stream *s, int64_t epoch, int64_t segment, struct error *err);

int64_t stream_tokens(const struct stream *s);           /* of the split; of records, the targets */
int64_t stream_segments(const struct stream *s);         /* in an epoch */
int64_t stream_tokens_per_epoch(const struct stream *s); /* targets: B * (n_step - 1) */
uint64_t stream_vocab_hash(const struct stream *s);
int64_t stream_text_bytes(const struct stream *s); /* of the text of the split */
int64_t stream_words(const struct stream *s);      /* of that text, <eos> is none; 0: not known */
bool stream_is_bytes(const struct stream *s);      /* tokens are bytes, not words */

int64_t stream_recall(const struct stream *s); /* positions at the end of every segment that
                                                  the task is about; 0: a text */

/* Bytes the stream holds from stream_open on, its thread's stack aside: at most
 * 4 * max(buffer_tokens, 2 * B * (L + 1)) + 8 * B * L + 256 KiB + 128 bytes a shard + 4 KiB
 * (of records 2 * L in place of L + 1).
 * (While opening, the vocabulary is held in addition, to check it.) */
size_t stream_memory(const struct stream *s);

void stream_close(struct stream *s);

#endif
