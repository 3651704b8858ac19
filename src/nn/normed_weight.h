/* A weight-normalised matrix (Salimans & Kingma 2016): parameters v and g, from which the effective
 * weight w = g v / ||v|| (row by row) is computed once a step. */
#ifndef DEQ_NN_NORMED_WEIGHT_H
#define DEQ_NN_NORMED_WEIGHT_H

#include "nn/weight.h"

struct normed_weight {
    struct weight v, g; /* borrows */
    struct tensor inv;  /* owns: [rows] 1 / ||v|| */
};

/* Allocates inv and the effective weight `w` [rows, cols]; v and g must be set. The gradient of w
 * is gathered where that of v will stand. */
enum status normed_weight_create(struct normed_weight *n, struct weight *w, struct backend *be,
                                 struct error *err);
void normed_weight_free(struct normed_weight *n, struct weight *w, struct backend *be);

/* w from v and g. */
void normed_weight_refresh(const struct normed_weight *n, const struct weight *w,
                           struct backend *be);
/* Turns the gradient of w into that of v, in place, and adds to that of g. */
void normed_weight_vjp(const struct normed_weight *n, const struct weight *w, struct backend *be);

#endif
