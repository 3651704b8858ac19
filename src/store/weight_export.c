/* Copies weights between checkpoints and safetensors files. */
#include "store/weight_export.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_KEY "deq_config"

/* --- export ----------------------------------------------------------------------------------- */

/* The buffers of an export. */
struct export
{
    struct params params;   /* names, sizes and layouts only */
    struct st_tensor *list; /* owns [params.count] */
    float *stored;          /* owns [params.total], one parameter as the checkpoint stores it */
    float *published;       /* owns [params.total], all parameters in the published layout */
};

static enum status alloc_buffers(struct export *x, const struct config_model *model,
                                 struct error *err)
{
    TRY(model_declare(&x->params, model, err));
    size_t total = (size_t)x->params.total;
    TRY(mem_alloc((void **)&x->list, (size_t)x->params.count, sizeof *x->list, err));
    TRY(mem_alloc((void **)&x->stored, total, sizeof *x->stored, err));
    return mem_alloc((void **)&x->published, total, sizeof *x->published, err);
}

static void free_buffers(struct export *x)
{
    mem_free(x->published);
    mem_free(x->stored);
    mem_free(x->list);
    params_free(&x->params);
}

/* Reads parameter `i` and describes it as a tensor. */
static enum status read_weight(struct snapshot *from, struct export *x, int i, struct error *err)
{
    const struct param *q = &x->params.list[i];
    float *to = x->published + q->offset;
    char section[CHECKPOINT_NAME_MAX];
    int64_t count = param_count(q);
    size_t bytes = (size_t)count * sizeof *x->stored;
    snprintf(section, sizeof section, "w:%s", q->name);
    TRY(checkpoint_read_section(from->file, section, x->stored, bytes, err));
    for (int64_t k = 0; k < count; k++)
        to[param_published_index(q, k)] = x->stored[k];
    struct st_tensor *t = &x->list[i];
    *t = (struct st_tensor){.name = q->name, .type = ST_F32, .data = to};
    t->ndim = params_published_dims(&x->params, i, t->dim);
    return STATUS_OK;
}

enum status weight_export(struct snapshot *from, const char *path,
                          struct weight_export_report *report, struct error *err)
{
    enum status status = STATUS_OK;
    struct export x = {0};
    char *config = NULL, step[32];
    *report = (struct weight_export_report){0};
    params_init(&x.params, NULL);
    TRY_OUT(alloc_buffers(&x, &from->config.model, err));
    for (int i = 0; i < x.params.count; i++) {
        TRY_OUT(read_weight(from, &x, i, err));
        report->tensors++;
        report->numbers += param_count(&x.params.list[i]);
    }
    TRY_OUT(config_to_json(&from->config, false, &config, err));
    snprintf(step, sizeof step, "%lld", (long long)from->state.step);
    const struct st_meta meta[] = {{"format", "pt"}, {"step", step}, {CONFIG_KEY, config}};
    TRY_OUT(st_write(path, x.list, x.params.count, meta, 3, err));
out:
    mem_free(config);
    free_buffers(&x);
    return status;
}

/* --- import ----------------------------------------------------------------------------------- */

enum status weight_import_config(const struct st_file *file, struct config *config, bool *found,
                                 struct error *err)
{
    const char *text = st_meta(file, CONFIG_KEY);
    char place[512];
    *found = text != NULL;
    if (text == NULL)
        return STATUS_OK;
    snprintf(place, sizeof place, "%s (" CONFIG_KEY ")", st_path(file));
    config_defaults(config);
    enum status status = config_parse(config, text, place, err);
    if (status == STATUS_OK)
        status = config_resolve(config, config->model.vocab_size, err);
    if (status ==
        STATUS_CONFIG) /* the fault is in the file and not in a configuration of the user */
        status = err->status = STATUS_DATA;
    return status;
}

/* Finds the file's tensor for a parameter and marks it in seen[]. */
static const struct st_tensor *find(const struct st_file *file, const char *name, bool *seen)
{
    char prefixed[PARAM_NAME_MAX + 2];
    snprintf(prefixed, sizeof prefixed, "w:%s", name);
    const struct st_tensor *t = st_find(file, name);
    if (t == NULL)
        t = st_find(file, prefixed);
    if (t != NULL)
        seen[t - st_tensor(file, 0)] = true;
    return t;
}

static enum status take_weight(const char *path, const struct param *q, const struct st_tensor *t,
                               float *to, struct error *err)
{
    if (t->count != param_count(q))
        return error_set(err, STATUS_DATA,
                         "%s: %s has %lld numbers, the configuration asks for %lld", path, t->name,
                         (long long)t->count, (long long)param_count(q));
    for (int64_t i = 0; i < t->count; i++) {
        to[i] = (float)st_value(t, param_published_index(q, i));
        if (!isfinite(to[i]))
            return error_set(err, STATUS_DATA, "%s: %s: a value of %g", path, t->name,
                             st_value(t, param_published_index(q, i)));
    }
    return STATUS_OK;
}

static enum status take_weights(const struct st_file *file, const struct params *params, bool *seen,
                                float *flat, struct weight_export_report *report, struct error *err)
{
    for (int i = 0; i < params->count; i++) {
        const struct param *q = &params->list[i];
        const struct st_tensor *t = find(file, q->name, seen);
        if (q->alias_of >= 0) {
            const struct param *shared = &params->list[q->alias_of];
            memcpy(flat + q->offset, flat + shared->offset, (size_t)param_count(q) * sizeof *flat);
        } else if (t == NULL) {
            return error_set(err, STATUS_DATA,
                             "%s: no tensor %s, which the configuration asks for%s", st_path(file),
                             q->name,
                             strncmp(q->name, "start.", 6) == 0
                                 ? ": a model without learned starts wants --set model.start=zero"
                                 : "");
        } else {
            TRY(take_weight(st_path(file), q, t, flat + q->offset, err));
        }
        report->tensors++;
        report->numbers += param_count(q);
    }
    return STATUS_OK;
}

static void note_unused(const struct st_file *file, const bool *seen,
                        struct weight_export_report *report)
{
    for (int64_t i = 0; i < st_count(file); i++) {
        if (seen[i])
            continue;
        if (report->unused++ == 0)
            snprintf(report->first_unused, sizeof report->first_unused, "%s",
                     st_tensor(file, i)->name);
    }
}

enum status weight_import(const struct st_file *file, const struct config *config,
                          const struct vocab *vocab, const char *path,
                          struct weight_export_report *report, struct error *err)
{
    enum status status = STATUS_OK;
    struct params params;
    struct snapshot_image image = {0};
    bool *seen = NULL;
    *report = (struct weight_export_report){0};
    params_init(&params, NULL);
    TRY_OUT(model_declare(&params, &config->model, err));
    TRY_OUT(mem_alloc((void **)&seen, (size_t)st_count(file), sizeof *seen, err));
    TRY_OUT(snapshot_image_of_weights(&image, config, vocab, &params, err));
    TRY_OUT(take_weights(file, &params, seen, image.w, report, err));
    note_unused(file, seen, report);
    TRY_OUT(snapshot_write(path, &image, err));
out:
    snapshot_image_free(&image);
    mem_free(seen);
    params_free(&params);
    return status;
}
