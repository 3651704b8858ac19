/* Kind "train": some optimizer steps on consecutive segments, from w0 to wN. */
#include "verify/verify_impl.h"

#include "base/mem.h"
#include "optimizer/optimizer.h"
#include "train/schedule.h"
#include <math.h>
#include <stdio.h>

enum { MAX_STEPS = 1000 };

struct history {
    int64_t steps;
    double losses[MAX_STEPS], norms[MAX_STEPS], rates[MAX_STEPS];
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

/* The published schedule and optimizer, with the dump's numbers. */
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

static enum status step(struct verify *v, struct optimizer *o, struct history *h, int64_t n,
                        int32_t *input, int32_t *target, struct error *err)
{
    const struct config_train *c = &v->config.train;
    const struct masks none = {.source = MASKS_NONE};
    struct model *m = v->model;
    int64_t length = c->tgt_len;
    TRY(verify_take_tokens(v, n * length, length, input, err));
    TRY(verify_take_tokens(v, n * length + 1, length, target, err));
    model_refresh(m);
    model_begin(m, input, length, &none);
    TRY(model_solve(m, 0, true, err));
    model_loss(m, target, 1.0 / (double)(m->plan.batch * length), true);
    TRY(model_backward(m, err));
    model_remember(m);
    model_finish_gradients(m);
    h->losses[n] = model_read_loss(m, NULL);
    h->rates[n] = schedule_rate(c, n + 1, true);
    optimizer_step(o, h->rates[n], &h->norms[n]);
    return STATUS_OK;
}

/* Final weights, relative to how far they went: the sum of the rates is the longest way that Adam
 * can go. */
static enum status compare_weights(struct verify *v, const struct history *h, struct error *err)
{
    char name[PARAM_NAME_MAX + 32];
    double way = 0;
    for (int64_t i = 0; i < h->steps; i++)
        way += h->rates[i];
    for (int i = 0; i < v->model->params->count; i++) {
        const struct param *q = &v->model->params->list[i];
        struct tensor w = params_weight(v->model->params, i).w;
        int64_t count = param_count(q);
        double *host = NULL;
        TRY(mem_alloc((void **)&host, (size_t)count, sizeof *host, err));
        op_download(v->be, host, DTYPE_F64, &w);
        snprintf(name, sizeof name, "w%lld:%s", (long long)h->steps, q->name);
        enum status status = verify_compare(v, name, host, count, TOL_TRAINED, way, err);
        mem_free(host);
        TRY(status);
    }
    return STATUS_OK;
}

static enum status train(struct verify *v, struct history *h, int64_t batch, struct error *err)
{
    enum status status = STATUS_OK;
    struct optimizer o = {0};
    size_t n = (size_t)(batch * v->config.train.tgt_len);
    int32_t *tokens = NULL;
    TRY_OUT(mem_alloc((void **)&tokens, 2 * n, sizeof *tokens, err));
    TRY_OUT(optimizer_create(&o, v->model->params, &v->config.train, NULL, err));
    for (int64_t i = 0; i < h->steps; i++)
        TRY_OUT(step(v, &o, h, i, tokens, tokens + n, err));
out:
    optimizer_free(&o);
    mem_free(tokens);
    return status;
}

enum status verify_kind_train(struct verify *v, struct error *err)
{
    const struct st_tensor *losses, *stream;
    struct history *h = NULL;
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
    TRY_OUT(verify_compare(v, "losses", h->losses, h->steps, TOL_COURSE, 0, err));
    TRY_OUT(verify_compare(v, "grad_norms", h->norms, h->steps, TOL_COURSE, 0, err));
    TRY_OUT(verify_compare(v, "lrs", h->rates, h->steps, TOL_EXACT, 0, err));
    TRY_OUT(compare_weights(v, h, err));
out:
    mem_free(h);
    return status;
}
