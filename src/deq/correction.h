/* Fixed-point correction (Bai, Geng, Savani, Kolter 2022): the loss is also taken at earlier
 * iterates of the solve, which teaches f to be near its fixed point after few evaluations. An
 * iterate z_k passes its gradient through f once: the output is f(z_k), z_k a constant. */
#ifndef DEQ_DEQ_CORRECTION_H
#define DEQ_DEQ_CORRECTION_H

#include "backend/backend.h"
#include "config/config.h"

struct model;

struct correction {
    bool wanted;
    int tape;              /* of the cell */
    struct config_list at; /* evaluations that lead to the iterates */
    struct tensor *states; /* owns: [at.count] of [B,L,W] */
    struct tensor h, dz;   /* owns: [B,L,W] */
    struct tensor nll;     /* owns: [B*L] */
};

/* Plans, if the model's configuration asks for it, and has the equilibrium keep the iterates. */
enum status correction_create(struct correction *c, struct model *m, int spare_tape,
                              struct error *err);
void correction_free(struct correction *c, struct model *m);

/* After model_loss with a gradient: adds the gradients of weight * mean loss of the kept iterates'
 * outputs to those of all parameters; `scale` as in model_loss. After equilibrium_gradient, before
 * the cell's end_backward. */
void correction_apply(struct correction *c, struct model *m, double scale);

#endif
