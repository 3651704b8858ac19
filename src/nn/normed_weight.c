#include "nn/normed_weight.h"

void normed_weight_declare(struct normed_weight *n, struct weight *w, struct workspace *ws)
{
    int64_t rows = n->v.w.dim[0], cols = n->v.w.dim[1];
    struct buffer b = {.name = "norms of rows",
                       .dtype = ws->be->ops->real,
                       .ndim = 1,
                       .dim = {rows, cols},
                       .life = lives_always(),
                       .part = PART_PARAMETERS};
    workspace_declare(ws, &n->inv, &b);
    b.name = "effective weight";
    b.ndim = 2;
    workspace_declare(ws, &w->w, &b);
    w->dw = n->v.dw;
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
