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
#include "optimizer/newton_schulz.h"

enum { OPTIMIZER_MAX_STATES = 4 };

/* One piece of the flat arrays to update. All tensors are views of `count` numbers. */
struct optimizer_piece {
    struct tensor w, g;                        /* parameters and their gradients, not clipped yet */
    struct tensor state[OPTIMIZER_MAX_STATES]; /* as many as the kind has */
    struct tensor groups; /* U8 [count / ADAM_BLOCK, rounded up]; data NULL: all are of group 0 */
};

/* Groups of parameters that have rates of their own. */
enum optimizer_group {
    GROUP_VECTORS,   /* biases, gains: without weight decay */
    GROUP_EMBEDDING, /* tables and their projections */
    GROUP_MATRICES,  /* of blocks (struct param) */
    GROUP_OTHERS     /* matrices of the output layer, of a learned start, and the like */
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
    /* What follows is for a kind that updates each matrix of a block as a whole. `update` then gets
     * none of these. `prepare` gets pieces of them, which have the first `matrix_states` states
     * only, and leaves in g what `update_matrices` wants to find there on every rank. The rules of
     * `update` hold for all. */
    int matrix_states;
    void (*prepare)(const struct optimizer *o, const struct optimizer_piece *piece);
    void (*update_matrices)(const struct optimizer *o, double lr);
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
 *           gathered (ZeRO stage 1, Rajbhandari et al. 2020).
 * For a kind with update_matrices, the sharded mode gathers what `prepare` has left in the
 * gradients of matrices. Every rank then computes the update of every matrix, whose weights need
 * not travel.
 */
struct optimizer {
    const struct optimizer_kind *kind; /* borrows */
    struct config_train train;
    struct params *params; /* borrows */
    struct dist *dist;     /* borrows; NULL means one rank */
    bool sharded;
    struct workspace *ws; /* owns the tensors that follow */
    /* [optimizer_state_end] or, sharded, of the own parts. */
    struct tensor state[OPTIMIZER_MAX_STATES];
    struct tensor average; /* [total] running mean of the weights on every rank, with train.ema */
    struct tensor norm2;   /* F64 [1], squared norm of the gradient */
    struct tensor groups;  /* U8 [total / ADAM_BLOCK]; data NULL: all are of group 0 */
    struct adam_group group[ADAM_GROUPS]; /* its lr is a factor of that of a step */
    struct newton_schulz newton_schulz;   /* with update_matrices */
    double *norms;                        /* owns [ranks] squared norms of the ranks' own parts */
    int64_t updates;                      /* done so far, skipped ones not counted */
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

/* Where state i of a kind ends in the flat arrays. Parameters from there on do not have it. */
int64_t optimizer_state_end(const struct optimizer_kind *kind, const struct params *params, int i);

/* Piece number `index` of the flat arrays that this rank updates, cut off at `end`, and where its
 * states begin in o->state. It may be empty. False beyond the last piece. */
bool optimizer_part(const struct optimizer *o, int64_t index, int64_t end, struct dist_part *part,
                    int64_t *at);

/* Collective. Makes one update with the gradients in params->g, where the parts that a rank owns
 * are sums over the ranks. *norm receives their global norm before clipping. If it is not finite no
 * weight changes and the update does not count. The average follows the weights, from which it
 * begins: its decay is at most n / (n + 9) after n updates. A kind with update_matrices leaves in
 * params->g what it has made of the gradients.
 *
 * Calls one operation for the norm and one for the update on every piece of the flat arrays, and
 * what update_matrices calls. Reads back from the device once, at the end. With several ranks, or
 * with coupled decay of aliased parameters, it also does so after the norm. */
void optimizer_step(struct optimizer *o, double lr, double *norm);

#endif
