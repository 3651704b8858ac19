/* A weight-normalised matrix (Salimans & Kingma 2016) with parameters v and g, from which the
 * effective weight w = g v / ||v|| (row by row) is computed once a step. */
#ifndef DEQ_NN_NORMED_WEIGHT_H
#define DEQ_NN_NORMED_WEIGHT_H

#include "nn/weight.h"

struct normed_weight {
    struct weight v, g; /* borrows */
    struct tensor inv;  /* [rows] 1 / ||v||, in a workspace */
};

/* Declares inv and the effective weight `w` [rows, cols] for v and g, which must be set. The
 * gradient of w is gathered where that of v will stand. */
void normed_weight_declare(struct normed_weight *n, struct weight *w, struct workspace *ws);

/* w from v and g. */
void normed_weight_refresh(const struct normed_weight *n, const struct weight *w,
                           struct backend *be);
/* Turns the gradient of w into that of v, in place, and adds to that of g. */
void normed_weight_vjp(const struct normed_weight *n, const struct weight *w, struct backend *be);

#endif
