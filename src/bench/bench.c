/* Steps on random tokens, timed as a whole and phase by phase. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "train/trainer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_STEPS = 3, SEED = 1 };

static enum status set_all(struct config *config, const char *const *settings, size_t count,
                           struct error *err)
{
    config_defaults(config);
    for (size_t i = 0; i < count; i++)
        TRY(config_set(config, settings[i], err));
    return STATUS_OK;
}

enum status bench_train_setting(struct config *config, struct error *err)
{
    static const char *const settings[] = {
        "model.d_model=256",
        "model.n_head=8",
        "model.d_inner=1024",
        "model.wnorm=true",
        "model.dropout=0",
        "model.init_std=0.05",
        "train.batch=8",
        "train.tgt_len=64",
        "train.mem_len=64",
        "train.pretrain_steps=0",
        "train.clip=0.25",
        "solver.forward.method=broyden",
        "solver.forward.scope=batch",
        "solver.forward.stop=fixed",
        "solver.forward.max_iter=13",
        "solver.forward.history=11",
        "solver.backward.method=broyden",
        "solver.backward.scope=batch",
        "solver.backward.stop=fixed",
        "solver.backward.max_iter=12",
        "solver.backward.history=11",
    };
    return set_all(config, settings, sizeof settings / sizeof *settings, err);
}

enum status bench_width_setting(struct config *config, struct error *err)
{
    static const char *const settings[] = {
        "model.d_model=128",
        "model.n_head=4",
        "model.d_inner=512",
        "model.nhid=192",
        "model.nout=64",
        "model.dropout=0",
        "train.batch=8",
        "train.tgt_len=64",
        "train.mem_len=64",
        "train.pretrain_steps=0",
        "solver.forward.stop=fixed",
        "solver.forward.history=5",
        "solver.backward.history=3",
    };
    return set_all(config, settings, sizeof settings / sizeof *settings, err);
}

struct bench {
    struct model *model; /* owns */
    struct optimizer optimizer;
    size_t optimizer_bytes;
    struct dist *dist; /* owns, imagined, or NULL for one rank */
    int32_t *tokens;   /* owns [2 * count] input and target of a part */
    int64_t count;     /* B*L of a part */
    int64_t parts;     /* of a step */
    int64_t done;      /* steps */
    int64_t layers;    /* of a training step, 0 for a solve */
    bool train;
    uint64_t drawn;
    struct op_stat (*phase)[OP_COUNT]; /* borrows: [BENCH_COUNT]; NULL: not wanted */
    struct op_stat before[OP_COUNT];   /* when the current phase began */
};

const char *bench_phase_text(enum bench_phase phase)
{
    static const char *const texts[BENCH_COUNT] = {"embedding and injection", "forward solve",
                                                   "softmax and loss",        "backward solve",
                                                   "memory and weights",      "optimizer"};
    return phase < BENCH_COUNT ? texts[phase] : "unknown";
}

void bench_order(const struct op_stat stat[OP_COUNT], enum op_id order[OP_COUNT])
{
    for (int i = 0; i < OP_COUNT; i++) {
        int j = i;
        for (; j > 0 && stat[i].seconds > stat[order[j - 1]].seconds; j--)
            order[j] = order[j - 1];
        order[j] = (enum op_id)i;
    }
}

/* Adds to a phase all that the backend has counted since the phase before it ended. */
static void end_phase(struct bench *b, enum bench_phase phase)
{
    const struct op_stat *now = b->model->be->stat;
    if (b->phase == NULL)
        return;
    backend_settle(b->model->be);
    for (int i = 0; i < OP_COUNT; i++) {
        struct op_stat *to = &b->phase[phase][i], *before = &b->before[i];
        to->calls += now[i].calls - before->calls;
        to->seconds += now[i].seconds - before->seconds;
        to->flops += now[i].flops - before->flops;
        to->bytes += now[i].bytes - before->bytes;
        *before = now[i];
    }
}

static void draw_tokens(struct bench *b)
{
    double vocab = (double)b->model->config.model.vocab_size;
    struct rng_key key = {SEED, rng_stream(RNG_SAMPLE, 0, 0)};
    for (int64_t i = 0; i < 2 * b->count; i++)
        b->tokens[i] = (int32_t)(pow(vocab, rng_uniform(key, b->drawn++)) - 1);
}

static enum status one_part(struct bench *b, int64_t n, int64_t index, struct error *err)
{
    struct model *m = b->model;
    struct masks masks = {
        .source = MASKS_DRAWN, .seed = SEED, .draw = (uint64_t)(n * b->parts + index)};
    draw_tokens(b);
    model_select_memory(m, (int)index);
    model_begin(m, b->tokens, m->plan.length, &masks);
    end_phase(b, BENCH_EMBED);
    TRY(model_solve(m, b->layers, true, err));
    end_phase(b, BENCH_FORWARD);
    model_loss(m, b->tokens + b->count, 1.0 / (double)(b->count * b->parts), true);
    end_phase(b, BENCH_LOSS);
    TRY(model_backward(m, err));
    end_phase(b, BENCH_BACKWARD);
    model_remember(m);
    (void)model_read_loss(m, NULL);
    end_phase(b, BENCH_REMEMBER);
    return STATUS_OK;
}

static enum status training_step(struct bench *b, struct error *err)
{
    struct model *m = b->model;
    double norm;
    model_refresh(m);
    for (int64_t i = 0; i < b->parts; i++)
        TRY(one_part(b, b->done, i, err));
    model_finish_gradients(m);
    end_phase(b, BENCH_REMEMBER);
    optimizer_step(&b->optimizer, m->config.train.lr, &norm);
    end_phase(b, BENCH_OPTIMIZER);
    return backend_check(m->be, err);
}

static enum status evaluation_segment(struct bench *b, struct error *err)
{
    struct model *m = b->model;
    struct masks masks = {.source = MASKS_NONE};
    draw_tokens(b);
    model_begin(m, b->tokens, m->plan.length, &masks);
    end_phase(b, BENCH_EMBED);
    TRY(model_solve(m, 0, false, err));
    end_phase(b, BENCH_FORWARD);
    model_loss(m, b->tokens + b->count, 1.0 / (double)b->count, false);
    end_phase(b, BENCH_LOSS);
    model_remember(m);
    (void)model_read_loss(m, NULL);
    end_phase(b, BENCH_REMEMBER);
    return backend_check(m->be, err);
}

/* Runs as many steps as fill the segment memory, and at least one. */
static enum status fill_memory(struct bench *b, struct error *err)
{
    const struct config_train *c = &b->model->config.train;
    int64_t fill = (c->mem_len + c->tgt_len - 1) / c->tgt_len;
    double ignored;
    do
        TRY(bench_step(b, &ignored, err));
    while (b->done < fill);
    return STATUS_OK;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *times, int64_t count)
{
    qsort(times, (size_t)count, sizeof *times, compare);
    return times[count / 2];
}

enum status bench_open(struct bench **out, struct backend *be, const struct config *config,
                       bool train, int ranks, struct error *err)
{
    enum status status = STATUS_OK;
    const struct config_train *c = &config->train;
    struct bench *b;
    *out = NULL;
    TRY(mem_alloc((void **)&b, 1, sizeof *b, err));
    b->parts = train ? c->accumulate : 1;
    b->train = train;
    struct model_plan plan = {.batch = c->batch / b->parts,
                              .length = c->tgt_len,
                              .mem_len = c->mem_len,
                              .memories = (int)b->parts,
                              .train = train};
    b->count = plan.batch * c->tgt_len;
    TRY_OUT(trainer_set_precision(be, c, err));
    TRY_OUT(mem_alloc((void **)&b->tokens, (size_t)(2 * b->count), sizeof *b->tokens, err));
    TRY_OUT(model_create(&b->model, be, config, NULL, &plan, err));
    TRY_OUT(params_initialize(b->model->params, SEED, err));
    TRY_OUT(dist_imagine(&b->dist, ranks, err));
    size_t before = be->bytes;
    if (train)
        TRY_OUT(optimizer_create(&b->optimizer, b->model->params, c, b->dist, err));
    else
        model_refresh(b->model);
    b->optimizer_bytes = be->bytes - before;
    *out = b;
    return STATUS_OK;
out:
    bench_close(b);
    return status;
}

void bench_close(struct bench *b)
{
    if (b == NULL)
        return;
    optimizer_free(&b->optimizer);
    dist_forget(b->dist);
    model_free(b->model);
    mem_free(b->tokens);
    mem_free(b);
}

enum status bench_step(struct bench *b, double *seconds, struct error *err)
{
    double start = clock_seconds();
    TRY(b->train ? training_step(b, err) : evaluation_segment(b, err));
    b->done++;
    *seconds = clock_seconds() - start;
    if (b->model->be->timeline != NULL)
        timeline_step(b->model->be->timeline, start, *seconds);
    return STATUS_OK;
}

const struct model *bench_model(const struct bench *b)
{
    return b->model;
}

const struct optimizer *bench_optimizer(const struct bench *b)
{
    return &b->optimizer;
}

enum status bench_warm(struct bench *b, struct error *err)
{
    double ignored;
    TRY(fill_memory(b, err));
    while (b->done < WARM_STEPS)
        TRY(bench_step(b, &ignored, err));
    return STATUS_OK;
}

/* Counts operations from now on, phase by phase. */
static void begin_phases(struct bench *b, struct bench_step_result *r)
{
    backend_reset_stats(b->model->be);
    b->phase = r->phase;
    memset(b->before, 0, sizeof b->before);
}

static void end_phases(struct bench *b, struct bench_step_result *r)
{
    b->phase = NULL;
    for (int i = 0; i < OP_COUNT; i++)
        r->stat[i] = b->model->be->stat[i];
}

/* Repeats as many steps as were timed, in which the device times each operation. */
static enum status time_operations(struct bench *b, struct bench_step_result *r, struct error *err)
{
    enum status status = STATUS_OK;
    struct backend *be = b->model->be;
    double ignored;
    TRY(backend_time_calls(be, true, err));
    begin_phases(b, r);
    for (int64_t i = 0; i < r->steps; i++)
        TRY_OUT(bench_step(b, &ignored, err));
    end_phases(b, r);
    r->device_times = true;
out:
    (void)backend_time_calls(be, false, err); /* which cannot fail */
    return status;
}

static enum status time_steps(struct bench *b, const struct bench_options *o,
                              struct bench_step_result *r, double *times, struct error *err)
{
    bool own_clock = b->model->be->ops->clock != NULL;
    double begin = clock_seconds();
    b->layers = o->layers;
    if (o->budget > 0)
        TRY(fill_memory(b, err));
    else
        TRY(bench_warm(b, err));
    if (!own_clock)
        begin_phases(b, r);
    while (r->steps < o->steps) {
        if (r->steps > 0 && o->budget > 0 && clock_seconds() - begin > o->budget)
            break;
        TRY(bench_step(b, &times[r->steps], err));
        r->total_seconds += times[r->steps++];
        if (o->between != NULL)
            o->between(o->ctx);
    }
    if (!own_clock)
        end_phases(b, r);
    r->seconds = bench_median(times, r->steps);
    r->fastest = times[0];
    return own_clock ? time_operations(b, r, err) : STATUS_OK;
}

static void count_exchange(const struct bench *b, const struct config *config,
                           struct bench_step_result *r)
{
    const struct params *p = b->model->params;
    int64_t from, to;
    trainer_early_buckets(p, config, &from, &to);
    r->numbers = p->total;
    r->early = (to - from) * dist_bucket_size(p->total);
    r->gathered = dist_gathered(b->dist) / b->done;
}

enum status bench_run(struct backend *be, const struct config *config,
                      const struct bench_options *options, struct bench_step_result *r,
                      struct error *err)
{
    enum status status = STATUS_OK;
    struct solve_report forward, backward;
    struct bench *b = NULL;
    double *times = NULL;
    *r = (struct bench_step_result){.tokens = config->train.batch * config->train.tgt_len};
    TRY_OUT(mem_alloc((void **)&times, (size_t)options->steps, sizeof *times, err));
    TRY_OUT(bench_open(&b, be, config, options->train, options->ranks, err));
    r->optimizer_bytes = b->optimizer_bytes;
    r->bytes = b->model->bytes;
    r->parameters = params_distinct(b->model->params, NULL);
    memcpy(r->planned, be->planned, sizeof r->planned);
    TRY_OUT(time_steps(b, options, r, times, err));
    TRY_OUT(model_report(b->model, &forward, &backward, err));
    r->forward_evals = (double)forward.evals;
    count_exchange(b, config, r);
    r->backward_evals = options->train ? (double)backward.evals : 0;
out:
    bench_close(b);
    mem_free(times);
    return status;
}
