/* The kinds that run the whole model over segments of a stream. They are "deq" (equilibrium and
 * implicit gradient), "eval", "unrolled" (pre-training), "dropout" (given masks) and "jacreg". */
#include "deq/jacobian_penalty.h"
#include "verify/verify_impl.h"

#include "base/mem.h"
#include "cell/transformer/transformer_cell.h"
#include "deq/spectrum.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME = 160 };

static const struct masks no_masks = {.source = MASKS_NONE};

/* One segment's tokens and losses on the host. */
struct segment {
    int index; /* in the dump, or -1 if names have no segment prefix */
    int64_t batch, start, length;
    int32_t *input, *target; /* owns */
    double *ordered;         /* owns the losses in an order of the dump */
    double mean;             /* of the losses */
};

static void free_segment(struct segment *s)
{
    mem_free(s->input);
    mem_free(s->target);
    mem_free(s->ordered);
}

/* Writes the name in the dump, as in "s1:NAME". */
static const char *named(const struct segment *s, const char *name, char out[NAME])
{
    if (s->index < 0)
        snprintf(out, NAME, "%s", name);
    else
        snprintf(out, NAME, "s%d:%s", s->index, name);
    return out;
}

static enum status stream_batch(struct verify *v, int64_t *batch, int64_t *targets,
                                struct error *err)
{
    const struct st_tensor *t;
    TRY(verify_need(v, "stream", &t, err));
    if (t->ndim != 2 || t->dim[0] < 2 || t->dim[1] < 1)
        return error_set(err, STATUS_DATA, "%s: stream: want [time, streams]", v->path);
    *batch = t->dim[1];
    *targets = t->dim[0] - 1;
    return STATUS_OK;
}

/* Reads the tokens of a segment whose index, batch, start and length are set. */
static enum status load_segment(struct verify *v, struct segment *s, struct error *err)
{
    size_t n = (size_t)(s->batch * s->length);
    TRY(mem_alloc((void **)&s->input, n, sizeof *s->input, err));
    TRY(mem_alloc((void **)&s->target, n, sizeof *s->target, err));
    TRY(mem_alloc((void **)&s->ordered, n, sizeof *s->ordered, err));
    TRY(verify_take_tokens(v, s->start, s->length, s->input, err));
    return verify_take_tokens(v, s->start + 1, s->length, s->target, err);
}

/* Compares the losses in the order of positions, and cluster by cluster as the published code
 * returns them. */
static enum status compare_nll(struct verify *v, struct segment *s, enum tolerance tol,
                               struct error *err)
{
    char name[NAME];
    const struct clusters *c = &v->model->vocab.softmax.clusters;
    int64_t n = s->batch * s->length, at = 0;
    const struct verify_values values = {.x = s->ordered, .count = n};
    double *each = NULL;
    TRY(mem_alloc((void **)&each, (size_t)n, sizeof *each, err));
    s->mean = model_read_loss(v->model, each);
    for (int64_t t = 0; t < s->length; t++)
        for (int64_t b = 0; b < s->batch; b++)
            s->ordered[at++] = each[b * s->length + t];
    enum status status = verify_compare(v, named(s, "nll", name), &values, tol, err);
    at = 0;
    for (int k = 0; k < c->count; k++)
        for (int64_t t = 0; t < s->length; t++)
            for (int64_t b = 0; b < s->batch; b++)
                if (clusters_find(c, s->target[b * s->length + t]) == k)
                    s->ordered[at++] = each[b * s->length + t];
    if (status == STATUS_OK)
        status = verify_compare(v, named(s, "nll_ref_order", name), &values, tol, err);
    mem_free(each);
    TRY(status);
    if (v->config.model.cell == CELL_TRELLIS) {
        char split[NAME];
        TRY(verify_trellis_losses(v, named(s, "loss_softmax", name), named(s, "loss_split", split),
                                  s->target, s->mean, err));
    }
    return verify_number(v, named(s, "loss", name), s->mean, tol, err);
}

/* Compares keys and values [time, B, channel], block by block. */
static enum status compare_keys(struct verify *v, const struct segment *s, bool after,
                                struct error *err)
{
    char name[NAME], block[64];
    struct cell *cell = v->model->cell;
    struct memory *m;
    for (int i = 0; (m = cell->ops->memory(cell, i)) != NULL; i++) {
        struct tensor rows = memory_view(m);
        snprintf(block, sizeof block, "%s.%d", after ? "mem_kv" : "mem_kv_in", i);
        if (rows.data != NULL)
            TRY(verify_tensor(v, named(s, block, name), &rows, LAYOUT_TBC, TOL_SOLVED, err));
    }
    return STATUS_OK;
}

/* Compares the memory before or after the segment. It is states and injections [time, B, channel]
 * in the dump, one column for a trellis, or keys and values of a modern cell. */
static enum status compare_memory(struct verify *v, const struct segment *s, bool after,
                                  const char *z_name, const char *u_name, struct error *err)
{
    char name[NAME];
    struct cell *cell = v->model->cell;
    if (v->config.model.cell == CELL_TRELLIS)
        return verify_trellis_memory(v, named(s, after ? "mem_out" : "mem_in", name), err);
    if (v->config.model.cell == CELL_MODERN)
        return compare_keys(v, s, after, err);
    struct tensor z = memory_view(cell->ops->memory(cell, 0));
    struct tensor u = memory_view(cell->ops->memory(cell, 1));
    if (z.data == NULL)
        return STATUS_OK;
    TRY(verify_tensor(v, named(s, z_name, name), &z, LAYOUT_TBC, TOL_SOLVED, err));
    return verify_tensor(v, named(s, u_name, name), &u, LAYOUT_TBC, TOL_FORWARD, err);
}

static enum status solve_and_loss(struct verify *v, struct segment *s, int64_t layers,
                                  const struct masks *masks, bool gradient, struct error *err)
{
    struct model *m = v->model;
    model_refresh(m);
    model_begin(m, s->input, s->length, masks);
    TRY(model_solve(m, layers, gradient, err));
    model_loss(m, s->target, 1.0 / (double)(s->batch * s->length), gradient);
    return STATUS_OK;
}

/* Compares the result of the published power method. It depends on the start, which the dump does
 * not have. The dump's number must therefore lie among those of several starts, and its difference
 * from their mean is relative to their standard deviation. */
static enum status compare_radius(struct verify *v, const struct segment *s, struct error *err)
{
    enum { STARTS = 6 };
    char name[NAME];
    double *x = NULL, widest = 0;
    enum status status = STATUS_OK;
    size_t b_count = (size_t)s->batch;
    struct equilibrium_point at = equilibrium_last(v->model->eq);
    if (verify_find(v, named(s, "spectral_radius", name)) == NULL)
        return STATUS_OK;
    TRY(mem_alloc((void **)&x, (STARTS + 2) * b_count, sizeof *x, err));
    double *mean = x + STARTS * b_count, *growth = mean + b_count;
    for (size_t i = 0; i < STARTS; i++)
        TRY_OUT(spectral_radius(v->model->cell, &at, SPECTRUM_ITERATIONS, i, x + i * b_count,
                                growth, err));
    for (size_t b = 0; b < b_count; b++) {
        double square = 0;
        for (size_t i = 0; i < STARTS; i++)
            mean[b] += x[i * b_count + b] / STARTS;
        for (size_t i = 0; i < STARTS; i++)
            square += pow(x[i * b_count + b] - mean[b], 2) / (STARTS - 1);
        widest = fmax(widest, sqrt(square));
    }
    TRY_OUT(verify_compare(v, name,
                           &(struct verify_values){.x = mean, .count = s->batch, .scale = widest},
                           TOL_RADIUS, err));
out:
    mem_free(x);
    return status;
}

static enum status deq_segment(struct verify *v, struct segment *s, struct error *err)
{
    static const char *const solver_facts[] = {"fwd_nstep",        "bwd_nstep", "fwd_rel_residual",
                                               "bwd_rel_residual", "res",       "bres"};
    char name[NAME];
    struct model *m = v->model;
    TRY(compare_memory(v, s, false, "mem_z_in", "mem_u_in", err));
    TRY(solve_and_loss(v, s, 0, &no_masks, true, err));
    TRY(compare_nll(v, s, TOL_SOLVED, err));
    if (v->config.model.cell == CELL_TRELLIS)
        TRY(verify_trellis_injection(v, named(s, "us", name), s->batch, s->length, err));
    struct tensor state = equilibrium_state(m->eq), output = equilibrium_output(m->eq);
    TRY(verify_tensor(v, named(s, "z_star", name), &state, LAYOUT_BCT, TOL_SOLVED, err));
    TRY(verify_tensor(v, named(s, "f_z_star", name), &output, LAYOUT_BCT, TOL_SOLVED, err));
    struct tensor dh = model_state_gradient(m);
    TRY(verify_tensor(v, named(s, "dl_dzstar", name), &dh, LAYOUT_BCT, TOL_ADJOINT, err));
    TRY(model_backward(m, err));
    model_finish_gradients(m);
    struct tensor y = equilibrium_adjoint(m->eq);
    TRY(verify_tensor(v, named(s, "y_star", name), &y, LAYOUT_BCT, TOL_ADJOINT, err));
    TRY(verify_compare_gradients(v, named(s, "g:", name), TOL_ADJOINT, err));
    model_remember(m);
    TRY(compare_memory(v, s, true, "new_mem_z", "new_mem_u", err));
    TRY(compare_radius(v, s, err));
    for (size_t i = 0; i < sizeof solver_facts / sizeof *solver_facts; i++)
        TRY(verify_skip(v, named(s, solver_facts[i], name),
                        "it describes the solver of the dump, which is another than ours", err));
    return STATUS_OK;
}

static enum status unrolled_segment(struct verify *v, struct segment *s, struct error *err)
{
    char name[NAME];
    TRY(solve_and_loss(v, s, v->config.train.pretrain_layers, &no_masks, true, err));
    TRY(compare_nll(v, s, TOL_FORWARD, err));
    TRY(model_backward(v->model, err));
    model_finish_gradients(v->model);
    TRY(verify_compare_gradients(v, named(s, "g:", name), TOL_ADJOINT, err));
    model_remember(v->model);
    return compare_memory(v, s, true, "mem_z", "mem_u", err);
}

/* Runs `one` over segments of the configured length. */
static enum status each_segment(struct verify *v,
                                enum status (*one)(struct verify *v, struct segment *s,
                                                   struct error *err),
                                struct error *err)
{
    int64_t batch, targets, length = v->config.train.tgt_len;
    enum status status = STATUS_OK;
    TRY(stream_batch(v, &batch, &targets, err));
    if (v->config.model.cell == CELL_TRELLIS)
        TRY(verify_trellis_cutoffs(v, err));
    TRY(verify_setup_model(v, batch, "w", true, err));
    for (int64_t start = 0, index = 0; start < targets && status == STATUS_OK; index++) {
        int64_t l = targets - start < length ? targets - start : length;
        struct segment s = {.index = (int)index, .batch = batch, .start = start, .length = l};
        status = load_segment(v, &s, err);
        if (status == STATUS_OK)
            status = one(v, &s, err);
        free_segment(&s);
        start += l;
    }
    return status;
}

enum status verify_kind_deq(struct verify *v, struct error *err)
{
    return each_segment(v, deq_segment, err);
}

enum status verify_kind_unrolled(struct verify *v, struct error *err)
{
    const char *text = st_meta(v->file, "n_unroll");
    int64_t layers = text == NULL ? 0 : strtol(text, NULL, 10);
    if (layers < 1 || layers > 1024)
        return error_set(err, STATUS_DATA, "%s: metadata n_unroll: want 1..1024", v->path);
    v->config.train.pretrain_steps = 1;
    v->config.train.pretrain_layers = layers;
    return each_segment(v, unrolled_segment, err);
}

/* The length of segment `index` is that of its losses in the dump, or else the configured one. */
static int64_t segment_length(struct verify *v, int64_t index, int64_t left)
{
    char name[NAME];
    const struct segment s = {.index = (int)index};
    const struct st_tensor *t = verify_find(v, named(&s, "nll_ref_order", name));
    int64_t length = v->config.train.tgt_len;
    if (t == NULL)
        t = verify_find(v, named(&s, "nll", name));
    if (t != NULL && t->ndim == 2 && t->dim[0] >= 1 && t->dim[0] <= length)
        length = t->dim[0];
    return left < length ? left : length;
}

enum status verify_kind_eval(struct verify *v, struct error *err)
{
    int64_t batch, targets, index = 0, scored = 0;
    char name[NAME];
    double total = 0;
    enum status status = STATUS_OK;
    TRY(stream_batch(v, &batch, &targets, err));
    TRY(verify_setup_model(v, batch, "w", false, err));
    for (int64_t start = 0; start < targets && status == STATUS_OK; index++) {
        struct segment s = {.index = (int)index, .batch = batch, .start = start};
        if (verify_find(v, named(&s, "loss", name)) == NULL)
            break; /* the dump scores no further segments */
        s.length = segment_length(v, index, targets - start);
        status = load_segment(v, &s, err);
        if (status == STATUS_OK)
            status = solve_and_loss(v, &s, 0, &no_masks, false, err);
        if (status == STATUS_OK)
            status = compare_nll(v, &s, TOL_SOLVED, err);
        if (status == STATUS_OK) {
            model_remember(v->model);
            status = compare_memory(v, &s, true, "mem_z", "mem_u", err);
        }
        total += (double)s.length * s.mean;
        scored += s.length;
        start += s.length;
        free_segment(&s);
    }
    TRY(status);
    TRY(verify_number(v, "total_loss", total / (double)scored, TOL_SOLVED, err));
    return verify_number(v, "ppl", exp(total / (double)scored), TOL_SOLVED, err);
}

/* Copies the attention's mask, which is 0 or 1/(1-p) in the dump, and 0 or 1 here. */
static enum status fill_attention_mask(struct verify *v, const struct tensor *mask, int64_t batch,
                                       int64_t length, struct error *err)
{
    const struct st_tensor *t;
    uint8_t *host = NULL;
    int64_t heads = v->config.model.n_head, count = batch * heads * length * length;
    TRY(verify_need(v, "mask_att", &t, err));
    if (t->count != count)
        return error_set(err, STATUS_DATA, "%s: mask_att: want [%lld,%lld,%lld,%lld]", v->path,
                         (long long)batch, (long long)heads, (long long)length, (long long)length);
    TRY(mem_alloc((void **)&host, (size_t)count, 1, err));
    for (int64_t i = 0; i < count; i++)
        host[i] = st_value(t, i) != 0;
    struct tensor used = tensor_prefix(mask, 4, batch, heads, length, length);
    op_upload(v->be, &used, host, DTYPE_U8);
    mem_free(host);
    return STATUS_OK;
}

static enum status fill_masks(struct verify *v, int64_t batch, int64_t length, struct error *err)
{
    struct model *m = v->model;
    if (v->config.model.cell != CELL_TRANSFORMER)
        return verify_fail(v, "(config)", "masks: dumps have those of a transformer only", err);
    struct transformer_cell *cell = (struct transformer_cell *)m->cell;
    struct transformer_cell_block *b = &cell->block[0];
    if (b->mask_attention.data != NULL)
        TRY(fill_attention_mask(v, &b->mask_attention, batch, length, err));
    if (m->mask_in.data == NULL)
        return STATUS_OK;
    struct tensor out = tensor_prefix(&m->mask_out, 3, batch, length, 1, 1);
    TRY(verify_fill_tensor(v, "mask_in_emb", &m->mask_in, err));
    TRY(verify_fill_tensor(v, "mask_out", &out, err));
    TRY(verify_fill_tensor(v, "mask_pos", &cell->mask_pos, err));
    TRY(verify_fill_tensor(v, "mask_attn_out", &b->mask_attn_out, err));
    TRY(verify_fill_tensor(v, "mask_ff1", &b->mask_ff1, err));
    return verify_fill_tensor(v, "mask_ff2", &b->mask_ff2, err);
}

static enum status dropout_segment(struct verify *v, struct segment *s, struct error *err)
{
    const struct masks given = {.source = MASKS_GIVEN};
    TRY(fill_masks(v, s->batch, s->length, err));
    TRY(solve_and_loss(v, s, 0, &given, true, err));
    TRY(compare_nll(v, s, TOL_SOLVED, err));
    TRY(model_backward(v->model, err));
    model_finish_gradients(v->model);
    TRY(verify_compare_gradients(v, "g:", TOL_ADJOINT, err));
    model_remember(v->model);
    return compare_memory(v, s, true, "mem_z", "mem_u", err);
}

/* Runs `one` on a dump of one segment without memory, whose names have no prefix. */
static enum status single_segment(struct verify *v,
                                  enum status (*one)(struct verify *v, struct segment *s,
                                                     struct error *err),
                                  struct error *err)
{
    int64_t batch, targets;
    TRY(stream_batch(v, &batch, &targets, err));
    if (targets > v->config.train.tgt_len)
        v->config.train.tgt_len = targets;
    TRY(verify_setup_model(v, batch, "w", true, err));
    struct segment s = {.index = -1, .batch = batch, .length = targets};
    enum status status = load_segment(v, &s, err);
    if (status == STATUS_OK)
        status = one(v, &s, err);
    free_segment(&s);
    return status;
}

enum status verify_kind_dropout(struct verify *v, struct error *err)
{
    return single_segment(v, dropout_segment, err);
}

static enum status jacreg_segment(struct verify *v, struct segment *s, struct error *err)
{
    struct model *m = v->model;
    struct tensor direction = {0};
    TRY(verify_load_tensor(v, "v", LAYOUT_BCT, &direction, err));
    bool fits = tensor_count(&direction) == s->batch * s->length * m->cell->width;
    if (fits) {
        struct tensor to = jacobian_penalty_direction(&m->terms);
        to = tensor_prefix(&to, 3, s->batch, s->length, m->cell->width, 1);
        op_copy(v->be, &to, &direction);
    }
    op_release(v->be, &direction);
    if (!fits)
        return error_set(err, STATUS_DATA, "%s: v: does not fit the stream", v->path);
    TRY(solve_and_loss(v, s, 0, &no_masks, true, err));
    model_weigh_term(m, TERM_JACOBIAN_PENALTY, v->config.jacobian.weight, NULL);
    TRY(compare_nll(v, s, TOL_SOLVED, err));
    TRY(model_backward(m, err));
    model_finish_gradients(m);
    double penalty = NAN;
    (void)model_read_term(m, TERM_JACOBIAN_PENALTY, &penalty);
    TRY(verify_number(v, "jac_loss", penalty, TOL_ADJOINT, err));
    return verify_compare_gradients(v, "g:", TOL_ADJOINT, err);
}

enum status verify_kind_jacreg(struct verify *v, struct error *err)
{
    const struct st_tensor *weight;
    TRY(verify_need(v, "jac_weight", &weight, err));
    v->config.jacobian.weight = st_value(weight, 0);
    if (!(v->config.jacobian.weight > 0))
        return error_set(err, STATUS_DATA, "%s: jac_weight: want a number above 0", v->path);
    return single_segment(v, jacreg_segment, err);
}
