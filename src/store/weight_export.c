/* Copies weights between checkpoints and safetensors files. */
#include "store/weight_export.h"

#include "base/mem.h"
#include "store/weight_name.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_KEY "deq_config"

enum { SHAPE_TEXT_MAX = 96, TORCH_NAME_MAX = PARAM_NAME_MAX + 32 };

/* --- export ----------------------------------------------------------------------------------- */

/* The buffers of an export. */
struct export
{
    struct params params;        /* names, sizes and layouts only */
    struct st_tensor *list;      /* owns [params.count] */
    char(*name)[TORCH_NAME_MAX]; /* owns [params.count] */
    int tensors;                 /* so many of them are described */
    float *stored;    /* owns [params.total], one parameter as the checkpoint stores it */
    float *published; /* owns [params.total], all parameters in the published layout */
};

static enum status alloc_buffers(struct export *x, const struct config_model *model,
                                 struct error *err)
{
    TRY(model_declare(&x->params, model, err));
    size_t total = (size_t)x->params.total;
    TRY(mem_alloc((void **)&x->list, (size_t)x->params.count, sizeof *x->list, err));
    TRY(mem_alloc((void **)&x->name, (size_t)x->params.count, sizeof *x->name, err));
    TRY(mem_alloc((void **)&x->stored, total, sizeof *x->stored, err));
    return mem_alloc((void **)&x->published, total, sizeof *x->published, err);
}

static void free_buffers(struct export *x)
{
    mem_free(x->published);
    mem_free(x->stored);
    mem_free(x->name);
    mem_free(x->list);
    params_free(&x->params);
}

/* Reads parameter `i` and describes it as the next tensor. */
static enum status read_weight(struct snapshot *from, struct export *x, enum weight_names names,
                               int i, struct error *err)
{
    const struct param *q = &x->params.list[i];
    float *to = x->published + q->offset;
    char section[CHECKPOINT_NAME_MAX];
    int64_t count = param_count(q);
    size_t bytes = (size_t)count * sizeof *x->stored;
    snprintf(section, sizeof section, "w:%s", q->name);
    TRY(checkpoint_read_section(from->file, section, x->stored, bytes, err));
    for (int64_t k = 0; k < count; k++) {
        if (!isfinite(x->stored[k]))
            return snapshot_refuse_weight(checkpoint_path(from->file), q->name, x->stored[k], err);
        to[param_published_index(q, k)] = x->stored[k];
    }
    struct st_tensor *t = &x->list[x->tensors];
    char *name = x->name[x->tensors++];
    if (names == WEIGHT_NAMES_TORCH)
        weight_name_torch(q->name, name, TORCH_NAME_MAX);
    else
        snprintf(name, TORCH_NAME_MAX, "%s", q->name);
    *t = (struct st_tensor){.name = name, .type = ST_F32, .data = to};
    t->ndim = params_published_dims(&x->params, i, t->dim);
    return STATUS_OK;
}

enum status weight_export(struct snapshot *from, const char *path, enum weight_names names,
                          struct weight_export_report *report, struct error *err)
{
    enum status status = STATUS_OK;
    struct export x = {0};
    char *config = NULL, step[32];
    *report = (struct weight_export_report){0};
    params_init(&x.params, NULL);
    TRY_OUT(alloc_buffers(&x, &from->config.model, err));
    for (int i = 0; i < x.params.count; i++) {
        if (names == WEIGHT_NAMES_TORCH && x.params.list[i].alias_of >= 0)
            continue;
        TRY_OUT(read_weight(from, &x, names, i, err));
        report->tensors++;
        report->numbers += param_count(&x.params.list[i]);
    }
    TRY_OUT(config_to_json(&from->config, false, &config, err));
    snprintf(step, sizeof step, "%lld", (long long)from->state.step);
    const struct st_meta meta[] = {{"format", "pt"}, {"step", step}, {CONFIG_KEY, config}};
    TRY_OUT(st_write(path, x.list, x.tensors, meta, 3, err));
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

/* The tensors of a file by their plain names. */
struct plain_tensor {
    char name[PARAM_NAME_MAX];
    const struct st_tensor *tensor; /* borrows */
};

struct source {
    const struct st_file *file;
    struct plain_tensor *list; /* owns [count], sorted by name */
    size_t count;              /* names that are too long for a parameter are not in the list */
    bool *seen;                /* owns [tensors of the file], which are taken or known copies */
};

static int by_plain_name(const void *a, const void *b)
{
    const struct plain_tensor *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static enum status open_source(struct source *s, const struct st_file *file, struct error *err)
{
    size_t tensors = (size_t)st_count(file);
    *s = (struct source){.file = file};
    TRY(mem_alloc((void **)&s->seen, tensors, sizeof *s->seen, err));
    TRY(mem_alloc((void **)&s->list, tensors, sizeof *s->list, err));
    for (size_t i = 0; i < tensors; i++) {
        struct plain_tensor *p = &s->list[s->count];
        p->tensor = st_tensor(file, (int64_t)i);
        s->count += weight_name_plain(p->tensor->name, p->name, sizeof p->name) < sizeof p->name;
    }
    qsort(s->list, s->count, sizeof *s->list, by_plain_name);
    return STATUS_OK;
}

static void close_source(struct source *s)
{
    mem_free(s->list);
    mem_free(s->seen);
}

/* Finds the file's tensor for a parameter and marks it in seen[]. A tensor of exactly that name
 * goes before others that mean it. *out is NULL if there is none. */
static enum status find(struct source *s, const char *name, const struct st_tensor **out,
                        struct error *err)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(s->list[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low < s->count && strcmp(s->list[low].name, name) == 0;
    *out = st_find(s->file, name);
    if (*out == NULL && found) {
        *out = s->list[low].tensor;
        if (low + 1 < s->count && strcmp(s->list[low + 1].name, name) == 0)
            return error_set(err, STATUS_DATA,
                             "%s: both %s and %s could be the weight %s: keep one of them in the "
                             "file, or name one %s",
                             st_path(s->file), (*out)->name, s->list[low + 1].tensor->name, name,
                             name);
    }
    if (*out != NULL)
        s->seen[*out - st_tensor(s->file, 0)] = true;
    return STATUS_OK;
}

/* "[32,16,1]" */
static void shape_text(const int64_t *dim, int ndim, char out[SHAPE_TEXT_MAX])
{
    size_t used = 1;
    snprintf(out, SHAPE_TEXT_MAX, "[");
    for (int i = 0; i < ndim && used < SHAPE_TEXT_MAX; i++)
        used += (size_t)snprintf(out + used, SHAPE_TEXT_MAX - used, "%s%lld", i > 0 ? "," : "",
                                 (long long)dim[i]);
    if (used < SHAPE_TEXT_MAX)
        snprintf(out + used, SHAPE_TEXT_MAX - used, "]");
}

/* Programs differ in sizes of 1 at the end, which do not move a number. */
static int without_last_ones(const int64_t *dim, int ndim)
{
    while (ndim > 0 && dim[ndim - 1] == 1)
        ndim--;
    return ndim;
}

static enum status check_weight(const char *path, const struct st_tensor *t, const int64_t *dim,
                                int ndim, struct error *err)
{
    int n = without_last_ones(dim, ndim);
    bool same = without_last_ones(t->dim, t->ndim) == n, turned = n == 2 && same;
    char got[SHAPE_TEXT_MAX], want[SHAPE_TEXT_MAX];
    if (!st_is_real(t))
        return error_set(err, STATUS_DATA,
                         "%s: %s is of type %s; weights are read as F64, F32, F16 or BF16: save it "
                         "as one of these",
                         path, t->name, st_type_name(t));
    for (int i = 0; i < n && same; i++)
        same = t->dim[i] == dim[i];
    if (same)
        return STATUS_OK;
    turned = turned && t->dim[0] == dim[1] && t->dim[1] == dim[0];
    shape_text(t->dim, t->ndim, got);
    shape_text(dim, ndim, want);
    return error_set(err, STATUS_DATA, "%s: %s has the shape %s, the configuration asks for %s%s",
                     path, t->name, got, want, turned ? ": it is transposed" : "");
}

static enum status take_weight(const char *path, const struct param *q, const struct st_tensor *t,
                               float *to, struct error *err)
{
    for (int64_t i = 0; i < t->count; i++) {
        to[i] = (float)st_value(t, param_published_index(q, i));
        if (!isfinite(to[i]))
            return error_set(err, STATUS_DATA, "%s: %s: a value of %g, which is no finite float32",
                             path, t->name, st_value(t, param_published_index(q, i)));
    }
    return STATUS_OK;
}

/* Whether these are weights of TorchDEQ's DEQ-LM, told by the norm in front of its W_o. */
static bool is_deq_lm(const struct source *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->list[i].name, "func.dec_attn.0.ln2.weight") == 0)
            return true;
    return false;
}

/* Says why a weight is missing, as far as the configuration could be the cause. */
static enum status missing_weight(const struct source *from, const char *name, struct error *err)
{
    const struct st_file *file = from->file;
    if (is_deq_lm(from))
        return error_set(
            err, STATUS_DATA,
            "%s: weights of TorchDEQ's DEQ-LM: its blocks normalise before W_o and with "
            "learned gains, and share one memory of the last block's states; no cell "
            "of deq computes that f",
            st_path(file));
    bool start = strncmp(name, "start.", 6) == 0;
    return error_set(err, STATUS_DATA, "%s: no tensor %s, which the configuration asks for%s",
                     st_path(file), name,
                     start ? ": a model without learned starts wants --set model.start=zero" : "");
}

/* Gives a parameter the values of the one whose storage it shares. The file need not hold it, but
 * must not hold other values for it. */
static enum status take_alias(const struct st_file *file, const struct params *params, int index,
                              const struct st_tensor *t, float *flat, struct error *err)
{
    const struct param *q = &params->list[index], *shared = &params->list[q->alias_of];
    int64_t dim[3], count = param_count(q);
    memcpy(flat + q->offset, flat + shared->offset, (size_t)count * sizeof *flat);
    if (t == NULL)
        return STATUS_OK;
    TRY(check_weight(st_path(file), t, dim, params_published_dims(params, index, dim), err));
    for (int64_t i = 0; i < count; i++)
        if ((float)st_value(t, param_published_index(q, i)) != flat[q->offset + i])
            return error_set(err, STATUS_DATA,
                             "%s: %s differs from %s, but the configuration asks for one weight of "
                             "both names",
                             st_path(file), t->name, shared->name);
    return STATUS_OK;
}

static enum status take_weights(struct source *from, const struct params *params, float *flat,
                                struct weight_export_report *report, struct error *err)
{
    for (int i = 0; i < params->count; i++) {
        const struct param *q = &params->list[i];
        const struct st_tensor *t;
        int64_t dim[3];
        TRY(find(from, q->name, &t, err));
        if (q->alias_of >= 0) {
            TRY(take_alias(from->file, params, i, t, flat, err));
        } else if (t == NULL) {
            return missing_weight(from, q->name, err);
        } else {
            int ndim = params_published_dims(params, i, dim);
            TRY(check_weight(st_path(from->file), t, dim, ndim, err));
            TRY(take_weight(st_path(from->file), q, t, flat + q->offset, err));
        }
        report->tensors++;
        report->numbers += param_count(q);
    }
    return STATUS_OK;
}

static void note_unused(const struct source *from, struct weight_export_report *report)
{
    for (int64_t i = 0; i < st_count(from->file); i++) {
        if (from->seen[i])
            continue;
        if (report->unused++ == 0)
            snprintf(report->first_unused, sizeof report->first_unused, "%s",
                     st_tensor(from->file, i)->name);
    }
}

enum status weight_import(const struct st_file *file, const struct config *config,
                          const struct vocab *vocab, const char *path,
                          struct weight_export_report *report, struct error *err)
{
    enum status status = STATUS_OK;
    struct params params;
    struct snapshot_image image = {0};
    struct source from = {0};
    *report = (struct weight_export_report){0};
    params_init(&params, NULL);
    TRY_OUT(model_declare(&params, &config->model, err));
    TRY_OUT(open_source(&from, file, err));
    TRY_OUT(snapshot_image_of_weights(&image, config, vocab, &params, err));
    TRY_OUT(take_weights(&from, &params, image.w, report, err));
    note_unused(&from, report);
    TRY_OUT(snapshot_write(path, &image, err));
out:
    snapshot_image_free(&image);
    close_source(&from);
    params_free(&params);
    return status;
}
