/* The gradient of each method on the same segments, beside the reference. */
#include "bench/gradient_bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "data/stream.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SETTINGS = 8 };

struct method {
    const char *name;
    const char *set[MAX_SETTINGS];
};

#define BACKWARD(m, s, n, h)                                                             \
    "gradient.method=implicit", "solver.backward.method=" m, "solver.backward.scope=" s, \
        "solver.backward.stop=fixed", "solver.backward.max_iter=" n, "solver.backward.history=" h
#define TOLERANCE(tol)                                                                            \
    "gradient.method=implicit", "solver.backward.method=anderson", "solver.backward.scope=token", \
        "solver.backward.stop=rel", "solver.backward.tol=" tol, "solver.backward.max_iter=60"

static const struct method methods[] = {
    {"as configured", {NULL}},
    {"implicit, anderson token, 2", {BACKWARD("anderson", "token", "2", "3")}},
    {"implicit, anderson token, 4", {BACKWARD("anderson", "token", "4", "3")}},
    {"implicit, anderson token, 6", {BACKWARD("anderson", "token", "6", "3")}},
    {"implicit, anderson token, 12", {BACKWARD("anderson", "token", "12", "3")}},
    {"implicit, anderson prefix, 4", {BACKWARD("anderson", "prefix", "4", "5")}},
    {"implicit, anderson prefix, 6", {BACKWARD("anderson", "prefix", "6", "5")}},
    {"implicit, anderson prefix, 12", {BACKWARD("anderson", "prefix", "12", "5")}},
    {"implicit, broyden batch, 4", {BACKWARD("broyden", "batch", "4", "12")}},
    {"implicit, broyden batch, 6", {BACKWARD("broyden", "batch", "6", "12")}},
    {"implicit, broyden batch, 12", {BACKWARD("broyden", "batch", "12", "12")}},
    {"implicit, picard, 4", {BACKWARD("picard", "token", "4", "1")}},
    {"implicit, picard, 12", {BACKWARD("picard", "token", "12", "1")}},
    {"implicit, token to 1e-1", {TOLERANCE("1e-1")}},
    {"implicit, token to 1e-2", {TOLERANCE("1e-2")}},
    {"implicit, token to 1e-3", {TOLERANCE("1e-3")}},
    {"one-step", {"gradient.method=one-step"}},
    {"phantom 2, damping 0.8",
     {"gradient.method=phantom", "gradient.steps=2", "gradient.damping=0.8"}},
    {"phantom 4, damping 0.5",
     {"gradient.method=phantom", "gradient.steps=4", "gradient.damping=0.5"}},
    {"phantom 4, damping 0.8",
     {"gradient.method=phantom", "gradient.steps=4", "gradient.damping=0.8"}},
    {"phantom 6, damping 0.5",
     {"gradient.method=phantom", "gradient.steps=6", "gradient.damping=0.5"}},
    {"unroll 4", {"gradient.method=unroll", "gradient.steps=4"}},
    {"unroll 8", {"gradient.method=unroll", "gradient.steps=8"}},
    {"unroll 12", {"gradient.method=unroll", "gradient.steps=12"}},
    {"truncated 4 of 8",
     {"gradient.method=truncated", "gradient.steps=4", "gradient.mean=8",
      "gradient.draw=sequence"}},
    {"truncated 4 of 12, fixed",
     {"gradient.method=truncated", "gradient.steps=4", "gradient.mean=12", "gradient.draw=fixed"}},
    {"reversible 2", {"gradient.method=reversible", "gradient.steps=2", "gradient.damping=0.5"}},
    {"reversible 4", {"gradient.method=reversible", "gradient.steps=4", "gradient.damping=0.5"}},
    {"reversible 6", {"gradient.method=reversible", "gradient.steps=6", "gradient.damping=0.5"}},
};
enum { METHODS = sizeof methods / sizeof *methods };

/* The reference solves by Anderson over decayed prefixes, as tightly as float32 allows. */
static const char *const tight_forward[] = {
    "solver.forward.method=anderson", "solver.forward.scope=prefix", "solver.forward.stop=rel",
    "solver.forward.tol=3e-6",        "solver.forward.max_iter=80",  "solver.forward.history=8",
    "solver.forward.stall=20",        "solver.forward.damping=1",    NULL};
static const char *const tight_backward[] = {
    "solver.backward.method=anderson", "solver.backward.scope=prefix",
    "solver.backward.stop=rel",        "solver.backward.tol=3e-6",
    "solver.backward.max_iter=80",     "solver.backward.history=8",
    "solver.backward.stall=20",        "solver.backward.damping=1",
    "gradient.method=implicit",        NULL};

static enum status set_all(struct config *c, const char *const *settings, struct error *err)
{
    for (int i = 0; settings[i] != NULL; i++)
        TRY(config_set(c, settings[i], err));
    return STATUS_OK;
}

struct comparison {
    struct backend *be;
    const struct gradient_options *options;
    struct config base;      /* as given, but without added losses and pre-training */
    struct model *reference; /* owns */
    struct stream *stream;   /* owns */
    struct tensor scratch;   /* owns, for memory_push */
    float *want, *got;       /* owns [total] gradients on the host */
    struct masks masks;
};

static enum status make_model(struct comparison *c, const struct config *config,
                              struct params *shared, struct model **out, struct error *err)
{
    const struct config_train *t = &config->train;
    struct model_plan plan = {.batch = t->batch / t->accumulate,
                              .length = t->tgt_len,
                              .mem_len = t->mem_len,
                              .train = true,
                              .replay = true};
    return model_create(out, c->be, config, shared, &plan, err);
}

static enum status set_up(struct comparison *c, struct snapshot *from, const struct config *config,
                          struct error *err)
{
    static const char *const plain[] = {"jacobian.weight=0", "jacobian.ramp_every=0",
                                        "correction.weight=0", "train.pretrain_steps=0", NULL};
    c->base = *config;
    if (config->model.layers > 0)
        return error_set(err, STATUS_CONFIG,
                         "model.layers: an explicit network has no fixed point to differentiate "
                         "through");
    TRY(set_all(&c->base, plain, err));
    struct config tight = c->base;
    TRY(set_all(&tight, tight_forward, err));
    TRY(set_all(&tight, tight_backward, err));
    if (c->options->tight_forward)
        TRY(set_all(&c->base, tight_forward, err));
    TRY(config_resolve(&tight, tight.model.vocab_size, err));
    TRY(make_model(c, &tight, NULL, &c->reference, err));
    TRY(snapshot_read_params(from, c->reference->params, err));
    const struct model_plan *p = &c->reference->plan;
    struct stream_config data = {.dir = c->base.data.dir,
                                 .split = c->options->split,
                                 .format = c->base.data.format,
                                 .vocab = from->vocab,
                                 .batch = p->batch,
                                 .length = p->length};
    TRY(stream_open(&c->stream, &data, err));
    if (stream_vocab_hash(c->stream) != vocab_hash(from->vocab))
        return error_set(err, STATUS_DATA,
                         "%s: another vocabulary than the checkpoint's: tokenize the text with "
                         "deq tokenize --vocab %s",
                         c->base.data.dir, checkpoint_path(from->file));
    if (p->mem_len > 0)
        TRY(op_alloc(c->be, &c->scratch, c->be->ops->real, 1,
                     p->batch * p->mem_len * 3 * c->base.model.d_model, 1, 1, 1, err));
    size_t total = (size_t)c->reference->params->total;
    TRY(mem_alloc((void **)&c->want, total, sizeof *c->want, err));
    return mem_alloc((void **)&c->got, total, sizeof *c->got, err);
}

static void copy_memory(struct comparison *c, struct model *m)
{
    struct memory *from, *to;
    struct cell *a = c->reference->cell, *b = m->cell;
    cell_reset_memory(b);
    for (int i = 0; (from = a->ops->memory(a, i)) != NULL; i++) {
        to = b->ops->memory(b, i);
        struct tensor rows = memory_view(from);
        if (rows.data != NULL)
            memory_push(to, c->be, &rows, &c->scratch);
    }
}

/* Computes the gradient of a segment into to[total], and fills the row's times and evaluations. */
static enum status gradient(struct comparison *c, struct model *m, const struct batch *batch,
                            float *to, struct gradient_row *row, struct error *err)
{
    struct solve_report forward, backward;
    double start = clock_seconds(), between;
    model_refresh(m);
    model_begin(m, batch->input, batch->L, &c->masks);
    TRY(model_solve(m, 0, true, err));
    row->forward_s = clock_seconds() - start;
    model_loss(m, batch->target, 1.0 / (double)(batch->B * batch->L), true);
    between = clock_seconds();
    TRY(model_backward(m, err));
    model_finish_gradients(m);
    op_download(c->be, to, DTYPE_F32, &m->params->g);
    row->backward_s = clock_seconds() - between;
    TRY(model_report(m, &forward, &backward, err));
    bool implicit =
        equilibrium_unrolled(m->eq) == 0 && equilibrium_solves(m->eq, DIRECTION_BACKWARD);
    row->forward_evals = forward.evals_mean;
    if (equilibrium_is_solved(m->eq)) /* phantom steps come after the solve */
        row->forward_evals += (double)equilibrium_unrolled(m->eq);
    row->backward_evals = backward.evals_mean + (implicit ? 1 : 0); /* and the one for parameters */
    return STATUS_OK;
}

static void compare(struct comparison *c, struct gradient_row *row)
{
    double gg = 0, rr = 0, gr = 0, off = 0;
    for (int64_t i = 0; i < c->reference->params->total; i++) {
        double g = c->got[i], r = c->want[i];
        gg += g * g;
        rr += r * r;
        gr += g * r;
        off += (g - r) * (g - r);
    }
    row->cosine = gr / sqrt(gg * rr);
    row->error = sqrt(off / rr);
}

static void add_row(struct gradient_row *sum, const struct gradient_row *one, double weight)
{
    sum->cosine += weight * one->cosine;
    sum->error += weight * one->error;
    sum->forward_s += weight * one->forward_s;
    sum->backward_s += weight * one->backward_s;
    sum->forward_evals += weight * one->forward_evals;
    sum->backward_evals += weight * one->backward_evals;
}

/* Runs one method on one segment. The first of the two runs warms the caches, and the second is
 * timed. */
static enum status try_method(struct comparison *c, const struct method *method,
                              const struct batch *batch, struct gradient_row *sum,
                              struct error *err)
{
    struct config config = c->base;
    struct model *m = NULL;
    struct gradient_row one;
    enum status status = STATUS_OK;
    size_t before = c->be->bytes;
    TRY(set_all(&config, method->set, err));
    TRY(config_resolve(&config, config.model.vocab_size, err));
    TRY(make_model(c, &config, c->reference->params, &m, err));
    sum->bytes = (double)(c->be->bytes - before);
    copy_memory(c, m);
    for (int i = 0; i < 2; i++)
        TRY_OUT(gradient(c, m, batch, c->got, &one, err));
    compare(c, &one);
    add_row(sum, &one, 1.0 / (double)c->options->segments);
out:
    model_free(m);
    return status;
}

static enum status note_residuals(struct comparison *c, struct gradient_bench *b, struct error *err)
{
    struct solve_report forward, backward;
    TRY(model_report(c->reference, &forward, &backward, err));
    b->forward_residual = fmax(b->forward_residual, forward.rel_max);
    b->backward_residual = fmax(b->backward_residual, backward.rel_max);
    return STATUS_OK;
}

static enum status measure_segment(struct comparison *c, struct gradient_bench *b,
                                   const struct batch *batch, struct error *err)
{
    struct gradient_row one;
    for (int i = 0; i < 2; i++)
        TRY(gradient(c, c->reference, batch, c->want, &one, err));
    TRY(note_residuals(c, b, err));
    memcpy(c->got, c->want, (size_t)c->reference->params->total * sizeof *c->got);
    compare(c, &one);
    add_row(&b->rows[0], &one, 1.0 / (double)c->options->segments);
    for (int i = 0; i < METHODS; i++)
        TRY(try_method(c, &methods[i], batch, &b->rows[1 + i], err));
    /* the methods overwrote the shared gradients, but the reference's states are still valid */
    model_remember(c->reference);
    return STATUS_OK;
}

static enum status run_segments(struct comparison *c, struct gradient_bench *b, struct error *err)
{
    const struct model_plan *p = &c->reference->plan;
    int64_t warm = (p->mem_len + p->length - 1) / p->length;
    for (int64_t i = 0; i < warm + c->options->segments; i++) {
        struct batch batch;
        struct gradient_row unused;
        TRY(stream_next(c->stream, &batch, err));
        c->masks.draw++;
        if (i >= warm) {
            TRY(measure_segment(c, b, &batch, err));
            continue;
        }
        TRY(gradient(c, c->reference, &batch, c->want, &unused, err));
        model_remember(c->reference);
    }
    return STATUS_OK;
}

enum status gradient_bench_run(struct gradient_bench *b, struct backend *be, struct snapshot *from,
                               const struct config *config, const struct gradient_options *options,
                               struct error *err)
{
    enum status status = STATUS_OK;
    struct comparison c = {.be = be, .options = options};
    c.masks = (struct masks){.source = MASKS_DRAWN, .seed = (uint64_t)config->train.seed};
    *b = (struct gradient_bench){.count = METHODS + 1};
    TRY_OUT(mem_alloc((void **)&b->rows, METHODS + 1, sizeof *b->rows, err));
    snprintf(b->rows[0].name, sizeof b->rows[0].name, "reference: implicit, to 3e-6");
    for (int i = 0; i < METHODS; i++)
        snprintf(b->rows[1 + i].name, sizeof b->rows[0].name, "%s", methods[i].name);
    size_t before = be->bytes;
    TRY_OUT(set_up(&c, from, config, err));
    const struct params *p = c.reference->params;
    b->rows[0].bytes = (double)(be->bytes - before) - (double)tensor_bytes(&p->w) -
                       (double)tensor_bytes(&p->g) - (double)tensor_bytes(&c.scratch);
    TRY_OUT(run_segments(&c, b, err));
    TRY_OUT(backend_check(be, err));
out:
    model_free(c.reference);
    stream_close(c.stream);
    op_release(be, &c.scratch);
    mem_free(c.want);
    mem_free(c.got);
    return status;
}

void gradient_bench_free(struct gradient_bench *b)
{
    mem_free(b->rows);
    *b = (struct gradient_bench){0};
}
