/* Turns text into shards. It counts the words of the training text, chooses the vocabulary and
 * encodes the texts of all splits. The memory is that of the distinct words (once for each thread
 * while counting) and about 6 bytes per byte of block for each thread, whatever the size of the
 * texts.
 *
 * At word level a text is divided by one of the rules of pieces.h: as in WikiText at white space
 * alone, or at punctuation too. Every line ends with <eos>, also an empty one and a last one
 * without a newline. At byte level every byte is a token and nothing is added. Words are counted
 * there too, for perplexity per word.
 *
 * Subwords are those of a model (subwords.h) that is given, or trained on a sample of the training
 * text (subword_train.h) of SUBWORD_SAMPLE_BYTES.
 */
#ifndef DEQ_DATA_TOKENIZE_H
#define DEQ_DATA_TOKENIZE_H

#include "base/status.h"
#include "data/text_blocks.h"
#include "data/text_gather.h"
#include "data/text_look.h"
#include "data/text_share.h"
#include "data/vocab.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLITS };

/* Whether words outside the vocabulary become <unk> or are refused. MAP adds <unk> to a vocabulary
 * that is counted. AUTO maps if the vocabulary has <unk> anyway. It is MAP where no <unk> of the
 * text's own is to be expected, with TEXT_SPLIT_PUNCTUATION and with shares. */
enum tokenize_unk { TOKENIZE_UNK_AUTO, TOKENIZE_UNK_MAP, TOKENIZE_UNK_ERROR };

/* How words are divided (pieces.h), unless a vocabulary says it. AUTO looks at the training text.
 */
enum tokenize_split { TOKENIZE_SPLIT_AUTO, TOKENIZE_SPLIT_BLANKS, TOKENIZE_SPLIT_PUNCTUATION };

struct tokenize_config {
    struct text_files text[SPLITS]; /* of count 0 for no such split, but SPLIT_TRAIN is needed */
    /* Shares of the training text that become SPLIT_VALID and SPLIT_TEST, which then have no files
     * (text_share.h), 0 for none, and the seed of their choice, and of the sample that subwords are
     * trained on. */
    double share[SPLITS];
    uint64_t seed;
    const char *out;           /* folder, made if missing, with the folders above it */
    bool bytes;                /* byte level */
    enum tokenize_split split; /* of words */
    bool lower;                /* turn A..Z to a..z before all else */
    /* Rarer words become <unk>. 0 chooses, which is 1 with TEXT_SPLIT_BLANKS, and
     * VOCAB_MIN_COUNT_AUTO (word_count.h) otherwise. */
    int64_t min_count;
    int64_t max_vocab; /* largest vocabulary, at least 2, or 0 for no limit */
    const char *vocab; /* file to use instead of counting, or NULL to count */
    /* Loads that file, or NULL for vocab_load. */
    enum status (*load_vocab)(struct vocab **out, const char *path, struct error *err);
    int64_t subwords;           /* pieces of a model to train, or 0 */
    const char *model_type;     /* of it, "unigram" or "bpe" */
    const char *tokenizer;      /* a .model file to use, or NULL */
    enum tokenize_unk unk;      /* what to do with words outside the vocabulary */
    int64_t shard_tokens;       /* 0 for TOKENIZE_SHARD_TOKENS */
    bool force;                 /* replace vocab.txt and shards in a folder that is not empty */
    int threads;                /* 0 for one for each processor, at most TOKENIZE_THREADS_MAX */
    size_t block_bytes;         /* 0 for TOKENIZE_BLOCK_BYTES, also the length limit of a word */
    text_progress_fn *progress; /* may be NULL */
    void *progress_context;
};

enum { TOKENIZE_SHARD_TOKENS = 1 << 24, TOKENIZE_BLOCK_BYTES = 1 << 20, TOKENIZE_THREADS_MAX = 16 };

struct tokenize_result {
    int64_t vocab;         /* size */
    struct text_rule rule; /* by which texts were divided */
    bool looked;           /* TOKENIZE_SPLIT_AUTO chose, for the reason `look` */
    enum text_look look;
    int64_t min_count;           /* that held, 0 for a vocabulary that was not counted */
    struct text_drawn drawn;     /* what the shares took, all 0 without shares */
    int64_t tokens[SPLITS];      /* 0 for a split not given */
    int64_t unknown[SPLITS];     /* tokens that became <unk> though they are another word */
    int64_t bytes;               /* of all texts */
    int64_t split_bytes[SPLITS]; /* bytes of each text */
    /* Of subwords. */
    bool lossy;               /* not every text comes back as it was */
    int64_t fallback[SPLITS]; /* tokens that are a byte of a character beyond ASCII */
    int64_t sampled;          /* bytes that they were trained on, 0 if they were not */
    int64_t shards;           /* files of all splits */
};

/* Tokenises all texts. Texts that cannot be read as they are, and shares, go through spools in the
 * folder, which take as much space as the texts (text_source.h). On success the folder holds
 * vocab.txt and the shards (shard.h), and no older ones. On failure the folder is as it was before.
 * Returns
 *   - STATUS_NOINPUT if a text or the vocabulary cannot be opened
 *   - STATUS_DATA if a compressed text is damaged, or a text is too short for its shares
 *   - STATUS_DATA, with file, line and word, for an empty text, NUL or invalid UTF-8, a word
 * outside the vocabulary where that is refused, and an unusable vocabulary or tokenizer
 *   - STATUS_DEVICE for subwords in a program without SentencePiece
 *   - STATUS_CANTCREATE if the folder is not empty and `force` not set, or cannot be made or
 * written
 *   - STATUS_IO if reading or writing failed or the text changed between the two passes
 *   - STATUS_NOMEM */
enum status tokenize_run(const struct tokenize_config *c, struct tokenize_result *result,
                         struct error *err);

/* The name of a split ("train", "valid" or "test"). */
const char *split_name(int split);

#endif
