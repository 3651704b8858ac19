/* Whether a run fits into the device, known before anything is allocated or written. */
#include "train/run.h"

#include "base/mem.h"
#include "train/evaluation.h"
#include "train/optimizer.h"

/* Part of the device's memory that is left to what is not planned here: scratch of single
 * operations and the gaps between allocations. */
enum { RESERVE_PART = 32 };

/* One step, so that the largest product is known. */
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

static enum status plan_models(struct backend *be, const struct config *c, int ranks,
                               struct error *err)
{
    enum status status = STATUS_OK;
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
    if (t->eval_every > 0)
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
    size_t before = be->bytes, peak = be->peak_bytes;
    int64_t syncs = be->syncs;
    backend_plan(be, true);
    enum status status = plan_models(be, config, ranks, err);
    *bytes = be->peak_bytes - before;
    if (config->train.precision == PRECISION_BF16)
        *bytes += be->operand_bytes / 2;
    backend_plan(be, false);
    backend_reset_stats(be);
    be->peak_bytes = peak;
    be->syncs = syncs;
    return status;
}

static double gib(size_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* The smallest accumulate that fits, and its bytes; 0 if none does. */
static enum status find_fitting(struct backend *be, const struct config *config, int ranks,
                                size_t limit, int64_t *accumulate, size_t *bytes, struct error *err)
{
    struct config c = *config;
    int64_t batch = config->train.batch;
    *accumulate = 0;
    for (int64_t a = config->train.accumulate + 1; a <= batch; a++) {
        if (batch % (a * ranks) != 0)
            continue;
        c.train.accumulate = a;
        TRY(run_memory(be, &c, ranks, bytes, err));
        if (*bytes > limit)
            continue;
        *accumulate = a;
        return STATUS_OK;
    }
    return STATUS_OK;
}

enum status run_check_memory(struct backend *be, const struct config *config, int ranks,
                             struct error *err)
{
    size_t wanted = 0, fitting = 0, limit = be->device_free - be->device_free / RESERVE_PART;
    int64_t accumulate = 0;
    if (be->device_free == 0)
        return STATUS_OK;
    TRY(run_memory(be, config, ranks, &wanted, err));
    if (wanted <= limit)
        return STATUS_OK;
    TRY(find_fitting(be, config, ranks, limit, &accumulate, &fitting, err));
    if (accumulate > 0)
        return error_set(err, STATUS_DEVICE,
                         "this run wants %.2f GiB of device memory, %.2f more than there are: "
                         "train.accumulate=%lld in place of %lld would fit with %.2f GiB",
                         gib(wanted), gib(wanted - limit), (long long)accumulate,
                         (long long)config->train.accumulate, gib(fitting));
    return error_set(err, STATUS_DEVICE,
                     "this run wants %.2f GiB of device memory, %.2f more than there are, and no "
                     "train.accumulate would make it fit: lower train.tgt_len, train.mem_len, "
                     "solver.forward.history or the sizes of the model",
                     gib(wanted), gib(wanted - limit));
}
