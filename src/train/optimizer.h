/* Adam and AdamW over a model's flat parameter arrays, with clipping by the global norm. */
#ifndef DEQ_TRAIN_OPTIMIZER_H
#define DEQ_TRAIN_OPTIMIZER_H

#include "model/config.h"
#include "model/params.h"

struct optimizer {
    struct params *params; /* borrows */
    struct tensor m, v;    /* owns: [total] first and second moments */
    struct tensor norm2;   /* owns: F64 [1] */
    bool decoupled_decay;  /* AdamW */
    double beta1, beta2, eps, decay, clip;
    int64_t updates; /* done so far: bias correction */
};

enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct error *err);
void optimizer_free(struct optimizer *o);

/* One update with the gradients in params->g. *norm receives their global norm before clipping; if
 * it is not finite nothing is changed and the update does not count. Synchronises once. */
void optimizer_step(struct optimizer *o, double lr, double *norm);

#endif
