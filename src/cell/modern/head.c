/* What the softmax sees of the modern cell's state: q = norm(coda(h)). */
#include "cell/modern/modern_cell.h"

/* The output of the coda, which is h itself where there is none. */
static struct tensor coda_output(const struct modern_cell *c, const struct tensor *h)
{
    return c->coda == 0 ? *h : tensor_cut(&c->block[modern_blocks(c) - 1].output, h);
}

void modern_cell_head(struct cell *base, const struct tensor *h, const struct tensor *q)
{
    struct modern_cell *c = modern_self(base);
    struct tensor at = *h;
    for (int64_t i = c->prelude + c->core; i < modern_blocks(c); i++) {
        struct modern_call call = modern_call_of(c, i, 0);
        struct tensor out = tensor_cut(&c->block[i].output, h);
        modern_block_eval(&call, &at, &out);
        at = out;
    }
    struct tensor from = tensor_matrix(&at);
    struct residual_norm p = {.a = from,
                              .y = tensor_matrix(q),
                              .xhat = modern_rows(&c->head_x, from.dim[0]),
                              .rstd = modern_rows(&c->head_rstd, from.dim[0]),
                              .kind = c->shape.norm,
                              .eps = c->shape.eps,
                              .rows_per_mask = 1};
    op_residual_norm(base->be, &p);
}

void modern_cell_head_vjp(struct cell *base, const struct tensor *h, const struct tensor *dq,
                          const struct tensor *dh)
{
    struct modern_cell *c = modern_self(base);
    struct tensor like = coda_output(c, h), x = modern_rows(&c->head_x, h->dim[0] * h->dim[1]);
    struct tensor xhat = tensor_shape(&x, 3, like.dim[0], like.dim[1], like.dim[2], 1);
    if (c->coda == 0) {
        modern_cell_norm_vjp(c, dq, &xhat, &c->head_rstd, dh);
        return;
    }
    modern_cell_norm_vjp(c, dq, &xhat, &c->head_rstd, dq);
    modern_cell_stack_vjp(c, c->prelude + c->core, c->coda, h, dq, dh);
}
