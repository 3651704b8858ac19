/* Text to shards: counts the words of the training text, chooses the vocabulary, and encodes the
 * texts of all splits. Memory: the distinct words (once for each thread while counting) and about
 * 6 bytes per byte of block for each thread, whatever the size of the texts.
 *
 * Word level, as in WikiText: words are separated by ASCII white space (space, \t \n \v \f \r; no
 * other character separates), and every line, the empty one too, ends with <eos>; so does a last
 * line without a newline. Byte level: every byte is a token, nothing is added; words are counted,
 * as what white space separates.
 */
#ifndef DEQ_DATA_TOKENIZE_H
#define DEQ_DATA_TOKENIZE_H

#include "base/status.h"
#include "data/text_blocks.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLITS };

enum tokenize_unk { TOKENIZE_UNK_AUTO, TOKENIZE_UNK_MAP, TOKENIZE_UNK_ERROR };

struct tokenize_config {
    const char *text[SPLITS];   /* files; NULL: no such split. SPLIT_TRAIN is needed */
    const char *out;            /* folder; made if missing, with the folders above it */
    bool bytes;                 /* byte level */
    bool lower;                 /* turn A..Z to a..z before all else */
    int64_t min_count;          /* rarer words become <unk>; 0 or 1: none */
    int64_t max_vocab;          /* largest vocabulary; 0: no limit, else at least 2 */
    const char *vocab;          /* file to use instead of counting; NULL: count */
    enum tokenize_unk unk;      /* words outside the vocabulary; AUTO: MAP if it has <unk> */
    int64_t shard_tokens;       /* 0: TOKENIZE_SHARD_TOKENS */
    bool force;                 /* replace vocab.txt and shards in a folder that is not empty */
    int threads;                /* 0: one for each processor, at most TOKENIZE_THREADS_MAX */
    size_t block_bytes;         /* 0: TOKENIZE_BLOCK_BYTES; also the length limit of a word */
    text_progress_fn *progress; /* may be NULL */
    void *progress_context;
};

enum { TOKENIZE_SHARD_TOKENS = 1 << 24, TOKENIZE_BLOCK_BYTES = 1 << 20, TOKENIZE_THREADS_MAX = 16 };

struct tokenize_result {
    int64_t vocab;           /* size */
    int64_t tokens[SPLITS];  /* 0 for a split not given */
    int64_t unknown[SPLITS]; /* tokens that became <unk> though they are another word */
    int64_t bytes;           /* of all texts */
    int64_t shards;          /* files of all splits */
};

/* Does all of it. On success DIR holds vocab.txt and the shards (shard.h), and no older ones; on
 * failure no file has been given a final name, save that a failure to rename (STATUS_CANTCREATE)
 * can leave a replaced folder without vocab.txt, which says that it is incomplete.
 *   - STATUS_NOINPUT: a text or the vocabulary cannot be opened
 *   - STATUS_DATA: an empty text, NUL or invalid UTF-8, a word outside the vocabulary where that is
 *     an error; with file, line and word
 *   - STATUS_CANTCREATE: the folder is not empty and `force` not set, or cannot be made or written
 *   - STATUS_IO: reading or writing failed, or the text changed between the two passes */
enum status tokenize_run(const struct tokenize_config *c, struct tokenize_result *result,
                         struct error *err);

/* The name of a split: "train", "valid", "test". */
const char *split_name(int split);

#endif
