/* The linear map from embeddings to a start, and its gradient. */
#include "deq/initial_guess.h"

enum status initial_guess_declare(struct params *params, const struct config_model *m, int64_t w,
                                  int64_t e, struct error *err)
{
    if (m->start == START_ZERO)
        return STATUS_OK;
    const struct param_spec specs[] = {
        {.name = "start.current", .part = "start", .rows = w, .cols = e, .init = INIT_ZERO},
        {.name = "start.previous", .part = "start", .rows = w, .cols = e, .init = INIT_ZERO},
        {.name = "start.bias", .part = "start", .rows = w, .init = INIT_ZERO},
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        TRY(params_add(params, &specs[i], NULL, err));
    return STATUS_OK;
}

static void declare_positions(const struct initial_guess_plan *p, struct tensor *t,
                              const char *name, struct lifetime life, int64_t length, int64_t width)
{
    workspace_declare(p->ws, t,
                      &(struct buffer){.name = name,
                                       .dtype = p->ws->be->ops->real,
                                       .ndim = 3,
                                       .dim = {p->batch, length, width},
                                       .life = life});
}

void initial_guess_bind(struct initial_guess *s, const struct params *params,
                        const struct config_model *m, const struct initial_guess_plan *p)
{
    struct lifetime life = lives(PHASE_FORWARD, PHASE_GRADIENTS);
    *s = (struct initial_guess){.linear = m->start == START_LINEAR};
    if (!s->linear)
        return;
    s->current = params_weight(params, params_find(params, "start.current"));
    s->previous = params_weight(params, params_find(params, "start.previous"));
    s->bias = params_weight(params, params_find(params, "start.bias"));
    int64_t w = s->current.w.dim[0], e = s->current.w.dim[1];
    if (!p->train)
        declare_positions(p, &s->last, "initial guess: last embedding", lives_always(), 1, e);
    declare_positions(p, &s->before, "initial guess: embeddings before", life, p->length, e);
    declare_positions(p, &s->z0, "initial guess", life, p->length, w);
}

/* to[b, first + t] <- from[b, skip + t] for `count` positions. */
static void copy_positions(struct backend *be, const struct tensor *to, int64_t first,
                           const struct tensor *from, int64_t skip, int64_t count)
{
    int64_t b = from->dim[0], d = from->dim[2];
    size_t row = (size_t)d * dtype_size(to->dtype);
    struct copy_block p = {.to = tensor_prefix(to, 3, b, count, d, 1),
                           .from = tensor_prefix(from, 3, b, count, d, 1),
                           .to_batch = to->dim[1] * d,
                           .to_row = d,
                           .from_batch = from->dim[1] * d,
                           .from_row = d};
    p.to.data = (char *)to->data + (size_t)first * row;
    p.from.data = (char *)from->data + (size_t)skip * row;
    op_copy_block(be, &p);
}

/* to[b,t] <- e[b,t-1] */
static void shift(struct initial_guess *s, struct backend *be, const struct tensor *to,
                  const struct tensor *e)
{
    op_fill(be, to, 0.0);
    if (e->dim[1] > 1)
        copy_positions(be, to, 1, e, 0, e->dim[1] - 1);
    if (s->have_last)
        copy_positions(be, to, 0, &s->last, 0, 1);
}

void initial_guess_remember(struct initial_guess *s, struct backend *be, const struct tensor *e)
{
    if (s->last.data == NULL)
        return;
    copy_positions(be, &s->last, 0, e, e->dim[1] - 1, 1);
    s->have_last = true;
}

void initial_guess_spread(struct initial_guess *to, struct backend *be,
                          const struct initial_guess *from)
{
    to->have_last = from->have_last;
    if (to->last.data == NULL || !from->have_last)
        return;
    struct tensor all = tensor_matrix(&to->last), source = tensor_matrix(&from->last);
    for (int64_t b = 0; b < to->last.dim[0]; b++) {
        struct tensor dest = tensor_slice(&all, b, 1);
        op_copy(be, &dest, &source);
    }
}

void initial_guess_forget(struct initial_guess *s)
{
    s->have_last = false;
}

struct tensor initial_guess_eval(struct initial_guess *s, struct backend *be,
                                 const struct tensor *e)
{
    if (!s->linear)
        return (struct tensor){0};
    struct tensor before = tensor_cut(&s->before, e), z0 = tensor_cut(&s->z0, e);
    struct tensor rows = tensor_matrix(&z0), em = tensor_matrix(e), bm = tensor_matrix(&before);
    shift(s, be, &before, e);
    weight_apply(be, &s->current, &em, 0.0, &rows);
    weight_apply(be, &s->previous, &bm, 1.0, &rows);
    struct residual_norm bias = {
        .a = rows, .bias = s->bias.w, .sum = rows, .rows_per_mask = 1, .kind = NORM_NONE};
    op_residual_norm(be, &bias);
    return z0;
}

void initial_guess_fit(struct initial_guess *s, struct backend *be, const struct tensor *e,
                       const struct tensor *z, double weight)
{
    if (!s->linear)
        return;
    struct tensor before = tensor_cut(&s->before, e), z0 = tensor_cut(&s->z0, e);
    struct tensor off = tensor_matrix(&z0), em = tensor_matrix(e), bm = tensor_matrix(&before);
    double scale = weight / (double)(e->dim[0] * e->dim[1]);
    op_axpby(be, &z0, -scale, z, scale); /* the gradient of |z0 - z|^2 / 2 per position */
    weight_gradient(be, &s->current, &off, &em);
    weight_gradient(be, &s->previous, &off, &bm);
    op_col_sum(be, &s->bias.dw, &off);
}
