/* Making the model and the tensors that a dump describes. */
#include "verify/verify_impl.h"

#include "base/json.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

/* Keys of the dump's configuration that belong to our "train". All others belong to "model". */
static bool is_train_key(const char *key)
{
    return strcmp(key, "tgt_len") == 0 || strcmp(key, "mem_len") == 0;
}

/* Keys that we compute from others, see check_derived. */
static bool is_derived(const char *key)
{
    return strcmp(key, "hsize") == 0;
}

static enum status check_derived(struct verify *v, const struct json *doc, struct error *err)
{
    const struct config_model *m = &v->config.model;
    const struct cJSON *hsize = json_get(json_root(doc), "hsize");
    int64_t value;
    if (hsize == NULL || m->cell != CELL_TRELLIS)
        return STATUS_OK;
    TRY(json_int(doc, hsize, &value, err));
    if (value != m->nhid + m->nout)
        return error_set(err, STATUS_DATA, "%s: config: hsize %lld is not nhid + nout", v->path,
                         (long long)value);
    return STATUS_OK;
}

/* Rewrites the dump's flat configuration with our sections. */
static enum status rewrite(const struct json *doc, char **out, struct error *err)
{
    struct json_writer w;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    for (int section = 0; section < 2; section++) {
        json_write_object(&w, section == 0 ? "model" : "train");
        for (const struct cJSON *m = json_first(json_root(doc)); m != NULL; m = json_next(m))
            if (!is_derived(json_key(m)) && is_train_key(json_key(m)) == (section == 1))
                json_write_copy(&w, json_key(m), m);
        json_write_end(&w);
    }
    json_write_end(&w);
    return json_write_finish(&w, out, err);
}

/* Makes solves as exact as the number format allows. Broyden over whole sequences, with a history
 * that is hardly ever full, converges even if the spectral radius is above 1. */
static void solve_tightly(struct config *c, bool f64)
{
    struct solver_config *const both[2] = {&c->solver.forward, &c->solver.backward};
    for (int i = 0; i < 2; i++) {
        both[i]->method = SOLVE_BROYDEN;
        both[i]->scope = SCOPE_BATCH;
        both[i]->stop = STOP_REL;
        both[i]->history = 64;
        both[i]->max_iter = 300;
        both[i]->tol = f64 ? 1e-14 : 1e-8;
        both[i]->stall = 60;
    }
}

enum status verify_setup_config(struct verify *v, bool *known, struct error *err)
{
    enum status status = STATUS_OK;
    const char *text = st_meta(v->file, "config");
    struct json *doc = NULL;
    char *ours = NULL;
    struct error why;
    *known = false;
    if (text == NULL)
        return error_set(err, STATUS_DATA, "%s: no \"config\" in its metadata", v->path);
    TRY_OUT(json_parse(&doc, text, strlen(text), v->path, STATUS_DATA, err));
    TRY_OUT(rewrite(doc, &ours, err));
    config_defaults(&v->config);
    v->config.model.compat = true;
    v->config.model.dropout = 0;
    v->config.train.pretrain_steps = 0;
    status = config_parse(&v->config, ours, "config", &why);
    if (status == STATUS_OK)
        status = config_resolve(&v->config, v->config.model.vocab_size, &why);
    if (status == STATUS_CONFIG) {
        status = verify_fail(v, "(config)", why.text, err);
        goto out;
    }
    if (status != STATUS_OK) {
        *err = why;
        goto out;
    }
    TRY_OUT(check_derived(v, doc, err));
    solve_tightly(&v->config, v->be->ops->real == DTYPE_F64);
    *known = true;
out:
    json_free(doc);
    mem_free(ours);
    return status;
}

/* Copies the dump's tensor `name` to `to`. If it is the parameter q, its numbers are brought into
 * the order that they have here. */
static enum status fill(struct verify *v, const char *name, const struct param *q,
                        const struct tensor *to, struct error *err)
{
    const struct st_tensor *t;
    double *host = NULL;
    TRY(verify_need(v, name, &t, err));
    if (t->count != tensor_count(to))
        return error_set(err, STATUS_DATA,
                         "%s: %s: has %lld numbers, the configuration asks for %lld", v->path, name,
                         (long long)t->count, (long long)tensor_count(to));
    TRY(mem_alloc((void **)&host, (size_t)t->count, sizeof *host, err));
    for (int64_t i = 0; i < t->count; i++)
        host[i] = st_value(t, q != NULL ? param_published_index(q, i) : i);
    op_upload(v->be, to, host, DTYPE_F64);
    mem_free(host);
    return STATUS_OK;
}

enum status verify_fill_tensor(struct verify *v, const char *name, const struct tensor *to,
                               struct error *err)
{
    return fill(v, name, NULL, to, err);
}

static enum status fill_param(struct verify *v, const char *prefix, int index, struct error *err)
{
    const struct param *q = &v->model->params->list[index];
    struct tensor w = params_weight(v->model->params, index).w;
    char name[PARAM_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s:%s", prefix, q->name);
    /* the split softmax is no part of the published model, so that its names have no prefix */
    if (strncmp(q->name, "tail_", 5) == 0 && verify_find(v, name) == NULL)
        snprintf(name, sizeof name, "%s", q->name);
    return fill(v, name, q, &w, err);
}

enum status verify_setup_model(struct verify *v, int64_t batch, const char *prefix, bool train,
                               struct error *err)
{
    const struct config_train *c = &v->config.train;
    struct model_plan plan = {.batch = batch,
                              .length = c->tgt_len,
                              .mem_len = c->mem_len,
                              .train = train,
                              .keep_states = true};
    TRY(model_create(&v->model, v->be, &v->config, NULL, &plan, err));
    for (int i = 0; i < v->model->params->count; i++)
        TRY(fill_param(v, prefix, i, err));
    model_refresh(v->model);
    return STATUS_OK;
}

/* How many times the dump contains the gradient of a parameter, 1 or 2.
 *
 * The rows of the split softmax are no parameters of the published model, so that its loop does not
 * clear their gradients. A dump that differentiates the loss twice, for dl/dz and then through the
 * equilibrium, holds exactly twice their gradient. */
static double passes_in_dump(struct verify *v, const struct param *q, const char *name,
                             const double *ours)
{
    const struct st_tensor *t = verify_find(v, name);
    double off[2] = {0, 0};
    if (strncmp(q->name, "tail_", 5) != 0 || t == NULL || t->count != param_count(q))
        return 1;
    for (int64_t i = 0; i < t->count; i++)
        for (int k = 0; k < 2; k++) {
            double d = st_value(t, i) - (k + 1) * ours[i];
            off[k] += d * d;
        }
    return off[1] < off[0] ? 2 : 1;
}

enum status verify_compare_gradients(struct verify *v, const char *prefix, enum tolerance tol,
                                     struct error *err)
{
    char name[PARAM_NAME_MAX + 16];
    for (int i = 0; i < v->model->params->count; i++) {
        const struct param *q = &v->model->params->list[i];
        struct tensor dw = params_weight(v->model->params, i).dw;
        int64_t count = param_count(q);
        double *host = NULL, *ordered = NULL;
        snprintf(name, sizeof name, "%s%s", prefix, q->name);
        TRY(mem_alloc((void **)&host, (size_t)(2 * count), sizeof *host, err));
        ordered = host + count;
        op_download(v->be, host, DTYPE_F64, &dw);
        for (int64_t k = 0; k < count; k++)
            ordered[param_published_index(q, k)] = host[k];
        double passes = passes_in_dump(v, q, name, ordered);
        for (int64_t k = 0; k < count; k++)
            ordered[k] *= passes;
        enum status status = verify_compare(
            v, name, &(struct verify_values){.x = ordered, .count = count}, tol, err);
        mem_free(host);
        TRY(status);
    }
    return STATUS_OK;
}

enum status verify_load_tensor(struct verify *v, const char *name, enum layout layout,
                               struct tensor *out, struct error *err)
{
    const struct st_tensor *t;
    double *host = NULL;
    TRY(verify_need(v, name, &t, err));
    if (t->ndim != 3)
        return error_set(err, STATUS_DATA, "%s: %s: want 3 dimensions, got %d", v->path, name,
                         t->ndim);
    int64_t b_count = t->dim[layout == LAYOUT_TBC ? 1 : 0];
    int64_t t_count = t->dim[layout == LAYOUT_BCT ? 2 : layout == LAYOUT_TBC ? 0 : 1];
    int64_t c_count = t->dim[layout == LAYOUT_BCT ? 1 : 2];
    TRY(op_alloc(v->be, out, v->be->ops->real, 3, b_count, t_count, c_count, 1, err));
    TRY(mem_alloc((void **)&host, (size_t)t->count, sizeof *host, err));
    for (int64_t b = 0; b < b_count; b++)
        for (int64_t i = 0; i < t_count; i++)
            for (int64_t c = 0; c < c_count; c++) {
                int64_t from = layout == LAYOUT_BCT   ? (b * c_count + c) * t_count + i
                               : layout == LAYOUT_TBC ? (i * b_count + b) * c_count + c
                                                      : (b * t_count + i) * c_count + c;
                host[(b * t_count + i) * c_count + c] = st_value(t, from);
            }
    op_upload(v->be, out, host, DTYPE_F64);
    mem_free(host);
    return STATUS_OK;
}

enum status verify_take_tokens(struct verify *v, int64_t start, int64_t length, int32_t *out,
                               struct error *err)
{
    const struct st_tensor *t;
    TRY(verify_need(v, "stream", &t, err));
    int64_t batch = t->dim[1], vocab = v->config.model.vocab_size;
    if (t->ndim != 2 || start + length > t->dim[0])
        return error_set(err, STATUS_DATA, "%s: stream: too short for its segments", v->path);
    for (int64_t i = 0; i < length; i++)
        for (int64_t b = 0; b < batch; b++) {
            double token = st_value(t, (start + i) * batch + b);
            if (!(token >= 0 && token < (double)vocab))
                return error_set(err, STATUS_DATA, "%s: stream: token %g outside the vocabulary",
                                 v->path, token);
            out[b * length + i] = (int32_t)token;
        }
    return STATUS_OK;
}
