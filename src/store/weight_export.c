#include "store/weight_export.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_KEY "deq_config"

/* --- export ----------------------------------------------------------------------------------- */

/* Parameter q of the checkpoint into to[param_count(q)], in the published order; `lying` has room
 * for as many. */
static enum status read_weight(struct snapshot *from, const struct param *q, float *lying,
                               float *to, struct error *err)
{
    char section[CHECKPOINT_NAME_MAX];
    int64_t count = param_count(q);
    snprintf(section, sizeof section, "w:%s", q->name);
    TRY(checkpoint_read_section(from->file, section, lying, (size_t)count * sizeof *lying, err));
    for (int64_t i = 0; i < count; i++)
        to[param_published_index(q, i)] = lying[i];
    return STATUS_OK;
}

static enum status read_weights(struct snapshot *from, const struct params *params, float *lying,
                                float *flat, struct st_tensor *list,
                                struct weight_export_report *report, struct error *err)
{
    for (int i = 0; i < params->count; i++) {
        const struct param *q = &params->list[i];
        float *to = flat + q->offset;
        TRY(read_weight(from, q, lying, to, err));
        list[i] = (struct st_tensor){.name = q->name, .type = ST_F32, .data = to};
        list[i].ndim = params_published_dims(params, i, list[i].dim);
        report->tensors++;
        report->numbers += param_count(q);
    }
    return STATUS_OK;
}

enum status weight_export(struct snapshot *from, const char *path,
                          struct weight_export_report *report, struct error *err)
{
    enum status status = STATUS_OK;
    struct params params;
    struct st_tensor *list = NULL;
    float *flat = NULL, *lying = NULL;
    char *config = NULL, step[32];
    *report = (struct weight_export_report){0};
    params_init(&params, NULL);
    TRY_OUT(model_declare(&params, &from->config.model, err));
    TRY_OUT(mem_alloc((void **)&list, (size_t)params.count, sizeof *list, err));
    TRY_OUT(mem_alloc((void **)&flat, (size_t)params.total, sizeof *flat, err));
    TRY_OUT(mem_alloc((void **)&lying, (size_t)params.total, sizeof *lying, err));
    TRY_OUT(read_weights(from, &params, lying, flat, list, report, err));
    TRY_OUT(config_to_json(&from->config, false, &config, err));
    snprintf(step, sizeof step, "%lld", (long long)from->state.step);
    const struct st_meta meta[] = {{"format", "pt"}, {"step", step}, {CONFIG_KEY, config}};
    TRY_OUT(st_write(path, list, params.count, meta, 3, err));
out:
    mem_free(config);
    mem_free(lying);
    mem_free(flat);
    mem_free(list);
    params_free(&params);
    return status;
}

/* --- import ----------------------------------------------------------------------------------- */

enum status weight_import_config(const struct st_file *file, const char *name,
                                 struct config *config, bool *found, struct error *err)
{
    const char *text = st_meta(file, CONFIG_KEY);
    char place[512];
    *found = text != NULL;
    if (text == NULL)
        return STATUS_OK;
    snprintf(place, sizeof place, "%s (" CONFIG_KEY ")", name);
    config_defaults(config);
    enum status status = config_parse(config, text, place, err);
    if (status == STATUS_OK)
        status = config_resolve(config, config->model.vocab_size, err);
    if (status == STATUS_CONFIG) /* the file's fault, not that of a configuration of the user's */
        status = err->status = STATUS_DATA;
    return status;
}

/* The file's tensor for a parameter, marked in seen[]. */
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

static enum status take_weight(const char *name, const struct param *q, const struct st_tensor *t,
                               float *to, struct error *err)
{
    if (t->count != param_count(q))
        return error_set(err, STATUS_DATA,
                         "%s: %s has %lld numbers, the configuration asks for %lld", name, t->name,
                         (long long)t->count, (long long)param_count(q));
    for (int64_t i = 0; i < t->count; i++) {
        to[i] = (float)st_value(t, param_published_index(q, i));
        if (!isfinite(to[i]))
            return error_set(err, STATUS_DATA, "%s: %s: a value of %g", name, t->name,
                             st_value(t, param_published_index(q, i)));
    }
    return STATUS_OK;
}

static enum status take_weights(const struct st_file *file, const char *name,
                                const struct params *params, bool *seen, float *flat,
                                struct weight_export_report *report, struct error *err)
{
    for (int i = 0; i < params->count; i++) {
        const struct param *q = &params->list[i];
        const struct st_tensor *t = find(file, q->name, seen);
        if (q->alias_of >= 0) {
            const struct param *shared = &params->list[q->alias_of];
            memcpy(flat + q->offset, flat + shared->offset, (size_t)param_count(q) * sizeof *flat);
        } else if (t == NULL) {
            return error_set(err, STATUS_DATA,
                             "%s: no tensor %s, which the configuration asks for%s", name, q->name,
                             strncmp(q->name, "start.", 6) == 0
                                 ? ": a model without learned starts wants --set model.start=zero"
                                 : "");
        } else {
            TRY(take_weight(name, q, t, flat + q->offset, err));
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

enum status weight_import(const struct st_file *file, const char *name, const struct config *config,
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
    TRY_OUT(take_weights(file, name, &params, seen, image.w, report, err));
    note_unused(file, seen, report);
    TRY_OUT(snapshot_write(path, &image, err));
out:
    snapshot_image_free(&image);
    mem_free(seen);
    params_free(&params);
    return status;
}
