/* Second derivatives of the cell: block after block forwards, then back with pairs of a gradient
 * and its derivative. */
#include "cell/transformer/transformer_cell_impl.h"

/* Block j along z_t, the direction of the cell's own input. */
static struct tangent_call call_of(const struct transformer_cell *c, int64_t j, int tape,
                                   const struct tensor *z, const struct tensor *f,
                                   const struct tensor *z_t)
{
    return (struct tangent_call){
        .block = transformer_cell_call(c, j, tape),
        .tangent = &c->block[j].tangent,
        .more = &c->more,
        .z = transformer_cell_block_in(c, j, tape, z),
        .f = transformer_cell_block_out(c, j, tape, f),
        .z_t = j == 0 ? *z_t : tensor_cut(&c->block[j - 1].output_t, z),
    };
}

void transformer_cell_jvp(struct cell *base, int tape, const struct tensor *z,
                          const struct tensor *f, const struct tensor *z_t,
                          const struct tensor *f_t)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    assert(c->plan.tangents);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tangent_call call = call_of(c, j, tape, z, f, z_t);
        struct tensor to = j == c->blocks - 1 ? *f_t : tensor_cut(&c->block[j].output_t, z);
        block_jvp(&call, &to);
    }
}

void transformer_cell_vjp_tangent(struct cell *base, int tape, const struct tensor *z,
                                  const struct tensor *f, const struct tensor *z_t,
                                  const struct tensor *df, const struct tensor *dz_t)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    struct tensor from = *df, from_t = {0};
    assert(c->plan.tangents && c->plan.train);
    for (int64_t j = c->blocks - 1; j >= 0; j--) {
        struct tangent_call call = call_of(c, j, tape, z, f, z_t);
        struct tensor to = tensor_cut(&c->pair_d[j % 2], z),
                      to_t = tensor_cut(&c->pair_t[j % 2], z);
        struct block_grads grads = transformer_cell_grads(c, j, z);
        block_vjp_tangent(&call, &from, &from_t, &to, &to_t, &grads);
        transformer_cell_gain_gradient(c, j, tape, &grads.dmem);
        from = to;
        from_t = to_t;
    }
    if (dz_t->data != NULL)
        op_copy(base->be, dz_t, &from_t);
}
