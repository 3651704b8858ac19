/* Products with the transposed Jacobian of the modern cell, and gradients. */
#include "cell/modern/modern_cell.h"

void modern_cell_norm_vjp(const struct modern_cell *c, const struct tensor *dy,
                          const struct tensor *xhat, const struct tensor *rstd,
                          const struct tensor *ds)
{
    struct tensor to = tensor_matrix(ds);
    struct residual_norm_vjp p = {.kind = c->shape.norm,
                                  .dy = tensor_matrix(dy),
                                  .xhat = tensor_matrix(xhat),
                                  .rstd = modern_rows(rstd, to.dim[0]),
                                  .ds = to,
                                  .rows_per_mask = 1};
    op_residual_norm_vjp(c->base.be, &p);
}

struct modern_grads modern_cell_grads(struct modern_cell *c, int64_t j)
{
    struct modern_grads grads = {0};
    if (c->layered || j > 0)
        return grads;
    grads.du = modern_rows(&c->du, c->e.dim[0] * c->e.dim[1]);
    grads.dfactor = c->dfactor;
    grads.first = !c->gathered;
    if (grads.first && grads.dfactor.data != NULL)
        op_fill(c->base.be, &grads.dfactor, 0.0);
    c->gathered = true;
    return grads;
}

void modern_cell_vjp(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                     const struct tensor *df, const struct tensor *dz, bool full)
{
    struct modern_cell *c = modern_self(base);
    struct tensor from = *df;
    if (c->outer_norm) {
        from = tensor_cut(&c->douter, df);
        modern_cell_norm_vjp(c, df, f, &c->rstd_f[slot], &from);
    }
    for (int64_t j = c->core - 1; j >= 0; j--) {
        struct modern_call call = modern_call_of(c, c->prelude + j, slot);
        struct tensor in = modern_core_in(c, j, slot, z), out = modern_core_out(c, j, slot, f);
        struct tensor to = *dz; /* alternate, so that the first block's gradient lands in dz */
        struct modern_grads grads = {0};
        if (j % 2 == 1)
            to = tensor_cut(&c->dstack, dz);
        if (full)
            grads = modern_cell_grads(c, j);
        modern_block_vjp(&call, &in, &out, &from, &to, full ? &grads : NULL);
        from = to;
    }
    if (c->takes_off)
        op_axpby(base->be, dz, -1.0, df, 1.0);
}

void modern_cell_vjp_layer(struct cell *base, int64_t j, int slot, const struct tensor *z,
                           const struct tensor *f, const struct tensor *df, const struct tensor *dz)
{
    struct modern_cell *c = modern_self(base);
    struct modern_call call = modern_call_of(c, j, slot);
    struct modern_grads grads = {0};
    modern_block_vjp(&call, z, f, df, dz, &grads);
}

/* The prelude has number 0, and the coda begins behind a core. */
void modern_cell_stack_vjp(struct modern_cell *c, int64_t first, int64_t count,
                           const struct tensor *input, const struct tensor *df,
                           const struct tensor *dz)
{
    struct tensor from = *df, other = tensor_cut(&c->dother[first > 0], df);
    const struct modern_grads grads = {0};
    for (int64_t k = count - 1; k >= 0; k--) {
        int64_t i = first + k;
        struct modern_call call = modern_call_of(c, i, 0);
        struct tensor in = k == 0 ? *input : tensor_cut(&c->block[i - 1].output, df);
        struct tensor out = tensor_cut(&c->block[i].output, df);
        struct tensor to = k % 2 == 0 ? *dz : other;
        modern_block_vjp(&call, &in, &out, &from, &to, &grads);
        from = to;
    }
}

/* From du to the gradient of what was injected, and those of the injection's weights. */
static void injection_vjp(struct modern_cell *c, const struct tensor *e, const struct tensor *de)
{
    const struct modern_shape *s = &c->shape;
    struct backend *be = c->base.be;
    int64_t n = e->dim[0], kv = s->groups * s->head, width = c->du.dim[1];
    struct tensor du = modern_rows(&c->du, n);
    if (c->inject == INJECT_ADD) {
        op_copy(be, de, &du);
        return;
    }
    int64_t skip = c->inject == INJECT_V ? width - kv : 0;
    struct tensor part = du; /* the columns that W_e reaches, `width` numbers apart */
    part.data = (char *)du.data + (size_t)skip * dtype_size(du.dtype);
    part.dim[1] = width - skip;
    struct gemm weight = {.trans_a = true,
                          .alpha = 1,
                          .beta = 1,
                          .a = part,
                          .b = *e,
                          .c = c->inject_w.dw,
                          .a_stride = width};
    struct gemm input = {.b_padded = true,
                         .alpha = 1,
                         .a = part,
                         .b = weight_factor(&c->inject_w),
                         .c = *de,
                         .a_stride = width,
                         .b_stride = c->inject_w.stride};
    op_gemm(be, &weight);
    op_gemm(be, &input);
    if (c->decay.w.data != NULL)
        op_sigmoid_vjp(be, &c->decay.dw, &c->factor, &c->dfactor);
}

void modern_cell_end_backward(struct cell *base, const struct tensor *de)
{
    struct modern_cell *c = modern_self(base);
    struct tensor injected = c->prelude > 0 ? tensor_cut(&c->e_in, &c->e) : c->e;
    struct tensor e = tensor_matrix(&injected), to = tensor_matrix(de);
    if (!c->layered) {
        assert(c->gathered);
        injection_vjp(c, &e, &to);
    }
    if (c->prelude > 0) {
        struct tensor dout = tensor_cut(&c->dprelude, de);
        modern_cell_norm_vjp(c, de, &injected, &c->rstd_in, &dout);
        modern_cell_stack_vjp(c, 0, c->prelude, &c->e, &dout, de);
    }
    modern_cell_norm_vjp(c, de, &c->e, &c->rstd_embed, de);
}
