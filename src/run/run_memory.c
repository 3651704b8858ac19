/* Checks whether a run fits into the device before anything is allocated or written. */
#include "run/run.h"

#include "backend/count/memory_check.h"
#include "base/mem.h"
#include "optimizer/optimizer.h"
#include "train/evaluation.h"

/* Counts one step, so that the largest product is known. */
static enum status plan_step(struct model *m, struct optimizer *o, const int32_t *tokens,
                             struct error *err)
{
    const struct masks masks = {.source = MASKS_DRAWN};
    double norm;
    model_refresh(m);
    model_begin(m, tokens, m->plan.length, &masks);
    TRY(model_solve(m, 0, true, err));
    model_loss(m, tokens, 1, true);
    TRY(model_backward(m, err));
    model_finish_gradients(m);
    optimizer_step(o, 0, &norm);
    return STATUS_OK;
}

struct planned_run {
    const struct config *config;
    int ranks;
};

static enum status plan_models(const void *what, struct backend *be, struct error *err)
{
    enum status status = STATUS_OK;
    const struct planned_run *run = what;
    const struct config *c = run->config;
    int ranks = run->ranks;
    struct model *model = NULL, *eval = NULL;
    struct optimizer optimizer = {0};
    int32_t *tokens = NULL;
    const struct config_train *t = &c->train;
    struct model_plan plan = {.batch = t->batch / t->accumulate / ranks,
                              .length = t->tgt_len,
                              .mem_len = t->mem_len,
                              .memories = (int)t->accumulate,
                              .train = true};
    TRY_OUT(mem_alloc((void **)&tokens, (size_t)(plan.batch * plan.length), sizeof *tokens, err));
    TRY_OUT(model_create(&model, be, c, NULL, &plan, err));
    TRY_OUT(optimizer_create(&optimizer, model->params, t, NULL, err));
    /* Without train.eval_every there is still one evaluation at the end. */
    TRY_OUT(evaluation_model(&eval, be, c, model->params, false, err));
    TRY_OUT(plan_step(model, &optimizer, tokens, err));
out:
    optimizer_free(&optimizer);
    model_free(eval);
    model_free(model);
    mem_free(tokens);
    return status;
}

enum status run_memory(struct backend *be, const struct config *config, int ranks, size_t *bytes,
                       struct error *err)
{
    const struct planned_run run = {config, ranks};
    /* The precision decides what is stored in bf16. */
    TRY(trainer_set_precision(be, &config->train, err));
    return memory_check_measure(be, plan_models, &run, bytes, err);
}

/* A train.accumulate that fits, or 0, and the bytes that the run then takes. */
struct fit {
    int64_t accumulate;
    size_t bytes;
};

/* Finds the smallest accumulate that fits. */
static enum status find_fit(struct backend *be, const struct config *config, int ranks,
                            size_t limit, struct fit *fit, struct error *err)
{
    struct config c = *config;
    int64_t batch = config->train.batch;
    *fit = (struct fit){0};
    for (int64_t a = config->train.accumulate + 1; a <= batch; a++) {
        if (batch % (a * ranks) != 0)
            continue;
        c.train.accumulate = a;
        TRY(run_memory(be, &c, ranks, &fit->bytes, err));
        if (fit->bytes > limit)
            continue;
        fit->accumulate = a;
        return STATUS_OK;
    }
    return STATUS_OK;
}

enum status run_check_memory(struct backend *be, const struct config *config, int ranks,
                             size_t *bytes, struct error *err)
{
    size_t limit = memory_check_limit(be);
    struct fit fit;
    TRY(run_memory(be, config, ranks, bytes, err));
    size_t wanted = *bytes;
    if (limit == 0 || wanted <= limit)
        return STATUS_OK;
    TRY(find_fit(be, config, ranks, limit, &fit, err));
    if (fit.accumulate > 0)
        return error_set(err, STATUS_DEVICE,
                         "this run needs %.2f GiB of device memory, %.2f more than is free: "
                         "train.accumulate=%lld in place of %lld would fit with %.2f GiB",
                         memory_check_gib(wanted), memory_check_gib(wanted - limit),
                         (long long)fit.accumulate, (long long)config->train.accumulate,
                         memory_check_gib(fit.bytes));
    return error_set(err, STATUS_DEVICE,
                     "this run needs %.2f GiB of device memory, %.2f more than is free, and no "
                     "train.accumulate would make it fit: lower train.tgt_len, train.mem_len, "
                     "solver.forward.history or the sizes of the model",
                     memory_check_gib(wanted), memory_check_gib(wanted - limit));
}
