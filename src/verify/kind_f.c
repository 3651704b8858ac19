/* Kind "f" is one evaluation of f on given z, memory, injection and positions, with its vjp. */
#include "verify/verify_impl.h"

#include "base/mem.h"
#include "cell/transformer/transformer_cell.h"
#include <string.h>

struct f_case {
    struct transformer_cell *cell;
    struct transformer_cell_block *block;
    int64_t batch, length, memory, keys, width;
    struct tensor z, z0, u, positions;  /* owns, as in the dump */
    struct tensor cotangent, jac_v;     /* owns */
    struct tensor normed, xhat, rstd;   /* owns the norm of z0, with pre-LN */
    struct tensor f, dz, dz0, du, dmem; /* owns */
    struct block_input in;
    struct tensor rk; /* owns */
};

static void free_case(struct f_case *c, struct backend *be)
{
    struct tensor *const all[] = {&c->z,     &c->z0,     &c->u,    &c->positions, &c->cotangent,
                                  &c->jac_v, &c->normed, &c->xhat, &c->rstd,      &c->f,
                                  &c->dz,    &c->dz0,    &c->du,   &c->dmem,      &c->rk};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
    op_release(be, &c->in.u);
    op_release(be, &c->in.mem_qkv);
}

/* Copies rows [first, first + count) of every sequence of x [B,T,C] to out [B,count,C]. */
static void take_rows(struct backend *be, const struct tensor *out, const struct tensor *x,
                      int64_t first)
{
    struct tensor rows = tensor_matrix(x), to = tensor_matrix(out);
    for (int64_t b = 0; b < x->dim[0]; b++) {
        struct tensor from_b = tensor_slice(&rows, b * x->dim[1] + first, out->dim[1]);
        struct tensor to_b = tensor_slice(&to, b * out->dim[1], out->dim[1]);
        op_copy(be, &to_b, &from_b);
    }
}

static enum status load_case(struct verify *v, struct f_case *c, struct error *err)
{
    const struct st_tensor *z0 = verify_find(v, "z0");
    TRY(verify_load_tensor(v, "z", LAYOUT_BCT, &c->z, err));
    TRY(verify_load_tensor(v, "u", LAYOUT_BCT, &c->u, err));
    TRY(verify_load_tensor(v, "pos_emb", LAYOUT_BCT, &c->positions, err));
    TRY(verify_load_tensor(v, "cotangent", LAYOUT_BCT, &c->cotangent, err));
    if (z0 != NULL && z0->count > 0)
        TRY(verify_load_tensor(v, "z0", LAYOUT_BCT, &c->z0, err));
    c->batch = c->z.dim[0];
    c->length = c->z.dim[1];
    c->width = c->z.dim[2];
    c->memory = c->z0.data == NULL ? 0 : c->z0.dim[1];
    c->keys = c->memory + c->length;
    const struct config_model *m = &v->config.model;
    if (c->width != m->d_model || c->u.dim[1] != c->keys || c->u.dim[2] != 3 * c->width ||
        c->u.dim[0] != c->batch || c->positions.dim[1] != c->keys ||
        c->positions.dim[2] != c->width || tensor_count(&c->cotangent) != tensor_count(&c->z) ||
        (c->memory > 0 && c->z0.dim[2] != c->width))
        return error_set(err, STATUS_DATA, "%s: z, z0, u, pos_emb do not fit each other", v->path);
    if (c->length > v->config.train.tgt_len)
        v->config.train.tgt_len = c->length;
    if (c->memory > v->config.train.mem_len)
        v->config.train.mem_len = c->memory;
    return STATUS_OK;
}

/* Makes the input of f from the dump's tensors. They are the injection, the memory with its keys
 * and values, and the positions ordered by distance. */
static enum status prepare(struct verify *v, struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    enum dtype real = be->ops->real;
    const struct block_weights *w = &c->block->w;
    int64_t n = c->batch * c->length, d = c->width;
    TRY(op_alloc(be, &c->in.u, real, 3, c->batch, c->length, 3 * d, 1, err));
    take_rows(be, &c->in.u, &c->u, c->memory);
    if (c->memory > 0) {
        int64_t rows = c->batch * c->memory;
        TRY(op_alloc(be, &c->in.mem_qkv, real, 3, c->batch, c->memory, 3 * d, 1, err));
        TRY(op_alloc(be, &c->dmem, real, 2, rows, 3 * d, 1, 1, err));
        TRY(op_alloc(be, &c->dz0, real, 2, rows, d, 1, 1, err));
        c->in.mem_z = c->z0;
        if (c->cell->shape.pre_norm) {
            TRY(op_alloc(be, &c->normed, real, 3, c->batch, c->memory, d, 1, err));
            TRY(op_alloc(be, &c->xhat, real, 2, rows, d, 1, 1, err));
            TRY(op_alloc(be, &c->rstd, real, 1, rows, 1, 1, 1, err));
            struct residual_norm norm = {.a = tensor_matrix(&c->z0),
                                         .gain = w->attn_gain.w,
                                         .y = tensor_matrix(&c->normed),
                                         .xhat = c->xhat,
                                         .rstd = c->rstd,
                                         .rows_per_mask = 1,
                                         .kind = c->cell->shape.norm,
                                         .eps = c->cell->shape.norm_eps};
            op_residual_norm(be, &norm);
            c->in.mem_z = c->normed;
        }
        take_rows(be, &c->in.mem_qkv, &c->u, 0);
        struct tensor in = tensor_matrix(&c->in.mem_z), qkv = tensor_matrix(&c->in.mem_qkv);
        weight_apply(be, &w->qkv, &in, 1.0, &qkv);
    }
    TRY(op_alloc(be, &c->rk, real, 2, c->keys, d, 1, 1, err));
    struct tensor columns = tensor_matrix(&c->positions);
    for (int64_t distance = 0; distance < c->keys; distance++) {
        struct tensor from = tensor_slice(&columns, c->keys - 1 - distance, 1);
        struct tensor to = tensor_slice(&c->rk, distance, 1);
        weight_apply(be, &w->r, &from, 0.0, &to);
    }
    c->in.rk = c->rk;
    c->in.masks.attention_scale = 1;
    TRY(op_alloc(be, &c->f, real, 3, c->batch, c->length, d, 1, err));
    TRY(op_alloc(be, &c->dz, real, 3, c->batch, c->length, d, 1, err));
    return op_alloc(be, &c->du, real, 2, n, 3 * d, 1, 1, err);
}

/* Compares our table of positions with the dump's, where row d is column K-1-d. */
static enum status compare_positions(struct verify *v, const struct f_case *c, struct error *err)
{
    int64_t d = c->width, rows = c->cell->positions.dim[0];
    double *ours = NULL, *flipped = NULL;
    enum status status = STATUS_OK;
    if (rows < c->keys)
        return STATUS_OK; /* a model with model.local_size has no rows for longer distances */
    TRY_OUT(mem_alloc((void **)&ours, (size_t)(c->keys * d), sizeof *ours, err));
    TRY_OUT(mem_alloc((void **)&flipped, (size_t)(c->keys * d), sizeof *flipped, err));
    struct tensor used = tensor_slice(&c->cell->positions, 0, c->keys);
    op_download(v->be, ours, DTYPE_F64, &used);
    for (int64_t p = 0; p < c->keys; p++)
        for (int64_t i = 0; i < d; i++)
            flipped[i * c->keys + c->keys - 1 - p] = ours[p * d + i];
    TRY_OUT(verify_compare(
        v, "pos_emb", &(struct verify_values){.x = flipped, .count = c->keys * d}, TOL_EXACT, err));
out:
    mem_free(ours);
    mem_free(flipped);
    return status;
}

/* The dump's du covers the rows of the memory and of the segment. */
static enum status compare_du(struct verify *v, const struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    struct tensor all = {0};
    TRY(op_alloc(be, &all, be->ops->real, 3, c->batch, c->keys, 3 * c->width, 1, err));
    struct tensor rows = tensor_matrix(&all);
    for (int64_t b = 0; b < c->batch; b++) {
        struct tensor current = tensor_slice(&rows, b * c->keys + c->memory, c->length);
        struct tensor from = tensor_slice(&c->du, b * c->length, c->length);
        op_copy(be, &current, &from);
        if (c->memory == 0)
            continue;
        struct tensor memory = tensor_slice(&rows, b * c->keys, c->memory);
        struct tensor from_memory = tensor_slice(&c->dmem, b * c->memory, c->memory);
        op_copy(be, &memory, &from_memory);
    }
    enum status status = verify_tensor(v, "du", &all, LAYOUT_BCT, TOL_GRADIENT, err);
    op_release(be, &all);
    return status;
}

/* Training treats the memory as constant. The dump has its gradient too. */
static enum status compare_dz0(struct verify *v, const struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    const struct block_weights *w = &c->block->w;
    if (c->memory == 0)
        return verify_skip(v, "dz0", "empty: there is no memory", err);
    weight_vjp(be, &w->qkv, &c->dmem, 0.0, &c->dz0);
    if (c->cell->shape.pre_norm) {
        struct residual_norm_vjp norm = {.kind = c->cell->shape.norm,
                                         .dy = c->dz0,
                                         .xhat = c->xhat,
                                         .rstd = c->rstd,
                                         .gain = w->attn_gain.w,
                                         .ds = c->dz0,
                                         .rows_per_mask = 1};
        op_residual_norm_vjp(be, &norm);
    }
    struct tensor dz0 = tensor_shape(&c->dz0, 3, c->batch, c->memory, c->width, 1);
    return verify_tensor(v, "dz0", &dz0, LAYOUT_BCT, TOL_GRADIENT, err);
}

/* Completes the gradients of the parameters, given that of rk by distance. */
static void finish_gradients(struct verify *v, struct f_case *c, const struct tensor *drk)
{
    struct tensor columns = tensor_matrix(&c->positions);
    for (int64_t distance = 0; distance < c->keys; distance++) {
        struct tensor from = tensor_slice(&columns, c->keys - 1 - distance, 1);
        struct tensor grad = tensor_slice(drk, distance, 1);
        weight_gradient(v->be, &c->block->w.r, &grad, &from);
    }
    model_finish_gradients(v->model);
}

static struct block_call call_of(const struct verify *v, const struct f_case *c)
{
    return (struct block_call){.be = v->be,
                               .shape = &c->cell->shape,
                               .w = &c->block->w,
                               .in = &c->in,
                               .saved = &c->cell->saved[0],
                               .scratch = &c->cell->scratch};
}

static enum status compare_vjp(struct verify *v, struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    struct tensor drk = {0};
    TRY(op_alloc(be, &drk, be->ops->real, 2, c->keys, c->width, 1, 1, err));
    struct block_grads grads = {.du = c->du, .dmem = c->dmem, .drk = drk};
    struct block_call call = call_of(v, c);
    block_vjp(&call, &c->z, &c->f, &c->cotangent, &c->dz, &grads);
    finish_gradients(v, c, &drk);
    op_release(be, &drk);
    TRY(verify_tensor(v, "dz", &c->dz, LAYOUT_BCT, TOL_GRADIENT, err));
    TRY(compare_du(v, c, err));
    TRY(compare_dz0(v, c, err));
    return verify_compare_gradients(v, "g:", TOL_GRADIENT, err);
}

enum status verify_jacobian_product(struct verify *v, const struct tensor *vj, struct error *err)
{
    int64_t count = tensor_count(vj);
    double *host = NULL, sum = 0;
    TRY(verify_tensor(v, "jac_vJ", vj, LAYOUT_BCT, TOL_GRADIENT, err));
    TRY(mem_alloc((void **)&host, (size_t)count, sizeof *host, err));
    op_download(v->be, host, DTYPE_F64, vj);
    for (int64_t i = 0; i < count; i++)
        sum += host[i] * host[i];
    mem_free(host);
    return verify_number(v, "jac_loss", sum / (double)count, TOL_GRADIENT, err);
}

/* The gradient of |v^T J|^2 / count is that of (2 v / count) . (J w) at the constant w = v^T J,
 * which is in c->dz. */
static enum status compare_penalty_gradient(struct verify *v, struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    struct tensor drk = {0}, jac_dz = {0}, none = {0};
    enum status status = STATUS_OK;
    struct tangent_call call = {.block = call_of(v, c),
                                .tangent = &c->block->tangent,
                                .more = &c->cell->more,
                                .z = c->z,
                                .f = c->f,
                                .z_t = c->dz};
    TRY_OUT(op_alloc(be, &drk, be->ops->real, 2, c->keys, c->width, 1, 1, err));
    TRY_OUT(op_alloc(be, &jac_dz, be->ops->real, 3, c->batch, c->length, c->width, 1, err));
    model_refresh(v->model); /* gradients start at zero */
    struct block_grads grads = {.du = c->du, .dmem = c->dmem, .drk = drk};
    op_axpby(be, &c->jac_v, 2.0 / (double)tensor_count(&c->z), &c->jac_v, 0.0);
    block_jvp(&call, &jac_dz);
    block_vjp_tangent(&call, &c->jac_v, &none, &c->cotangent, &jac_dz, &grads);
    finish_gradients(v, c, &drk);
    TRY_OUT(verify_tensor(v, "jac_dz", &jac_dz, LAYOUT_BCT, TOL_SECOND, err));
    TRY_OUT(verify_compare_gradients(v, "jg:", TOL_SECOND, err));
out:
    op_release(be, &drk);
    op_release(be, &jac_dz);
    return status;
}

/* Compares v^T J for the given v, and the penalty with its gradient. */
static enum status compare_jacobian(struct verify *v, struct f_case *c, struct error *err)
{
    struct block_call call = call_of(v, c);
    if (verify_find(v, "jac_v") == NULL)
        return STATUS_OK;
    TRY(verify_load_tensor(v, "jac_v", LAYOUT_BCT, &c->jac_v, err));
    block_vjp(&call, &c->z, &c->f, &c->jac_v, &c->dz, NULL);
    TRY(verify_jacobian_product(v, &c->dz, err));
    return compare_penalty_gradient(v, c, err);
}

static enum status run(struct verify *v, struct f_case *c, struct error *err)
{
    TRY(load_case(v, c, err));
    if (v->config.model.blocks != 1)
        return verify_fail(v, "(config)", "blocks: dumps of this kind have one block", err);
    v->config.jacobian.weight = 1; /* plans second derivatives */
    TRY(verify_setup_model(v, c->batch, "w", true, err));
    c->cell = (struct transformer_cell *)v->model->cell;
    c->block = &c->cell->block[0];
    TRY(prepare(v, c, err));
    TRY(compare_positions(v, c, err));
    struct block_call call = call_of(v, c);
    block_eval(&call, &c->z, &c->f);
    struct tensor y = tensor_prefix(&c->cell->saved[0].y, 3, c->batch, c->length, c->width, 1);
    TRY(verify_tensor(v, "attn_out", &y, LAYOUT_BCT, TOL_FORWARD, err));
    TRY(verify_tensor(v, "out", &c->f, LAYOUT_BCT, TOL_FORWARD, err));
    TRY(compare_vjp(v, c, err));
    return compare_jacobian(v, c, err);
}

enum status verify_kind_f(struct verify *v, struct error *err)
{
    struct f_case c = {0};
    if (v->config.model.cell == CELL_TRELLIS)
        return verify_trellis_f(v, err);
    if (v->config.model.cell != CELL_TRANSFORMER)
        return verify_fail(v, "(config)",
                           "cell: dumps of this kind have a transformer or a trellis; those of "
                           "kinds unrolled, deq and jacreg hold the f of others",
                           err);
    enum status status = run(v, &c, err);
    free_case(&c, v->be);
    return status;
}
