/* A training step run on the backend that counts. */
#include "bench/plan.h"

#include "train/trainer.h"

/* Seconds for which steps are measured, and how many of them at most. */
enum { MEASURED_STEPS = 20 };
static const double MEASURED_SECONDS = 1, UNROLLED_SECONDS = 0.3;

static double sum_seconds(const struct op_stat *stat)
{
    double sum = 0;
    for (int i = 0; i < OP_COUNT; i++)
        sum += stat[i].seconds;
    return sum;
}

/* The model that validation runs beside the training, as run/run.c plans it, is made and shown. */
static enum status visit_evaluation(struct backend *be, const struct config *config,
                                    plan_visitor *visit, void *ctx, struct error *err)
{
    struct params params;
    struct model *model = NULL;
    const struct config_eval *c = &config->eval;
    struct model_plan plan = {.batch = c->batch, .length = c->tgt_len, .mem_len = c->mem_len};
    enum status status = STATUS_OK;
    params_init(&params, be);
    TRY_OUT(model_declare(&params, &config->model, err));
    TRY_OUT(params_commit(&params, false, err));
    TRY_OUT(model_create(&model, be, config, &params, &plan, err));
    visit(ctx, "evaluation beside the training", model->ws);
out:
    model_free(model);
    params_free(&params);
    return status;
}

static void note_bytes(void *bytes, const char *owner, const struct workspace *ws)
{
    (void)owner;
    *(size_t *)bytes = workspace_bytes(ws);
}

/* The seconds that a step of pre-training is assumed to take, 0 if there is none. */
static enum status count_unrolled(double *seconds, const struct config *config,
                                  const struct count_device *device, struct error *err)
{
    struct backend be = {0};
    struct bench_step_result result;
    const struct bench_options o = {
        .train = true, .steps = 1, .layers = config->train.pretrain_layers};
    *seconds = 0;
    if (config->train.pretrain_steps == 0 || config->model.layers > 0)
        return STATUS_OK;
    TRY(count_open(&be, device, err));
    enum status status = bench_run(&be, config, &o, &result, err);
    *seconds = status == STATUS_OK ? sum_seconds(result.stat) : 0;
    backend_close(&be);
    return status;
}

/* The configuration of one of several ranks, which has its share of every batch that can be divided
 * (run/run.c). */
static struct config share_of(const struct config *config, const struct chip *chip)
{
    struct config own = *config;
    int ranks = chip->ranks > 1 ? chip->ranks : 1;
    own.train.batch /= ranks;
    if (own.eval.batch % ranks == 0)
        own.eval.batch /= ranks;
    return own;
}

/* One step on a counted device, and what memory it took. */
static enum status count_step(struct bench_step_result *result, struct plan_memory *m,
                              const struct config *config, const struct count_device *device,
                              int ranks, struct error *err)
{
    struct backend be = {0};
    TRY(count_open(&be, device, err));
    const struct bench_options one_step = {.train = true, .steps = 1, .ranks = ranks};
    enum status status = bench_run(&be, config, &one_step, result, err);
    *m = (struct plan_memory){.scratch = count_scratch(&be)};
    if (status == STATUS_OK)
        status = visit_evaluation(&be, config, note_bytes, &m->evaluation, err);
    m->total = m->scratch + m->evaluation;
    for (int i = 0; i < PART_COUNT; i++) {
        m->part[i] = result->planned[i];
        m->total += result->planned[i];
    }
    backend_close(&be);
    return status;
}

static enum precision precision_of(const struct config *config)
{
    return config->train.precision;
}

/* Adds what is shown of an exchange to the steps of the plan. The early sums travel beside the last
 * part of a batch. */
static void plan_exchange(struct plan *plan, const struct config *config, const struct chip *chip)
{
    struct bench_step_result *counts = &plan->counts;
    plan->exchange = (struct exchange){0};
    if (chip->ranks < 2)
        return;
    counts->tokens *= chip->ranks;
    const struct exchange_load load = {.numbers = counts->numbers,
                                       .early = counts->early,
                                       .gathered = counts->gathered,
                                       .beside = plan->phase_seconds[BENCH_BACKWARD] /
                                                 (double)config->train.accumulate};
    plan->exchange = exchange_plan(&load, chip);
    plan->seconds += plan->exchange.shown_seconds;
    if (plan->unrolled_seconds > 0)
        plan->unrolled_seconds += plan->exchange.shown_seconds;
}

enum status plan_make(struct plan *plan, const struct config *config, const struct chip *chip,
                      struct error *err)
{
    const struct config own = share_of(config, chip);
    struct count_device bound = chip_device(chip, precision_of(config), false);
    struct count_device real = chip_device(chip, precision_of(config), true);
    struct bench_step_result *counts = &plan->counts;
    TRY(trainer_check_ranks(&config->train, chip->ranks > 1 ? chip->ranks : 1, err));
    TRY(count_step(counts, &plan->memory, &own, &bound, chip->ranks, err));
    plan->bound_seconds = sum_seconds(counts->stat);
    for (int i = 0; i < OP_COUNT; i++)
        plan->bound[i] = counts->stat[i];
    for (int p = 0; p < BENCH_COUNT; p++)
        plan->phase_bound[p] = sum_seconds(counts->phase[p]);
    TRY(count_step(counts, &plan->memory, &own, &real, chip->ranks, err));
    plan->seconds = sum_seconds(counts->stat);
    for (int p = 0; p < BENCH_COUNT; p++)
        plan->phase_seconds[p] = sum_seconds(counts->phase[p]);
    plan->measured = false;
    TRY(count_unrolled(&plan->unrolled_seconds, &own, &real, err));
    plan_exchange(plan, config, chip);
    return STATUS_OK;
}

enum status plan_measure(struct plan *plan, const struct config *config, struct backend *be,
                         struct error *err)
{
    struct bench_options o = {.train = true, .steps = MEASURED_STEPS, .budget = MEASURED_SECONDS};
    struct bench_step_result r;
    TRY(bench_run(be, config, &o, &r, err));
    plan->measured = true;
    plan->seconds = r.seconds;
    for (int i = 0; i < OP_COUNT; i++)
        plan->counts.stat[i].seconds = r.stat[i].seconds / (double)r.steps;
    for (int p = 0; p < BENCH_COUNT; p++) {
        plan->phase_seconds[p] = sum_seconds(r.phase[p]) / (double)r.steps;
        for (int i = 0; i < OP_COUNT; i++)
            plan->counts.phase[p][i].seconds = r.phase[p][i].seconds / (double)r.steps;
    }
    if (plan->unrolled_seconds == 0)
        return STATUS_OK;
    o.layers = config->train.pretrain_layers;
    o.budget = UNROLLED_SECONDS;
    TRY(bench_run(be, config, &o, &r, err));
    plan->unrolled_seconds = r.seconds;
    return STATUS_OK;
}

double plan_total(const struct plan *plan, const struct config *config, int64_t done)
{
    const struct config_train *c = &config->train;
    int64_t unrolled = plan->unrolled_seconds > 0 ? c->pretrain_steps : 0;
    if (unrolled > c->steps)
        unrolled = c->steps;
    unrolled = unrolled > done ? unrolled - done : 0;
    int64_t left = c->steps > done ? c->steps - done : 0;
    return (double)unrolled * plan->unrolled_seconds + (double)(left - unrolled) * plan->seconds;
}

enum status plan_memory(struct plan_memory *memory, const struct config *config,
                        const struct chip *chip, struct error *err)
{
    struct count_device device = chip_device(chip, precision_of(config), false);
    struct bench_step_result ignored;
    const struct config own = share_of(config, chip);
    return count_step(&ignored, memory, &own, &device, chip->ranks, err);
}

enum status plan_visit(const struct config *config, const struct chip *chip, plan_visitor *visit,
                       void *ctx, struct error *err)
{
    struct count_device device = chip_device(chip, precision_of(config), false);
    struct backend be = {0};
    struct bench *b = NULL;
    enum status status = STATUS_OK;
    const struct config own = share_of(config, chip);
    TRY(count_open(&be, &device, err));
    TRY_OUT(bench_open(&b, &be, &own, true, chip->ranks, err));
    visit(ctx, "parameters", bench_model(b)->params->ws);
    visit(ctx, "model", bench_model(b)->ws);
    visit(ctx, "optimizer", bench_optimizer(b)->ws);
    TRY_OUT(visit_evaluation(&be, &own, visit, ctx, err));
out:
    bench_close(b);
    backend_close(&be);
    return status;
}

enum status plan_fit(const struct config *config, const struct chip *chip, double bytes,
                     int64_t *accumulate, size_t *needed, struct error *err)
{
    struct config smaller = *config;
    int64_t batch = share_of(config, chip).train.batch;
    *accumulate = 0;
    *needed = 0;
    for (int64_t parts = config->train.accumulate; parts <= batch; parts++) {
        struct plan_memory m;
        if (batch % parts != 0)
            continue;
        smaller.train.accumulate = parts;
        TRY(plan_memory(&m, &smaller, chip, err));
        *needed = m.total;
        if ((double)m.total > bytes)
            continue;
        *accumulate = parts;
        return STATUS_OK;
    }
    return STATUS_OK;
}

double plan_products(const struct op_stat *stat)
{
    return stat[OP_gemm].flops + stat[OP_ffn_up].flops + stat[OP_ffn_up_vjp].flops;
}

double plan_share(const struct plan *plan, const struct config *config, const struct chip *chip,
                  int phase, bool bound)
{
    const struct op_stat *stat =
        phase < BENCH_COUNT ? plan->counts.phase[phase] : plan->counts.stat;
    double seconds = bound ? plan->bound_seconds : plan->seconds;
    if (phase < BENCH_COUNT)
        seconds = bound ? plan->phase_bound[phase] : plan->phase_seconds[phase];
    return plan_products(stat) / seconds / chip->peak[precision_of(config)];
}
