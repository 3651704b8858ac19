/* Kind "train" is N optimizer steps on consecutive segments, from the weights w0 to wN. */
#include "verify/verify_impl.h"

#include "base/mem.h"
#include "optimizer/optimizer.h"
#include "train/schedule.h"
#include <math.h>
#include <stdio.h>

enum { MAX_STEPS = 1000 };

struct training {
    int64_t steps;
    double losses[MAX_STEPS], norms[MAX_STEPS], rates[MAX_STEPS];
    int32_t *input, *target; /* owns [B*L] of a segment */
    struct optimizer optimizer;
};

static enum status scalar(struct verify *v, const char *name, double *out, struct error *err)
{
    const struct st_tensor *t;
    TRY(verify_need(v, name, &t, err));
    if (t->count != 1)
        return error_set(err, STATUS_DATA, "%s: %s: want one number", v->path, name);
    *out = st_value(t, 0);
    return STATUS_OK;
}

/* Takes the dump's numbers for the published schedule and optimizer. */
static enum status read_settings(struct verify *v, struct error *err)
{
    struct config_train *c = &v->config.train;
    double warmup, steps;
    TRY(scalar(v, "base_lr", &c->lr, err));
    TRY(scalar(v, "clip", &c->clip, err));
    TRY(scalar(v, "warmup", &warmup, err));
    TRY(scalar(v, "max_step", &steps, err));
    if (!(warmup >= 0 && warmup < 1e15 && steps >= 1 && steps < 1e15))
        return error_set(err, STATUS_DATA, "%s: warmup or max_step out of range", v->path);
    c->warmup_steps = (int64_t)warmup;
    c->steps = (int64_t)steps;
    c->schedule = SCHEDULE_COSINE;
    c->optimizer = OPTIMIZER_ADAM;
    c->weight_decay = 0;
    return STATUS_OK;
}

static enum status step(struct verify *v, struct training *h, int64_t n, struct error *err)
{
    const struct config_train *c = &v->config.train;
    const struct masks none = {.source = MASKS_NONE};
    struct model *m = v->model;
    int64_t length = c->tgt_len;
    TRY(verify_take_tokens(v, n * length, length, h->input, err));
    TRY(verify_take_tokens(v, n * length + 1, length, h->target, err));
    model_refresh(m);
    model_begin(m, h->input, length, &none);
    TRY(model_solve(m, 0, true, err));
    model_loss(m, h->target, 1.0 / (double)(m->plan.batch * length), true);
    TRY(model_backward(m, err));
    model_remember(m);
    model_finish_gradients(m);
    h->losses[n] = model_read_loss(m, NULL);
    h->rates[n] = schedule_rate(c, n + 1, true);
    optimizer_step(&h->optimizer, h->rates[n], &h->norms[n]);
    return STATUS_OK;
}

/* Compares the final weights relative to the distance that they went, which for Adam is at most the
 * sum of the learning rates. */
static enum status compare_weights(struct verify *v, const struct training *h, struct error *err)
{
    char name[PARAM_NAME_MAX + 32];
    double distance = 0;
    for (int64_t i = 0; i < h->steps; i++)
        distance += h->rates[i];
    for (int i = 0; i < v->model->params->count; i++) {
        const struct param *q = &v->model->params->list[i];
        struct tensor w = params_weight(v->model->params, i).w;
        int64_t count = param_count(q);
        double *host = NULL;
        TRY(mem_alloc((void **)&host, (size_t)count, sizeof *host, err));
        op_download(v->be, host, DTYPE_F64, &w);
        snprintf(name, sizeof name, "w%lld:%s", (long long)h->steps, q->name);
        enum status status = verify_compare(
            v, name, &(struct verify_values){.x = host, .count = count, .scale = distance},
            TOL_TRAINED, err);
        mem_free(host);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status train(struct verify *v, struct training *h, int64_t batch, struct error *err)
{
    size_t n = (size_t)(batch * v->config.train.tgt_len);
    TRY(mem_alloc((void **)&h->input, n, sizeof *h->input, err));
    TRY(mem_alloc((void **)&h->target, n, sizeof *h->target, err));
    TRY(optimizer_create(&h->optimizer, v->model->params, &v->config.train, NULL, err));
    for (int64_t i = 0; i < h->steps; i++)
        TRY(step(v, h, i, err));
    return STATUS_OK;
}

enum status verify_kind_train(struct verify *v, struct error *err)
{
    const struct st_tensor *losses, *stream;
    struct training *h = NULL;
    enum status status = STATUS_OK;
    TRY(verify_need(v, "losses", &losses, err));
    TRY(verify_need(v, "stream", &stream, err));
    if (stream->ndim != 2 || losses->count < 1 || losses->count > MAX_STEPS)
        return error_set(err, STATUS_DATA, "%s: want a stream and 1 to %d losses", v->path,
                         MAX_STEPS);
    TRY(read_settings(v, err));
    TRY(verify_setup_model(v, stream->dim[1], "w0", true, err));
    TRY(mem_alloc((void **)&h, 1, sizeof *h, err));
    h->steps = losses->count;
    TRY_OUT(train(v, h, stream->dim[1], err));
    const struct verify_values course = {.x = h->losses, .count = h->steps};
    const struct verify_values norms = {.x = h->norms, .count = h->steps};
    const struct verify_values rates = {.x = h->rates, .count = h->steps};
    TRY_OUT(verify_compare(v, "losses", &course, TOL_COURSE, err));
    TRY_OUT(verify_compare(v, "grad_norms", &norms, TOL_COURSE, err));
    TRY_OUT(verify_compare(v, "lrs", &rates, TOL_EXACT, err));
    TRY_OUT(compare_weights(v, h, err));
out:
    optimizer_free(&h->optimizer);
    mem_free(h->input);
    mem_free(h->target);
    mem_free(h);
    return status;
}
