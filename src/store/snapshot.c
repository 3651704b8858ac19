/* Reads a checkpoint of a run. */
#include "store/snapshot.h"

#include "base/json.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 1 << 28 };

/* Reads a hash of 16 hex digits, or 0 if it is missing. */
static enum status parse_hash(const struct json *doc, const char *key, uint64_t *out,
                              struct error *err)
{
    const struct cJSON *member = json_get(json_root(doc), key);
    const char *text;
    *out = 0;
    if (member == NULL)
        return STATUS_OK;
    TRY(json_string(doc, member, &text, err));
    *out = strtoull(text, NULL, 16);
    return STATUS_OK;
}

/* Reads what files of older programs lack. */
static enum status parse_newer(struct train_state *t, const struct json *doc, struct error *err)
{
    const struct cJSON *root = json_root(doc);
    const struct {
        const char *key;
        int64_t *to, otherwise;
    } ints[] = {{"evaluated", &t->evaluated, t->step},
                {"ranks", &t->ranks, 1},
                {"logged", &t->logged, 0},
                {"position", &t->position, -1},
                {"schedule_start", &t->schedule_start, 0},
                {"waited", &t->waited, 0},
                {"reset", &t->reset, 0}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        *ints[i].to = ints[i].otherwise;
        if (json_get(root, ints[i].key) != NULL)
            TRY(json_get_int(doc, root, ints[i].key, ints[i].to, err));
    }
    TRY(parse_hash(doc, "train_text", &t->train_text, err));
    return parse_hash(doc, "valid_text", &t->valid_text, err);
}

/* Reads a number, or NaN for null. */
static enum status parse_figure(const struct json *doc, const char *key, double *out,
                                struct error *err)
{
    const struct cJSON *member = json_get(json_root(doc), key);
    *out = NAN;
    return json_kind(member) == JSON_NULL ? STATUS_OK : json_real(doc, member, out, err);
}

static enum status parse_figures(struct snapshot_figures *f, const struct json *doc,
                                 struct error *err)
{
    f->known = json_get(json_root(doc), "best_unknown") != NULL;
    if (!f->known)
        return STATUS_OK;
    TRY(parse_figure(doc, "best_bits_per_byte", &f->bits_per_byte, err));
    TRY(parse_figure(doc, "best_bits_per_byte_known", &f->bits_per_byte_known, err));
    return parse_figure(doc, "best_unknown", &f->unknown, err);
}

static enum status parse_state(struct train_state *t, const struct json *doc, struct error *err)
{
    const struct cJSON *root = json_root(doc);
    const struct {
        const char *key;
        int64_t *to;
    } ints[] = {{"step", &t->step},           {"tokens", &t->tokens}, {"skipped", &t->skipped},
                {"updates", &t->updates},     {"epoch", &t->epoch},   {"segment", &t->segment},
                {"best_step", &t->best_step}, {"micro", &t->micro}};
    int64_t format;
    TRY(json_get_int(doc, root, "format", &format, err));
    if (format != SNAPSHOT_STATE_FORMAT)
        return error_set(err, STATUS_DATA, "%s: format %lld; this program reads %d", json_name(doc),
                         (long long)format, SNAPSHOT_STATE_FORMAT);
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        TRY(json_get_int(doc, root, ints[i].key, ints[i].to, err));
        if (*ints[i].to < 0)
            return error_set(err, STATUS_DATA, "%s: %s: want 0 or more, got %lld", json_name(doc),
                             ints[i].key, (long long)*ints[i].to);
    }
    TRY(parse_newer(t, doc, err));
    if (t->schedule_start < 0 || t->schedule_start > t->step)
        return error_set(err, STATUS_DATA, "%s: schedule_start: want 0..%lld, got %lld",
                         json_name(doc), (long long)t->step, (long long)t->schedule_start);
    t->origin[0] = '\0';
    if (json_get(root, "origin") != NULL) {
        const char *origin;
        TRY(json_string(doc, json_get(root, "origin"), &origin, err));
        snprintf(t->origin, sizeof t->origin, "%s", origin);
    }
    t->best_nll = INFINITY;
    if (json_kind(json_get(root, "best_nll")) != JSON_NULL)
        TRY(json_get_real(doc, root, "best_nll", &t->best_nll, err));
    TRY(parse_figures(&t->best, doc, err));
    return json_get_real(doc, root, "seconds", &t->seconds, err);
}

static enum status read_state(struct snapshot *s, struct error *err)
{
    enum status status = STATUS_OK;
    char name[1024], *text = NULL;
    size_t len;
    struct json *doc = NULL;
    snprintf(name, sizeof name, "%s (state)", checkpoint_path(s->file));
    TRY_OUT(checkpoint_read_text(s->file, "state", MAX_TEXT, &text, &len, err));
    TRY_OUT(json_parse(&doc, text, len, name, STATUS_DATA, err));
    TRY_OUT(parse_state(&s->state, doc, err));
out:
    json_free(doc);
    mem_free(text);
    return status;
}

static enum status read_config(struct snapshot *s, struct error *err)
{
    enum status status = STATUS_OK;
    char name[1024], *text = NULL;
    size_t len;
    snprintf(name, sizeof name, "%s (config)", checkpoint_path(s->file));
    TRY(checkpoint_read_text(s->file, "config", MAX_TEXT, &text, &len, err));
    config_defaults(&s->config);
    status = config_parse(&s->config, text, name, err);
    mem_free(text);
    if (status != STATUS_CONFIG)
        return status;
    struct error why = *err;
    return error_set(err, STATUS_DATA, "%.800s. Was it written by another version of deq?",
                     why.text);
}

/* Gives the vocabulary the tokenizer that lies in the file, if there is one. */
static enum status read_tokenizer(struct checkpoint *file, struct vocab *v, struct error *err)
{
    char name[1024];
    void *model = NULL;
    const struct checkpoint_section *section = checkpoint_find(file, "tokenizer");
    if (section == NULL)
        return STATUS_OK;
    snprintf(name, sizeof name, "%s (tokenizer)", checkpoint_path(file));
    if (section->size > MAX_TEXT)
        return error_set(err, STATUS_DATA, "%s: %zu bytes are too many", name, section->size);
    TRY(mem_alloc(&model, section->size, 1, err));
    enum status status = checkpoint_read_section(file, section->name, model, section->size, err);
    if (status == STATUS_OK)
        status = vocab_attach_tokenizer(v, model, section->size, name, err);
    mem_free(model);
    return status;
}

enum status snapshot_read_vocab(struct checkpoint *file, struct vocab **out, struct error *err)
{
    char name[1024], *text = NULL;
    size_t len;
    *out = NULL;
    snprintf(name, sizeof name, "%s (vocab)", checkpoint_path(file));
    TRY(checkpoint_read_text(file, "vocab", MAX_TEXT, &text, &len, err));
    enum status status = vocab_from_text(out, text, len, name, err);
    mem_free(text);
    TRY(status);
    status = read_tokenizer(file, *out, err);
    if (status != STATUS_OK) {
        vocab_free(*out);
        *out = NULL;
    }
    return status;
}

enum status snapshot_open(struct snapshot *s, const char *path, struct error *err)
{
    enum status status = STATUS_OK;
    *s = (struct snapshot){0};
    TRY_OUT(checkpoint_open(&s->file, path, err));
    TRY_OUT(read_config(s, err));
    TRY_OUT(snapshot_read_vocab(s->file, &s->vocab, err));
    TRY_OUT(read_state(s, err));
    if (vocab_size(s->vocab) != s->config.model.vocab_size) {
        status =
            error_set(err, STATUS_DATA, "%s: vocabulary of %lld words, configuration of %lld", path,
                      (long long)vocab_size(s->vocab), (long long)s->config.model.vocab_size);
        goto out;
    }
    TRY_OUT(config_resolve(&s->config, vocab_size(s->vocab), err));
    return STATUS_OK;
out:
    snapshot_close(s);
    return status;
}

void snapshot_close(struct snapshot *s)
{
    checkpoint_close(s->file);
    vocab_free(s->vocab);
    *s = (struct snapshot){0};
}

/* Where the numbers of a section go, in an array that is laid out like the parameters. */
struct destination {
    struct backend *be;
    const struct tensor *to;        /* 1-D, the whole array or this rank's pieces of it */
    float *host;                    /* the whole array in host memory, in place of `to` */
    int64_t first;                  /* index of the section's first number in the array */
    const struct optimizer *pieces; /* whose pieces `to` holds, or NULL for the whole array */
    int64_t end;                    /* of the array, beyond which parameters have no numbers */
    bool odd;                       /* a number was not finite */
    float odd_value;
};

enum status snapshot_refuse_weight(const char *path, const char *name, double value,
                                   struct error *err)
{
    return error_set(
        err, STATUS_DATA,
        "%s: the weight %s has a value of %g: the training that wrote it diverged; use "
        "an earlier checkpoint, and lower train.lr to train anew",
        path, name, value);
}

/* Notes the first value that is not finite. The checksum of the section is not known yet. */
static void note_odd(struct destination *d, const float *data, int64_t count)
{
    for (int64_t i = 0; i < count && !d->odd; i++)
        if (!isfinite(data[i])) {
            d->odd = true;
            d->odd_value = data[i];
        }
}

/* Stores numbers [first, first + count) of the array, as far as they are in this rank's pieces. */
static void put_pieces(const struct destination *d, const float *data, int64_t first, int64_t count)
{
    struct dist_part piece;
    int64_t at;
    for (int64_t i = 0; optimizer_part(d->pieces, i, d->end, &piece, &at); i++) {
        int64_t from = first > piece.first ? first : piece.first;
        int64_t end = piece.first + piece.count, to = first + count < end ? first + count : end;
        if (from >= to)
            continue;
        struct tensor part = tensor_slice(d->to, at + from - piece.first, to - from);
        op_upload(d->be, &part, data + (from - first), DTYPE_F32);
    }
}

static enum status take_piece(void *ctx, const void *data, size_t size, size_t offset,
                              struct error *err)
{
    struct destination *d = ctx;
    int64_t first = d->first + (int64_t)(offset / sizeof(float));
    int64_t count = (int64_t)(size / sizeof(float));
    note_odd(d, data, count);
    if (d->host != NULL) {
        memcpy(d->host + first, data, size);
        return STATUS_OK;
    }
    if (d->pieces != NULL) {
        put_pieces(d, data, first, count);
        return backend_check(d->be, err);
    }
    struct tensor part = tensor_slice(d->to, first, count);
    op_upload(d->be, &part, data, DTYPE_F32);
    return backend_check(d->be, err);
}

/* Reads the section `name`, which must have exactly the parameter's sizes. */
static enum status read_param(struct snapshot *s, const char *name, const struct param *q,
                              struct destination *to, struct error *err)
{
    const struct checkpoint_section *c = checkpoint_find(s->file, name);
    if (c == NULL)
        return error_set(err, STATUS_DATA,
                         "%s: no section %s. Was it written by another version of deq?",
                         checkpoint_path(s->file), name);
    bool same = c->type == CHECKPOINT_F32 && c->ndim == q->ndim;
    for (int i = 0; i < q->ndim && same; i++)
        same = c->dim[i] == q->dim[i];
    if (!same)
        return error_set(err, STATUS_DATA, "%s: section %s: other sizes than the configuration's",
                         checkpoint_path(s->file), name);
    to->first = q->offset;
    return checkpoint_read_pieces(s->file, name, take_piece, to, err);
}

enum status snapshot_read_weights(struct snapshot *s, const struct params *declared, float *host,
                                  struct error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    struct destination to = {.host = host};
    for (int i = 0; i < declared->count; i++) {
        const struct param *q = &declared->list[i];
        snprintf(name, sizeof name, "w:%s", q->name);
        TRY(read_param(s, name, q, &to, err));
        if (to.odd)
            return snapshot_refuse_weight(checkpoint_path(s->file), q->name, to.odd_value, err);
    }
    return STATUS_OK;
}

/* Reads an array of numbers for each parameter, as far as to->end. */
static enum status read_flat(struct snapshot *s, const char *prefix, const struct params *p,
                             struct destination *to, struct error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    for (int i = 0; i < p->count; i++) {
        if (p->list[i].offset >= to->end)
            continue;
        snprintf(name, sizeof name, "%s:%s", prefix, p->list[i].name);
        TRY(read_param(s, name, &p->list[i], to, err));
        if (to->odd && to->to == &p->w)
            return snapshot_refuse_weight(checkpoint_path(s->file), p->list[i].name, to->odd_value,
                                          err);
    }
    return STATUS_OK;
}

enum status snapshot_read_params(struct snapshot *s, struct params *params, struct error *err)
{
    struct destination to = {.be = params->be, .to = &params->w, .end = params->total};
    return read_flat(s, "w", params, &to, err);
}

enum status snapshot_read_training(struct snapshot *s, struct params *params, struct optimizer *o,
                                   struct error *err)
{
    char first[CHECKPOINT_NAME_MAX];
    struct destination to = {.be = params->be, .to = &params->w, .end = params->total};
    snprintf(first, sizeof first, "raw:%s", params->list[0].name);
    TRY(snapshot_read_params(s, params, err));
    optimizer_begin_average(o);
    return checkpoint_find(s->file, first) != NULL ? read_flat(s, "raw", params, &to, err)
                                                   : STATUS_OK;
}

enum status snapshot_read_optimizer(struct snapshot *s, struct optimizer *o, struct error *err)
{
    const struct optimizer_kind *kind = o->kind;
    for (int i = 0; i < kind->states; i++) {
        struct destination to = {.be = o->params->be,
                                 .to = &o->state[i],
                                 .pieces = o,
                                 .end = optimizer_state_end(kind, o->params, i)};
        TRY(read_flat(s, kind->state_name[i], o->params, &to, err));
    }
    o->updates = s->state.updates;
    return STATUS_OK;
}

/* Moves the newest `kept` of `count` positions of each stream together. */
static void keep_newest(float *rows, int64_t streams, int64_t count, int64_t kept, int64_t width)
{
    for (int64_t b = 0; b < streams && kept < count; b++)
        memmove(rows + b * kept * width, rows + (b * count + count - kept) * width,
                (size_t)(kept * width) * sizeof *rows);
}

/* Reads a memory of all streams and keeps those of `rank`, from rank * memory->batch on. */
static enum status read_one_memory(struct snapshot *s, const struct checkpoint_section *c,
                                   struct memory *memory, struct backend *be, int rank,
                                   struct error *err)
{
    float *host = NULL;
    TRY(mem_alloc((void **)&host, c->size, 1, err));
    enum status status = checkpoint_read_section(s->file, c->name, host, c->size, err);
    int64_t kept = c->dim[1] < memory->capacity ? c->dim[1] : memory->capacity;
    if (status == STATUS_OK) {
        keep_newest(host, c->dim[0], c->dim[1], kept, c->dim[2]);
        memory_upload(memory, be, host + rank * memory->batch * kept * c->dim[2], kept);
    }
    mem_free(host);
    return status;
}

enum status snapshot_read_memory(struct snapshot *s, struct model *m, const struct dist *dist,
                                 bool *taken, struct error *err)
{
    struct memory *memory;
    char name[CHECKPOINT_NAME_MAX];
    model_reset_memory(m);
    *taken = true;
    for (int i = 0; (memory = m->cell->ops->memory(m->cell, i)) != NULL; i++) {
        snprintf(name, sizeof name, "mem:%d", i);
        const struct checkpoint_section *c = checkpoint_find(s->file, name);
        if (c == NULL || c->type != CHECKPOINT_F32 || c->ndim != 3 ||
            c->dim[0] != dist_size(dist) * memory->batch || c->dim[2] != memory->width) {
            model_reset_memory(m); /* a memory that is filled in part would be wrong */
            *taken = false;
            return STATUS_OK;
        }
        TRY(read_one_memory(s, c, memory, m->be, dist_rank(dist), err));
    }
    return STATUS_OK;
}
