/* Log-probabilities of every token of texts, many texts at a time.
 *
 * A token sees the tokens before it in its text, as many as the last position of an evaluated
 * segment does, which is eval.mem_len + eval.tgt_len with the newest one. That is what deq sample
 * sees. Texts are solved some positions at a time, with memory, and each position until its own
 * residual has reached the tolerance. What a text gets therefore depends neither on the texts
 * beside it nor on how many positions were solved at once, but for the tolerance and for rounding.
 *
 *   score_prepare ; scorer_create ; parameters into scorer->params ;
 *   score_texts (any number) or score_begin, score_segment (any number) ; scorer_free */
#ifndef DEQ_SCORE_SCORER_H
#define DEQ_SCORE_SCORER_H

#include "deq/model.h"

/* The relative residual at which a position has converged, and the most evaluations for it. */
#define SCORE_TOL 1e-6
enum { SCORE_MAX_ITER = 500 };

/* How a checkpoint's texts are scored. */
struct score_plan {
    struct config config; /* resolved, with the solver and the window of score_prepare */
    int64_t window;       /* tokens that a token's prediction sees, or 0 for all before it */
    /* Results do not depend on how many positions are solved at once. */
    bool invariant;
    bool other_scope; /* the configured scope mixes positions, and prefix takes its place */
    int64_t batch;    /* texts side by side, or 0 for as many as pay */
    int64_t length;   /* positions of a text solved at once, or 0 for as many as pay */
    int64_t unk;      /* the token that greedy decoding leaves out, or -1 */
    bool ranks;       /* rank and greedy are wanted, which costs the logits of all tokens */
};

/* What became of one token. */
struct score_token {
    double logp;     /* natural logarithm of its probability */
    double residual; /* of its position's solve, NaN where nothing is solved */
    int32_t evals;   /* evaluations of f until the position had converged */
    int32_t rank;    /* 1 for the most probable token; with plan.ranks */
    bool greedy;     /* no token but plan.unk is more probable, nor one of lower id as probable */
};

/* One text. token[0] is context alone, and each token behind it is scored. */
struct score_text {
    const int32_t *token;    /* borrows [count] */
    int64_t count;           /* at least 1 */
    struct score_token *out; /* borrows [count - 1] */
};

struct scorer {
    struct backend *be; /* borrows */
    struct score_plan plan;
    struct params params; /* owns */
    struct model *m;      /* owns, for the latest batch, length and memory */
    int64_t unconverged;  /* positions so far that did not reach the tolerance */
    int64_t positions;    /* so far, and the evaluations that were computed for them */
    double paid;
    /* owns, for B*L positions */
    int32_t *input, *target, *evals;
    double *nll, *residual;
    double *logp; /* owns, of all tokens for some positions, with plan.ranks */
    int64_t logp_rows;
};

/* Fills a plan from a checkpoint's configuration. Positions stop at a relative residual of `tol`,
 * or after max_iter evaluations. The other fields of the plan are 0 and false, unk is -1. */
void score_prepare(struct score_plan *plan, const struct config *config, double tol,
                   int64_t max_iter);

/* Allocates the parameters, which the caller fills and leaves as they are afterwards. The caller
 * frees *out with scorer_free. STATUS_NOMEM, STATUS_DEVICE. */
enum status scorer_create(struct scorer **out, struct backend *be, const struct score_plan *plan,
                          struct error *err);
/* Accepts NULL. */
void scorer_free(struct scorer *s);

/* Scores texts[n], in batches of like length. STATUS_NOMEM, STATUS_DEVICE. STATUS_CONFIG if the
 * limits do not fit the solver. */
enum status score_texts(struct scorer *s, const struct score_text *texts, int64_t n,
                        struct error *err);

/* Begins one text whose length need not be known. Returns the statuses of score_texts. */
enum status score_begin(struct scorer *s, struct error *err);
/* Scores the next tokens of that text. token[0] is the last one scored before, or the context, and
 * the `count` - 1 tokens behind it are scored. count is at least 2. */
enum status score_continue(struct scorer *s, const int32_t *token, int64_t count,
                           struct score_token *out, struct error *err);

#endif
