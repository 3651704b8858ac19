/* Scoring one text of any length, each token in the context of what comes before it. */
#ifndef DEQ_SCORE_RUNNING_TEXT_H
#define DEQ_SCORE_RUNNING_TEXT_H

#include "data/text_reader.h"
#include "score/tally.h"

struct running_text {
    const struct vocab *vocab; /* borrows that of the reader */
    /* Called now and then with the sums so far. Returns false to stop. May be NULL. */
    bool (*progress)(void *ctx, const struct score_tally *sums);
    void *ctx; /* borrows, for `progress` */
};

/* Scores what is left of a text, in bounded memory. Its first token is predicted from a line's
 * beginning, or is context alone if the vocabulary has no token for that. Returns STATUS_STOPPED if
 * `progress` returned false, and the statuses of text_reader_next and score_texts. */
enum status score_running_text(struct scorer *s, struct text_reader *reader,
                               const struct running_text *how, struct score_tally *sums,
                               struct error *err);

#endif
