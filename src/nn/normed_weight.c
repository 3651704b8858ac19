#include "nn/normed_weight.h"

enum status normed_weight_create(struct normed_weight *n, struct weight *w, struct backend *be,
                                 struct error *err)
{
    enum dtype real = be->ops->real;
    int64_t rows = n->v.w.dim[0], cols = n->v.w.dim[1];
    enum memory_part before = op_part(be, PART_PARAMETERS);
    TRY(op_alloc(be, &n->inv, real, 1, rows, 1, 1, 1, err));
    TRY(op_alloc(be, &w->w, real, 2, rows, cols, 1, 1, err));
    op_part(be, before);
    w->dw = n->v.dw;
    return STATUS_OK;
}

void normed_weight_free(struct normed_weight *n, struct weight *w, struct backend *be)
{
    op_release(be, &n->inv);
    op_release(be, &w->w);
}

void normed_weight_refresh(const struct normed_weight *n, const struct weight *w,
                           struct backend *be)
{
    op_weight_norm(be, &w->w, &n->inv, &n->v.w, &n->g.w);
}

void normed_weight_vjp(const struct normed_weight *n, const struct weight *w, struct backend *be)
{
    op_weight_norm_vjp(
        be,
        &(struct weight_norm_vjp){
            .dv = n->v.dw, .dg = n->g.dw, .dw = w->dw, .v = n->v.w, .g = n->g.w, .inv = n->inv});
}
