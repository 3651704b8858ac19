#include "model/start.h"

/* Factor of the fit's gradient. Adam divides by a gradient's size, so that this does not change how
 * fast the map is learned, but it keeps the map's gradient out of the norm that is clipped, and it
 * is far above Adam's eps. */
static const double WEIGHT = 1e-5;

enum status start_declare(struct params *params, const struct config_model *m, int64_t w, int64_t e,
                          struct error *err)
{
    int index;
    if (m->start == START_ZERO)
        return STATUS_OK;
    TRY(params_add(params, "start.current", "start", 2, w, e, INIT_ZERO, 0, &index, err));
    TRY(params_add(params, "start.previous", "start", 2, w, e, INIT_ZERO, 0, &index, err));
    return params_add(params, "start.bias", "start", 1, w, 1, INIT_ZERO, 0, &index, err);
}

enum status start_create(struct start *s, const struct params *params, const struct config_model *m,
                         int64_t batch, int64_t length, int64_t w, int64_t e, struct error *err)
{
    struct backend *be = params->be;
    *s = (struct start){.linear = m->start == START_LINEAR};
    if (!s->linear)
        return STATUS_OK;
    s->current = params_weight(params, params_find(params, "start.current"));
    s->previous = params_weight(params, params_find(params, "start.previous"));
    s->bias = params_weight(params, params_find(params, "start.bias"));
    TRY(op_alloc(be, &s->before, be->ops->real, 3, batch, length, e, 1, err));
    return op_alloc(be, &s->z0, be->ops->real, 3, batch, length, w, 1, err);
}

void start_free(struct start *s, struct backend *be)
{
    op_release(be, &s->before);
    op_release(be, &s->z0);
}

/* The planned tensor cut to the sizes of e. */
static struct tensor cut(const struct tensor *t, const struct tensor *e)
{
    return tensor_prefix(t, 3, e->dim[0], e->dim[1], t->dim[2], 1);
}

/* to[b,t] <- e[b,t-1], 0 at the segment's start. */
static void shift(struct backend *be, const struct tensor *to, const struct tensor *e)
{
    int64_t b = e->dim[0], l = e->dim[1], d = e->dim[2];
    op_fill(be, to, 0.0);
    if (l == 1)
        return;
    struct copy_block p = {.from = tensor_prefix(e, 3, b, l - 1, d, 1),
                           .to = tensor_prefix(to, 3, b, l - 1, d, 1),
                           .to_batch = l * d,
                           .to_row = d,
                           .from_batch = l * d,
                           .from_row = d};
    p.to.data = (char *)to->data + (size_t)d * dtype_size(to->dtype);
    op_copy_block(be, &p);
}

struct tensor start_eval(struct start *s, struct backend *be, const struct tensor *e)
{
    if (!s->linear)
        return (struct tensor){0};
    struct tensor before = cut(&s->before, e), z0 = cut(&s->z0, e);
    struct tensor rows = tensor_matrix(&z0), em = tensor_matrix(e), bm = tensor_matrix(&before);
    shift(be, &before, e);
    weight_apply(be, &s->current, &em, 0.0, &rows);
    weight_apply(be, &s->previous, &bm, 1.0, &rows);
    struct residual_norm bias = {
        .a = rows, .bias = s->bias.w, .sum = rows, .rows_per_mask = 1, .kind = NORM_NONE};
    op_residual_norm(be, &bias);
    return z0;
}

void start_fit(struct start *s, struct backend *be, const struct tensor *e, const struct tensor *z)
{
    if (!s->linear)
        return;
    struct tensor before = cut(&s->before, e), z0 = cut(&s->z0, e);
    struct tensor off = tensor_matrix(&z0), em = tensor_matrix(e), bm = tensor_matrix(&before);
    double scale = WEIGHT / (double)(e->dim[0] * e->dim[1]);
    op_axpby(be, &z0, -scale, z, scale); /* the gradient of |z0 - z|^2 / 2 per position */
    weight_gradient(be, &s->current, &off, &em);
    weight_gradient(be, &s->previous, &off, &bm);
    op_col_sum(be, &s->bias.dw, &off);
}
