/* A text in which every token has its surprise and the evaluations of f that it took to settle. */
#ifndef DEQ_REPORT_SHADING_H
#define DEQ_REPORT_SHADING_H

#include "base/json.h"
#include "data/shard.h"
#include "data/vocab.h"
#include "score/tally.h"
#include "store/snapshot.h"

struct shading {
    /* Set by the caller: a position has settled at this relative residual, or after max_iter
     * evaluations. All else is zero at first. */
    double tol;
    int64_t max_iter;
    const struct vocab *vocab; /* borrows */
    char name[512];            /* where the text is from */
    /* The first id is context where the vocabulary has a token for a line's beginning, or else the
     * first token of the text, which is not scored. */
    int32_t *id;               /* owns [count + 1] */
    size_t *end;               /* owns [count], where the bytes of each scored token end */
    bool *unknown;             /* owns [count] */
    struct score_token *score; /* owns [count] */
    int64_t count;
    bool context;
    char *bytes; /* owns, the text of the tokens */
    size_t size, room;
    struct score_tally tally;
    int64_t unconverged;
    bool solved; /* by an equilibrium, not by layers */
};

/* Each of the two takes the first `most` tokens of a text into an empty *s. The caller frees it
 * with shading_free, also after an error. */

/* Of the validation data in a folder of tokens, whose split the source names. STATUS_NOINPUT if the
 * folder is not there. STATUS_DATA if it is of another vocabulary, or no text. What shard_set_open
 * and shard_set_read return. */
enum status shading_take_split(struct shading *s, const struct vocab *vocab,
                               const struct shard_source *source, int64_t most, struct error *err);
/* Of a file. Returns the statuses of text_reader_open and text_reader_next. */
enum status shading_take_file(struct shading *s, const struct vocab *vocab, const char *path,
                              int64_t most, struct error *err);
void shading_free(struct shading *s);

/* Scores the text. STATUS_DATA for a text of no token, and the statuses of score_texts and
 * snapshot_read_params. */
enum status shading_score(struct shading *s, struct backend *be, struct snapshot *from,
                          struct error *err);

/* Writes the object `key`. Its pieces are whole characters. Where a token is a part of one, a piece
 * is made of several tokens. Bytes that are no text are spelled as <0xNN>. STATUS_NOMEM. */
enum status shading_write(const struct shading *s, struct json_writer *w, const char *key,
                          struct error *err);

/* Whether text[len] is the beginning of a character of UTF-8 that is not there yet. */
bool shading_is_open(const char *text, size_t len);
/* Spells text[len] for a page, so that bytes which are no text stand as <0xNN>. The caller frees
 * *out with mem_free. STATUS_NOMEM. */
enum status shading_spell(const char *text, size_t len, char **out, struct error *err);

#endif
