/* A text that grows token by token: how it reads, how much of it may be shown, and where it ends.
 */
#ifndef DEQ_GENERATE_SAMPLE_TEXT_H
#define DEQ_GENERATE_SAMPLE_TEXT_H

#include "data/text_decode.h"
#include "generate/stop_text.h"

struct sample_text {
    struct text_decoder decoder;
    struct stop_text stops;
    char *text; /* owns [capacity], of which `len` bytes are used */
    size_t len, capacity;
    size_t made;      /* where the prompt ends */
    size_t shown;     /* bytes that have been shown */
    bool skip_blank;  /* that comes next */
    int64_t tokens;   /* added behind the prompt */
    const char *stop; /* borrows the stop text that ended it, or NULL */
    bool ended;       /* no token will be added */
};

/* Begins an empty text. With `raw` the words of a vocabulary that is divided at blanks stay as they
 * are. Freed with sample_text_free. */
void sample_text_begin(struct sample_text *t, const struct vocab *vocab,
                       const struct stop_text *stops, bool raw);
void sample_text_free(struct sample_text *t);

/* Appends tokens of a prompt, in which no stop text is looked for, and lets the text go on behind
 * it. STATUS_NOMEM. */
enum status sample_text_add_prompt(struct sample_text *t, const int32_t *tokens, int64_t count,
                                   struct error *err);
/* Appends a token that was drawn. A stop text ends the text before itself. STATUS_NOMEM. */
enum status sample_text_add(struct sample_text *t, int32_t token, struct error *err);

/* Counts all of the text so far as shown, and a blank that comes next too. */
void sample_text_skip(struct sample_text *t);
/* What may be shown and has not been, *len bytes, which from now on have been shown. It is borrowed
 * until the text grows. */
const char *sample_text_next(struct sample_text *t, size_t *len);

#endif
