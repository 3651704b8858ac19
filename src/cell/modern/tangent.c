/* Second-order derivatives of the modern cell: block after block forwards, then back with pairs of
 * a gradient and its derivative. */
#include "cell/modern/modern_cell.h"

/* Core block j along z_t, the direction of the cell's own input. */
static struct modern_tangent_call call_of(const struct modern_cell *c, int64_t j, int slot,
                                          const struct tensor *z, const struct tensor *f,
                                          const struct tensor *z_t)
{
    struct modern_tangent_call call = {.block = modern_call_of(c, c->prelude + j, slot),
                                       .tangent = &c->block[c->prelude + j].tangent,
                                       .more = &c->more,
                                       .z = modern_core_in(c, j, slot, z),
                                       .f = modern_core_out(c, j, slot, f),
                                       .z_t = *z_t};
    if (j > 0) {
        const struct tensor *out_t = &c->block[c->prelude + j - 1].tangent.out_t;
        call.z_t = tensor_prefix(out_t, 3, z->dim[0], z->dim[1], z->dim[2], 1);
    }
    return call;
}

/* What the last block's output moves along. */
static struct tensor last_t(const struct modern_cell *c, const struct tensor *z)
{
    const struct tensor *out_t = &c->block[c->prelude + c->core - 1].tangent.out_t;
    return tensor_prefix(out_t, 3, z->dim[0], z->dim[1], z->dim[2], 1);
}

void modern_cell_jvp(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                     const struct tensor *z_t, const struct tensor *f_t)
{
    struct modern_cell *c = modern_self(base);
    assert(c->plan.mode >= CELL_TANGENT);
    for (int64_t j = 0; j < c->core; j++) {
        struct modern_tangent_call call = call_of(c, j, slot, z, f, z_t);
        modern_block_jvp(&call);
    }
    struct tensor out_t = last_t(c, z);
    if (c->outer_norm)
        modern_cell_norm_vjp(c, &out_t, f, &c->rstd_f[slot], f_t);
    else
        op_copy(base->be, f_t, &out_t);
    if (c->takes_off)
        op_axpby(base->be, f_t, -1.0, z_t, 1.0);
}

/* The pair at the last block's output, from df at f, which stands still. */
static void leave_tangent(struct modern_cell *c, int slot, const struct tensor *f,
                          const struct tensor *df, const struct tensor *d, const struct tensor *t)
{
    struct tensor s_t = last_t(c, f), rows = tensor_matrix(f);
    struct norm_vjp_tangent p = {.vjp = {.kind = c->shape.norm,
                                         .dy = tensor_matrix(df),
                                         .xhat = rows,
                                         .rstd = modern_rows(&c->rstd_f[slot], rows.dim[0]),
                                         .ds = tensor_matrix(d),
                                         .rows_per_mask = 1},
                                 .s_t = tensor_matrix(&s_t),
                                 .ds_t = tensor_matrix(t)};
    op_norm_vjp_tangent(c->base.be, &p);
}

void modern_cell_vjp_tangent(struct cell *base, int slot, const struct tensor *z,
                             const struct tensor *f, const struct tensor *z_t,
                             const struct tensor *df, const struct tensor *dz_t)
{
    struct modern_cell *c = modern_self(base);
    struct tensor from = tensor_cut(&c->pair_d[c->core % 2], z);
    struct tensor from_t = tensor_cut(&c->pair_t[c->core % 2], z);
    if (c->outer_norm) {
        leave_tangent(c, slot, f, df, &from, &from_t);
    } else {
        from = *df;
        op_fill(base->be, &from_t, 0.0);
    }
    for (int64_t j = c->core - 1; j >= 0; j--) {
        struct modern_tangent_call call = call_of(c, j, slot, z, f, z_t);
        struct tensor to = tensor_cut(&c->pair_d[j % 2], z);
        struct tensor to_t = tensor_cut(&c->pair_t[j % 2], z);
        struct modern_grads grads = modern_cell_grads(c, j);
        modern_block_vjp_tangent(&call, &from, &from_t, &to, &to_t, &grads);
        from = to;
        from_t = to_t;
    }
    if (dz_t->data != NULL)
        op_copy(base->be, dz_t, &from_t);
}
