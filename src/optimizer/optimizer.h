/* Adam and AdamW over a model's flat parameter arrays, with clipping by the global norm. */
#ifndef DEQ_OPTIMIZER_OPTIMIZER_H
#define DEQ_OPTIMIZER_OPTIMIZER_H

#include "config/config.h"
#include "dist/dist.h"
#include "nn/params.h"

/* With several ranks a rank computes the norm of its own parts of the gradient (dist/dist.h), and:
 *  plain    every rank holds all moments and updates all weights, from the whole gradient;
 *  sharded  a rank holds the moments of its own parts and updates these; then weights are shared
 *           (ZeRO stage 1, Rajbhandari et al. 2020).
 * Both give the same bits and send the same amount. */
struct optimizer {
    struct params *params; /* borrows */
    struct dist *dist;     /* borrows; NULL: one rank */
    bool sharded;
    struct workspace *ws; /* owns: the tensors that follow */
    struct tensor m, v;   /* first and second moments, [total] or, sharded, of own parts */
    struct tensor norm2;  /* F64 [1] */
    struct tensor decays; /* U8 [total / ADAM_BLOCK], see struct adam; data NULL: no decay */
    double *norms;        /* owns: [ranks] */
    bool decoupled_decay; /* AdamW */
    double beta1, beta2, eps, decay, clip;
    int64_t updates; /* done so far: bias correction */
};

/* Sharded as train.zero says, with more than one rank. STATUS_NOMEM. */
enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct dist *dist,
                             struct error *err);
void optimizer_free(struct optimizer *o);

/* The moments' places: piece number `index` of the flat arrays, [first, first + count), lies at
 * *at of m and v. False beyond the last piece. */
bool optimizer_piece(const struct optimizer *o, int64_t index, struct dist_part *piece,
                     int64_t *at);

/* All ranks. One update with the gradients in params->g, where each rank's own parts are the sums
 * over the ranks. *norm receives their global norm before clipping; if it is not finite no weight
 * is changed and the update does not count. One operation for the norm and one for the update, for
 * each piece of the flat arrays; reads back once, at the end (with several ranks, or coupled decay
 * of aliased parameters, after the norm). */
void optimizer_step(struct optimizer *o, double lr, double *norm);

#endif
