/* The parts of dumps that are particular to a trellis. They are the kind "f", the injection, a
 * memory of one column, and two losses, with a plain and with a split softmax. */
#include "verify/verify_impl.h"

#include "base/mem.h"
#include "cell/trellis/trellis_cell.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static struct trellis_cell *cell_of(const struct verify *v)
{
    return (struct trellis_cell *)v->model->cell;
}

/* The first `length` rows of every sequence of a tensor [B,pitch,C]. */
struct padded {
    const struct tensor *t; /* borrows */
    int64_t batch, length;
};

/* Copies them to a new tensor [B,L,C]. */
static enum status copy_rows(struct verify *v, const struct padded *rows, struct tensor *out,
                             struct error *err)
{
    const struct trellis_cell *c = cell_of(v);
    const struct tensor *from = rows->t;
    int64_t batch = rows->batch, length = rows->length, width = from->dim[2];
    TRY(op_alloc(v->be, out, v->be->ops->real, 3, batch, length, width, 1, err));
    struct copy_block p = {.to = *out, .from_batch = c->pitch * width, .from_row = width};
    p.from = tensor_make(from->data, from->dtype, 3, batch, length, width, 1);
    op_copy_block(v->be, &p);
    return STATUS_OK;
}

static enum status compare_padded(struct verify *v, const char *name, const struct padded *rows,
                                  enum tolerance tol, struct error *err)
{
    struct tensor copy = {0};
    enum status status = copy_rows(v, rows, &copy, err);
    if (status == STATUS_OK)
        status = verify_tensor(v, name, &copy, LAYOUT_BCT, tol, err);
    op_release(v->be, &copy);
    return status;
}

enum status verify_trellis_injection(struct verify *v, const char *name, int64_t batch,
                                     int64_t length, struct error *err)
{
    const struct padded rows = {&cell_of(v)->u, batch, length};
    return compare_padded(v, name, &rows, TOL_FORWARD, err);
}

enum status verify_trellis_memory(struct verify *v, const char *name, struct error *err)
{
    struct trellis_cell *c = cell_of(v);
    struct tensor z = memory_view(&c->states[0]), zeros = {0};
    if (z.data != NULL)
        return verify_tensor(v, name, &z, LAYOUT_BCT, TOL_SOLVED, err);
    TRY(op_alloc(v->be, &zeros, v->be->ops->real, 3, c->plan.batch, 1, c->base.width, 1, err));
    enum status status = verify_tensor(v, name, &zeros, LAYOUT_BCT, TOL_EXACT, err);
    op_release(v->be, &zeros);
    return status;
}

/* --- the two losses --------------------------------------------------------------------------- */

/* The dump's output layer applied to q [n,nout]. The caller frees *out [n,vocab] with mem_free. */
static enum status logits_of(struct verify *v, const double *q, int64_t n, double **out,
                             struct error *err)
{
    const struct config_model *m = &v->config.model;
    const char *table_name = m->tie_weights ? "w:encoder.weight" : "w:decoder.weight";
    const struct st_tensor *table, *bias;
    int64_t vocab = m->vocab_size, width = m->nout;
    TRY(verify_need(v, table_name, &table, err));
    TRY(verify_need(v, "w:decoder.bias", &bias, err));
    if (table->count != vocab * width || bias->count != vocab)
        return error_set(err, STATUS_DATA, "%s: %s: does not fit the configuration", v->path,
                         table_name);
    TRY(mem_alloc((void **)out, (size_t)(n * vocab), sizeof **out, err));
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < vocab; k++) {
            double sum = st_value(bias, k);
            for (int64_t d = 0; d < width; d++)
                sum += q[i * width + d] * st_value(table, k * width + d);
            (*out)[i * vocab + k] = sum;
        }
    return STATUS_OK;
}

static double log_sum_exp(const double *x, int64_t count)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < count; i++)
        most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < count; i++)
        sum += exp(x[i] - most);
    return most + log(sum);
}

enum status verify_trellis_losses(struct verify *v, const char *softmax, const char *split,
                                  const int32_t *target, double mean, struct error *err)
{
    int64_t n = tensor_count(&v->model->q) / v->config.model.nout;
    int64_t vocab = v->config.model.vocab_size;
    bool clustered = v->config.model.cutoffs.count > 0;
    double *q = NULL, *logits = NULL, sum = 0;
    enum status status = STATUS_OK;
    TRY(verify_number(v, clustered ? split : softmax, mean, TOL_SOLVED, err));
    if (!clustered || verify_find(v, softmax) == NULL)
        return STATUS_OK;
    TRY_OUT(mem_alloc((void **)&q, (size_t)tensor_count(&v->model->q), sizeof *q, err));
    op_download(v->be, q, DTYPE_F64, &v->model->q);
    TRY_OUT(logits_of(v, q, n, &logits, err));
    for (int64_t i = 0; i < n; i++)
        sum += log_sum_exp(logits + i * vocab, vocab) - logits[i * vocab + target[i]];
    TRY_OUT(verify_number(v, softmax, sum / (double)n, TOL_SOLVED, err));
out:
    mem_free(q);
    mem_free(logits);
    return status;
}

/* The rows of the first segment, for the search of the cutoffs. */
struct search {
    int64_t rows, vocab;
    double *logits;  /* owns [rows, vocab], less the row's log-sum-exp */
    double *sums;    /* owns [rows, vocab + 1] running sums of exp(logits) */
    double *tails;   /* owns [rows, 2] logits of the clusters, on the same scale */
    int32_t *target; /* owns [rows] */
};

/* The mean loss with cutoffs a < b. Cluster 1 is the last row of the head. */
static double split_loss(const struct search *s, int64_t a, int64_t b)
{
    double total = 0;
    for (int64_t i = 0; i < s->rows; i++) {
        const double *sum = s->sums + i * (s->vocab + 1), *tail = s->tails + 2 * i;
        int32_t y = s->target[i];
        total += log(sum[a] + exp(tail[0]) + exp(tail[1]));
        if (y >= a)
            total += y < b ? log(sum[b] - sum[a]) - tail[1] : log(sum[s->vocab] - sum[b]) - tail[0];
        total -= s->logits[i * s->vocab + y];
    }
    return total / (double)s->rows;
}

static enum status load_search(struct verify *v, struct search *s, struct error *err)
{
    const struct config_model *m = &v->config.model;
    const struct st_tensor *z, *rows, *bias, *stream;
    int64_t hsize = m->nhid + m->nout, length = v->config.train.tgt_len;
    double *q = NULL;
    TRY(verify_need(v, "s0:f_z_star", &z, err));
    TRY(verify_need(v, "tail_vectors", &rows, err));
    TRY(verify_need(v, "tail_bias", &bias, err));
    TRY(verify_need(v, "stream", &stream, err));
    int64_t batch = stream->dim[1];
    s->rows = batch * length;
    s->vocab = m->vocab_size;
    if (z->count != s->rows * 2 * hsize || rows->count != 2 * m->nout || bias->count != 2)
        return error_set(err, STATUS_DATA, "%s: s0:f_z_star or tail_vectors: other sizes", v->path);
    size_t n = (size_t)s->rows, words = (size_t)s->vocab;
    TRY(mem_alloc((void **)&s->sums, n * (words + 1), sizeof *s->sums, err));
    TRY(mem_alloc((void **)&s->tails, 2 * n, sizeof *s->tails, err));
    TRY(mem_alloc((void **)&s->target, n, sizeof *s->target, err));
    TRY(verify_take_tokens(v, 1, length, s->target, err));
    TRY(mem_alloc((void **)&q, n * (size_t)m->nout, sizeof *q, err));
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t d = 0; d < m->nout; d++)
            q[i * m->nout + d] =
                st_value(z, (i / length * 2 * hsize + m->nhid + d) * length + i % length);
    enum status status = logits_of(v, q, s->rows, &s->logits, err);
    for (int64_t i = 0; i < s->rows && status == STATUS_OK; i++) {
        double *x = s->logits + i * s->vocab, *sum = s->sums + i * (s->vocab + 1);
        double shift = log_sum_exp(x, s->vocab);
        for (int64_t k = 0; k < s->vocab; k++) {
            x[k] -= shift;
            sum[k + 1] = sum[k] + exp(x[k]);
        }
        for (int64_t k = 0; k < 2; k++) {
            s->tails[2 * i + k] = st_value(bias, k) - shift;
            for (int64_t d = 0; d < m->nout; d++)
                s->tails[2 * i + k] += q[i * m->nout + d] * st_value(rows, k * m->nout + d);
        }
    }
    mem_free(q);
    return status;
}

/* The published code keeps the cutoffs of its split softmax apart from the model, and a dump may
 * not name them. They are then the pair whose loss is the dump's. Of thousands of pairs one agrees
 * to 1e-9, and the comparison of all gradients confirms it. */
enum status verify_trellis_cutoffs(struct verify *v, struct error *err)
{
    struct config_list *cutoffs = &v->config.model.cutoffs;
    const struct st_tensor *tails = verify_find(v, "tail_vectors");
    const struct st_tensor *loss = verify_find(v, "s0:loss_split");
    struct search s = {0};
    enum status status = STATUS_OK;
    if (tails == NULL || loss == NULL || cutoffs->count > 0)
        return STATUS_OK;
    if (tails->dim[0] != 2 || v->config.model.vocab_size > 4096)
        return verify_fail(v, "(config)",
                           "cutoffs: not in the configuration, and only two of at most 4096 words "
                           "are searched for",
                           err);
    TRY_OUT(load_search(v, &s, err));
    double best = INFINITY;
    for (int64_t a = 1; a < s.vocab; a++)
        for (int64_t b = a + 1; b < s.vocab; b++) {
            double off = fabs(split_loss(&s, a, b) - st_value(loss, 0));
            if (off < best) {
                best = off;
                *cutoffs = (struct config_list){.count = 2, .value = {a, b}};
            }
        }
    if (!(best <= 1e-9 * fabs(st_value(loss, 0)))) {
        *cutoffs = (struct config_list){0};
        status = verify_fail(v, "s0:loss_split", "no two cutoffs give this loss", err);
    }
    v->config.model.tie_projs = (struct config_list){0};
out:
    mem_free(s.logits);
    mem_free(s.sums);
    mem_free(s.tails);
    mem_free(s.target);
    return status;
}

/* --- kind "f" --------------------------------------------------------------------------------- */

struct f_case {
    int64_t batch, length;
    struct tensor z, z0, u, cotangent, jac_v; /* owns, as in the dump */
    struct tensor e, f, dz, scratch, dz0;     /* owns */
};

static void free_case(struct f_case *c, struct backend *be)
{
    struct tensor *const all[] = {&c->z, &c->z0, &c->u,  &c->cotangent, &c->jac_v,
                                  &c->e, &c->f,  &c->dz, &c->scratch,   &c->dz0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
}

static enum status load_case(struct verify *v, struct f_case *c, struct error *err)
{
    const struct config_model *m = &v->config.model;
    int64_t hsize = m->nhid + m->nout;
    TRY(verify_load_tensor(v, "z", LAYOUT_BCT, &c->z, err));
    TRY(verify_load_tensor(v, "z0", LAYOUT_BCT, &c->z0, err));
    TRY(verify_load_tensor(v, "u", LAYOUT_BCT, &c->u, err));
    TRY(verify_load_tensor(v, "cotangent", LAYOUT_BCT, &c->cotangent, err));
    c->batch = c->z.dim[0];
    c->length = c->z.dim[1];
    if (c->z.dim[2] != 2 * hsize || c->u.dim[2] != 4 * hsize || c->u.dim[1] != c->length ||
        c->u.dim[0] != c->batch || c->z0.dim[0] != c->batch || c->z0.dim[1] != 1 ||
        c->z0.dim[2] != 2 * hsize || tensor_count(&c->cotangent) != tensor_count(&c->z))
        return error_set(err, STATUS_DATA, "%s: z, z0, u, cotangent do not fit each other",
                         v->path);
    if (c->length > v->config.train.tgt_len)
        v->config.train.tgt_len = c->length;
    return STATUS_OK;
}

/* Begins a segment of zeros behind z0, and then replaces its injection by the dump's. */
static enum status begin_case(struct verify *v, struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    struct trellis_cell *cell = cell_of(v);
    enum dtype real = be->ops->real;
    int64_t b = c->batch, l = c->length, w = cell->base.width;
    const struct masks none = {.source = MASKS_NONE};
    TRY(op_alloc(be, &c->e, real, 3, b, l, cell->embed, 1, err));
    TRY(op_alloc(be, &c->f, real, 3, b, l, w, 1, err));
    TRY(op_alloc(be, &c->dz, real, 3, b, l, w, 1, err));
    TRY(op_alloc(be, &c->scratch, real, 3, b, l, w, 1, err));
    TRY(op_alloc(be, &c->dz0, real, 3, b, 1, w, 1, err));
    memory_push(&cell->states[0], be, &c->z0, &cell->kept);
    cell->base.ops->begin(&cell->base, &c->e, &none);
    struct copy_block p = {.from = c->u, .to_row = 4 * cell->half};
    p.to = tensor_make(cell->u.data, real, 3, b, l, 4 * cell->half, 1);
    p.to_batch = cell->pitch * p.to_row;
    op_copy_block(be, &p);
    return STATUS_OK;
}

/* Training treats the state before the segment as constant. The dump has its gradient too, which
 * reaches h through every tap that reads it, and c through the first gate. The cell's dpre is
 * that of the cotangent. */
static enum status compare_dz0(struct verify *v, struct f_case *c, struct error *err)
{
    struct backend *be = v->be;
    struct trellis_cell *cell = cell_of(v);
    int64_t b = c->batch, h = cell->half, pitch = cell->pitch, taps = cell->state.taps;
    size_t size = dtype_size(be->ops->real);
    struct tensor dc0 = {0};
    TRY(op_alloc(be, &dc0, be->ops->real, 3, b, 1, h, 1, err));
    struct tensor gates = tensor_prefix(&cell->gates[0], 3, b, pitch, 4 * h, 1);
    struct tensor dpre = tensor_prefix(&cell->dpre, 3, b, pitch, 4 * h, 1);
    struct lstm_cell_vjp gate = {.gates = gates,
                                 .z = c->z,
                                 .c0 = cell->c0,
                                 .out = c->f,
                                 .dout = c->cotangent,
                                 .dpre = dpre,
                                 .dz = c->scratch};
    gate.dc0 = tensor_shape(&dc0, 2, b, h, 1, 1);
    op_lstm_cell_vjp(be, &gate);
    struct copy_block p = {.from = dc0, .to_row = 2 * h, .to_batch = 2 * h};
    p.to = tensor_make((char *)c->dz0.data + (size_t)h * size, dc0.dtype, 3, b, 1, h, 1);
    op_copy_block(be, &p);
    for (int64_t r = 0; r < cell->pad; r++)
        for (int64_t j = 0; j < taps; j++) {
            int64_t row = r - j * cell->state.dilation;
            if (row < 0 || row >= c->length)
                continue;
            struct gemm g = {.alpha = 1, .beta = 1, .a_stride = pitch * 4 * h};
            const struct tensor *w = &cell->state.weight.w;
            g.a = tensor_make((char *)dpre.data + (size_t)(row * 4 * h) * size, dpre.dtype, 2, b,
                              4 * h, 1, 1);
            g.b =
                tensor_make((char *)w->data + (size_t)(j * h) * size, w->dtype, 2, 4 * h, h, 1, 1);
            g.b_stride = taps * h;
            g.c = tensor_make(c->dz0.data, dpre.dtype, 2, b, h, 1, 1);
            g.c_stride = 2 * h;
            op_gemm(be, &g);
        }
    op_release(be, &dc0);
    return verify_tensor(v, "dz0", &c->dz0, LAYOUT_BCT, TOL_GRADIENT, err);
}

static enum status compare_jacobian(struct verify *v, struct f_case *c, struct error *err)
{
    struct cell *cell = v->model->cell;
    if (verify_find(v, "jac_v") == NULL)
        return STATUS_OK;
    TRY(verify_load_tensor(v, "jac_v", LAYOUT_BCT, &c->jac_v, err));
    if (tensor_count(&c->jac_v) != tensor_count(&c->z))
        return error_set(err, STATUS_DATA, "%s: jac_v does not fit z", v->path);
    cell->ops->vjp(cell, 0, &c->z, &c->f, &c->jac_v, &c->dz, false);
    return verify_jacobian_product(v, &c->dz, err);
}

static enum status run(struct verify *v, struct f_case *c, struct error *err)
{
    static const char second[] = "second derivative: not computed";
    TRY(load_case(v, c, err));
    TRY(verify_setup_model(v, c->batch, "w", true, err));
    TRY(begin_case(v, c, err));
    struct cell *cell = v->model->cell;
    cell->ops->eval(cell, 0, &c->z, &c->f);
    TRY(verify_tensor(v, "out", &c->f, LAYOUT_BCT, TOL_FORWARD, err));
    cell->ops->vjp(cell, 0, &c->z, &c->f, &c->cotangent, &c->dz, true);
    model_finish_gradients(v->model);
    TRY(verify_tensor(v, "dz", &c->dz, LAYOUT_BCT, TOL_GRADIENT, err));
    const struct padded du = {&cell_of(v)->du, c->batch, c->length};
    TRY(compare_padded(v, "du", &du, TOL_GRADIENT, err));
    TRY(compare_dz0(v, c, err));
    TRY(verify_compare_gradients(v, "g:", TOL_GRADIENT, err));
    TRY(compare_jacobian(v, c, err));
    TRY(verify_skip(v, "jac_dz", second, err));
    return verify_skip_prefix(v, "jg:", second, err);
}

enum status verify_trellis_f(struct verify *v, struct error *err)
{
    struct f_case c = {0};
    enum status status = run(v, &c, err);
    free_case(&c, v->be);
    return status;
}
