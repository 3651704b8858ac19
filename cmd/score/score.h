/* What the parts of deq score share. */
#ifndef DEQ_CMD_SCORE_SCORE_H
#define DEQ_CMD_SCORE_SCORE_H

#include "data/vocab.h"
#include "score/tally.h"

/* Bytes of a token that are printed, the rest is cut. */
enum { PIECE_TEXT_MAX = 4096 };

/* How results are printed. */
struct score_output {
    bool json, tokens, pairs;
    bool head_printed;
    const struct vocab *vocab; /* borrows */
    struct score_tally total;
    int64_t texts;  /* lines or pairs */
    int64_t greedy; /* pairs whose continuation greedy decoding would have said */
    double start;   /* clock */
};

/* Scores and prints every line of `path`. Leaves line ends out with `no_eos`. */
enum status score_lines(struct scorer *s, const char *path, bool no_eos, struct score_output *o,
                        struct error *err);
/* Scores and prints every pair of `path`. */
enum status score_pairs(struct scorer *s, const char *path, struct score_output *o,
                        struct error *err);

/* A token as it is printed. */
struct score_piece {
    const char *text; /* borrows [len] */
    size_t len;
    bool line_end, unknown;
    int64_t bytes;
};

/* Prints one line of the text, or one pair, of `count` tokens with their pieces. With `pair` not
 * NULL it says whether greedy decoding would have said it. Adds to the total. STATUS_NOMEM. */
enum status score_print(struct score_output *o, const struct score_token *tokens,
                        const struct score_piece *pieces, int64_t count, const bool *greedy,
                        struct error *err);
/* Prints the total at the end. */
enum status score_print_total(struct score_output *o, const struct scorer *s,
                              const char *checkpoint, struct error *err);

#endif
