/* Optimizers over a model's flat parameter arrays, with clipping by the global norm of the
 * gradient.
 *
 * An optimizer is a file of this folder that defines a struct optimizer_kind, and a line of
 * OPTIMIZER_LIST in config/config.h that gives it its name. */
#ifndef DEQ_OPTIMIZER_OPTIMIZER_H
#define DEQ_OPTIMIZER_OPTIMIZER_H

#include "config/config.h"
#include "dist/dist.h"
#include "nn/params.h"

enum { OPTIMIZER_MAX_STATES = 4 };

/* One piece of the flat arrays to update. All tensors are views of `count` numbers. */
struct optimizer_piece {
    struct tensor w, g;                        /* parameters and their gradients, not clipped yet */
    struct tensor state[OPTIMIZER_MAX_STATES]; /* as many as the kind has */
    struct tensor decays; /* U8 [count / ADAM_BLOCK, rounded up]; data NULL means no weight decay */
};

struct optimizer;

struct optimizer_kind {
    int states; /* numbers kept for each parameter, all 0 before the first update */
    /* Checkpoints hold state i of a parameter as the section "NAME:parameter". */
    const char *state_name[OPTIMIZER_MAX_STATES];
    bool coupled_decay; /* weight decay is a term of the gradient (L2), not of the update */
    /* Updates one piece at learning rate `lr`. o->norm2 holds the squared global norm of the
     * gradient. If it is not finite nothing may change. Must not read back from the device. */
    void (*update)(const struct optimizer *o, const struct optimizer_piece *piece, double lr);
};

#define X(NAME, name) extern const struct optimizer_kind optimizer_##name;
OPTIMIZER_LIST(X)
#undef X

/* The kind that train.optimizer names. */
const struct optimizer_kind *optimizer_kind_of(const struct config_train *train);

/* With several ranks each rank computes the squared norm of the parts of the gradient that it owns
 * (dist/dist.h). Both modes below give the same bits and send the same amount.
 *  plain    Every rank holds all states, gathers the whole gradient and updates all weights.
 *  sharded  Every rank holds the states of its own parts and updates these. The weights are then
 *           gathered (ZeRO stage 1, Rajbhandari et al. 2020). */
struct optimizer {
    const struct optimizer_kind *kind; /* borrows */
    struct config_train train;
    struct params *params; /* borrows */
    struct dist *dist;     /* borrows; NULL means one rank */
    bool sharded;
    struct workspace *ws;                      /* owns the tensors that follow */
    struct tensor state[OPTIMIZER_MAX_STATES]; /* [total] or, sharded, of the own parts */
    struct tensor average; /* [total] running mean of the weights on every rank, with train.ema */
    struct tensor norm2;   /* F64 [1], squared norm of the gradient */
    struct tensor decays;  /* U8 [total / ADAM_BLOCK]; data NULL means no weight decay */
    double *norms;         /* owns [ranks] squared norms of the ranks' own parts */
    int64_t updates;       /* done so far, skipped ones not counted */
};

/* Makes an optimizer of the kind that `train` names. It is sharded if train.zero is set and there
 * are several ranks. STATUS_NOMEM, STATUS_DEVICE. Call optimizer_free in any case. */
enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct dist *dist,
                             struct error *err);
/* The same for a kind that need not be in the list. */
enum status optimizer_create_kind(struct optimizer *o, const struct optimizer_kind *kind,
                                  struct params *params, const struct config_train *train,
                                  struct dist *dist, struct error *err);
/* A zeroed optimizer is allowed. */
void optimizer_free(struct optimizer *o);

/* Makes the average, if there is one, that of the weights as they are now. Called once they have
 * been set. */
void optimizer_begin_average(struct optimizer *o);

/* Piece number `index` of the flat arrays that this rank updates, and where its states begin in
 * o->state. False beyond the last piece. */
bool optimizer_part(const struct optimizer *o, int64_t index, struct dist_part *part, int64_t *at);

/* Collective. Makes one update with the gradients in params->g, where the parts that a rank owns
 * are sums over the ranks. *norm receives their global norm before clipping. If it is not finite no
 * weight changes and the update does not count. The average follows the weights, from which it
 * begins: its decay is at most n / (n + 9) after n updates.
 *
 * Calls one operation for the norm and one for the update on every piece of the flat arrays. Reads
 * back from the device once, at the end. With several ranks, or with coupled decay of aliased
 * parameters, it also does so after the norm. */
void optimizer_step(struct optimizer *o, double lr, double *norm);

#endif
