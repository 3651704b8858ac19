/* Copies the state of a training and writes it as a checkpoint. */
#include "store/snapshot.h"

#include "base/json.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- the copy --------------------------------------------------------------------------------- */

/* Whether this rank is the one that keeps the copy. */
static bool is_keeper(const struct snapshot_image *image)
{
    return dist_rank(image->dist) == 0;
}

static enum status alloc_numbers(float **out, int64_t count, struct error *err)
{
    return mem_alloc((void **)out, (size_t)count, sizeof **out, err);
}

/* Allocates the copies of the optimizer's states. */
static enum status alloc_moments(struct snapshot_image *image, struct error *err)
{
    for (int i = 0; i < image->kind->states; i++)
        TRY(alloc_numbers(&image->moment[i], optimizer_state_end(image->kind, image->params, i),
                          err));
    return STATUS_OK;
}

/* Allocates the copies of all memories. Raises *most to the numbers a rank sends at once. */
static enum status alloc_memories(struct snapshot_image *image, struct model *m, int64_t *most,
                                  struct error *err)
{
    const struct cell_ops *ops = m->cell->ops;
    int64_t ranks = dist_size(image->dist);
    int count = 0;
    while (ops->memory(m->cell, count) != NULL)
        count++;
    TRY(mem_alloc((void **)&image->memory, (size_t)count, sizeof *image->memory, err));
    for (; image->memories < count; image->memories++) {
        const struct memory *from = ops->memory(m->cell, image->memories);
        struct image_memory *to = &image->memory[image->memories];
        int64_t own = from->batch * from->capacity * from->width;
        *to = (struct image_memory){.batch = ranks * from->batch, .width = from->width};
        *most = own > *most ? own : *most;
        if (is_keeper(image))
            TRY(alloc_numbers(&to->rows, ranks * own, err));
    }
    return STATUS_OK;
}

enum status snapshot_image_create(struct snapshot_image *image, const struct snapshot_source *s,
                                  struct error *err)
{
    enum status status = STATUS_OK;
    struct dist *d = s->optimizer->dist;
    int64_t total = s->model->params->total, most = dist_part(d, total, 0, 0).count;
    *image = (struct snapshot_image){.dist = d,
                                     .params = s->model->params,
                                     .kind = s->optimizer->kind,
                                     .vocab = s->vocab,
                                     .compress = s->config->train.compress};
    if (is_keeper(image)) {
        TRY_OUT(alloc_numbers(&image->w, total, err));
        TRY_OUT(alloc_moments(image, err));
        if (s->optimizer->average.data != NULL)
            TRY_OUT(alloc_numbers(&image->raw, total, err));
    }
    TRY_OUT(alloc_memories(image, s->model, &most, err));
    if (dist_size(d) > 1)
        TRY_OUT(alloc_numbers(&image->own, most, err));
    if (dist_size(d) > 1 && is_keeper(image))
        TRY_OUT(alloc_numbers(&image->all, dist_size(d) * most, err));
    return STATUS_OK;
out:
    snapshot_image_free(image);
    return status;
}

void snapshot_image_free(struct snapshot_image *image)
{
    for (int i = 0; i < image->memories; i++)
        mem_free(image->memory[i].rows);
    mem_free(image->memory);
    mem_free(image->w);
    mem_free(image->raw);
    for (int i = 0; i < OPTIMIZER_MAX_STATES; i++)
        mem_free(image->moment[i]);
    mem_free(image->own);
    mem_free(image->all);
    mem_free(image->config);
    mem_free(image->state);
    *image = (struct snapshot_image){0};
}

size_t snapshot_image_bytes(const struct snapshot_image *image)
{
    size_t arrays = (image->w != NULL) + (size_t)(image->raw != NULL);
    size_t numbers = arrays * (size_t)image->params->total;
    for (int i = 0; i < image->kind->states && image->w != NULL; i++)
        numbers += (size_t)optimizer_state_end(image->kind, image->params, i);
    for (int i = 0; i < image->memories; i++)
        numbers += (size_t)(image->memory[i].batch * image->memory[i].count) *
                   (size_t)image->memory[i].width;
    return numbers * sizeof(float);
}

static void write_hash(struct json_writer *w, const char *key, uint64_t hash)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    if (hash != 0)
        json_write_string(w, key, text);
}

static enum status state_text(const struct snapshot_source *s, char **out, struct error *err)
{
    const struct train_state *t = s->state;
    struct json_writer w;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_int(&w, "format", SNAPSHOT_STATE_FORMAT);
    json_write_int(&w, "step", t->step);
    json_write_int(&w, "tokens", t->tokens);
    json_write_int(&w, "skipped", t->skipped);
    json_write_int(&w, "updates", t->updates);
    json_write_int(&w, "epoch", t->epoch);
    json_write_int(&w, "segment", t->segment);
    json_write_int(&w, "position", t->position);
    json_write_int(&w, "micro", t->micro);
    json_write_real(&w, "best_nll", t->best_nll); /* null before the first evaluation */
    json_write_int(&w, "best_step", t->best_step);
    if (t->best.known) {
        json_write_real(&w, "best_bits_per_byte", t->best.bits_per_byte);
        json_write_real(&w, "best_bits_per_byte_known", t->best.bits_per_byte_known);
        json_write_real(&w, "best_unknown", t->best.unknown);
    }
    json_write_int(&w, "evaluated", t->evaluated);
    json_write_int(&w, "ranks", t->ranks);
    json_write_int(&w, "logged", t->logged);
    if (t->waited > 0)
        json_write_int(&w, "waited", t->waited);
    if (t->schedule_start > 0)
        json_write_int(&w, "schedule_start", t->schedule_start);
    if (t->reset != 0)
        json_write_int(&w, "reset", t->reset);
    write_hash(&w, "train_text", t->train_text);
    write_hash(&w, "valid_text", t->valid_text);
    json_write_real(&w, "seconds", t->seconds);
    if (t->origin[0] != '\0')
        json_write_string(&w, "origin", t->origin);
    json_write_string(&w, "rng", "philox4x32-10");
    json_write_int(&w, "seed", s->config->train.seed);
    json_write_end(&w);
    return json_write_finish(&w, out, err);
}

static enum status take_texts(struct snapshot_image *image, const struct snapshot_source *s,
                              struct error *err)
{
    mem_free(image->config);
    mem_free(image->state);
    image->config = image->state = NULL;
    TRY(config_to_json(s->config, false, &image->config, err));
    return state_text(s, &image->state, err);
}

enum status snapshot_image_of_weights(struct snapshot_image *image, const struct config *config,
                                      const struct vocab *vocab, const struct params *declared,
                                      struct error *err)
{
    enum status status = STATUS_OK;
    struct train_state state = {.best_nll = INFINITY, .ranks = 1};
    struct snapshot_source source = {.config = config, .vocab = vocab, .state = &state};
    *image = (struct snapshot_image){.params = declared,
                                     .vocab = vocab,
                                     .kind = optimizer_kind_of(&config->train),
                                     .compress = config->train.compress};
    TRY_OUT(alloc_numbers(&image->w, declared->total, err));
    TRY_OUT(alloc_moments(image, err));
    TRY_OUT(take_texts(image, &source, err));
    return STATUS_OK;
out:
    snapshot_image_free(image);
    return status;
}

/* Copies a memory, whose streams are divided among the ranks in their order. */
static void take_memory(struct snapshot_image *image, struct image_memory *to,
                        const struct memory *from, struct backend *be)
{
    struct tensor rows = memory_view(from);
    to->count = rows.data != NULL ? from->count : 0;
    if (to->count == 0)
        return;
    if (dist_size(image->dist) == 1) {
        op_download(be, to->rows, DTYPE_F32, &rows);
        return;
    }
    op_download(be, image->own, DTYPE_F32, &rows);
    dist_gather(image->dist, image->own, (size_t)tensor_count(&rows) * sizeof(float), to->rows);
}

/* Collects a state that lies in pieces on all ranks. */
static void gather_moments(struct snapshot_image *image, const struct optimizer *o, int state)
{
    struct dist *d = image->dist;
    struct backend *be = o->params->be;
    struct dist_part piece;
    int64_t at, total = o->params->total, most = dist_part(d, total, 0, 0).count;
    int64_t end = optimizer_state_end(o->kind, o->params, state);
    for (int64_t i = 0; optimizer_part(o, i, end, &piece, &at); i++) {
        if (piece.count > 0) {
            struct tensor part = tensor_slice(&o->state[state], at, piece.count);
            op_download(be, image->own, DTYPE_F32, &part);
        }
        dist_gather(d, image->own, (size_t)most * sizeof(float), image->all);
        for (int r = 0; r < dist_size(d) && is_keeper(image); r++) {
            struct dist_part theirs = dist_part(d, total, i, r);
            int64_t count = end - theirs.first < theirs.count ? end - theirs.first : theirs.count;
            if (count > 0)
                memcpy(image->moment[state] + theirs.first, image->all + r * most,
                       (size_t)count * sizeof(float));
        }
    }
}

static void take_moments(struct snapshot_image *image, const struct optimizer *o, int state)
{
    if (o->sharded)
        gather_moments(image, o, state);
    else if (is_keeper(image))
        op_download(o->params->be, image->moment[state], DTYPE_F32, &o->state[state]);
}

/* Refuses a copy whose weights would be of no use. */
static enum status check_weights(const struct snapshot_image *image,
                                 const struct snapshot_source *s, struct error *err)
{
    for (int i = 0; i < image->params->count && is_keeper(image); i++) {
        const struct param *q = &image->params->list[i];
        for (int64_t k = 0; k < param_count(q); k++)
            if (!isfinite(image->w[q->offset + k]))
                return error_set(err, STATUS_CHECK,
                                 "step %lld: the weight %s has a value of %g, so nothing is saved "
                                 "and checkpoints stay as they were: lower train.lr, or raise "
                                 "train.warmup_steps or train.eps",
                                 (long long)s->state->step, q->name, image->w[q->offset + k]);
    }
    return STATUS_OK;
}

enum status snapshot_take(struct snapshot_image *image, const struct snapshot_source *s,
                          struct error *err)
{
    struct model *m = s->model;
    TRY(take_texts(image, s, err));
    const struct tensor *average = &s->optimizer->average, *w = &m->params->w;
    if (is_keeper(image))
        op_download(m->be, image->w, DTYPE_F32, image->raw != NULL ? average : w);
    if (image->raw != NULL)
        op_download(m->be, image->raw, DTYPE_F32, w);
    for (int i = 0; i < image->kind->states; i++)
        take_moments(image, s->optimizer, i);
    for (int i = 0; i < image->memories; i++)
        take_memory(image, &image->memory[i], m->cell->ops->memory(m->cell, i), m->be);
    TRY(backend_check(m->be, err));
    return check_weights(image, s, err);
}

/* --- the file --------------------------------------------------------------------------------- */

static enum status write_texts(struct checkpoint_writer *w, const struct snapshot_image *image,
                               struct error *err)
{
    size_t size;
    const char *vocab = vocab_text(image->vocab, &size);
    int64_t dim = (int64_t)size;
    const struct checkpoint_array section = {"vocab", CHECKPOINT_U8, 1, &dim, vocab};
    TRY(checkpoint_write_text(w, "config", image->config, err));
    TRY(checkpoint_write_text(w, "state", image->state, err));
    TRY(checkpoint_write_section(w, &section, err));
    if (vocab_subwords(image->vocab) == NULL)
        return STATUS_OK;
    const void *model = subwords_model(vocab_subwords(image->vocab), &size);
    int64_t bytes = (int64_t)size;
    const struct checkpoint_array tokenizer = {"tokenizer", CHECKPOINT_U8, 1, &bytes, model};
    return checkpoint_write_section(w, &tokenizer, err);
}

/* One of the arrays that are laid out like the parameters, of `end` numbers. */
struct flat_array {
    const char *prefix;
    const float *numbers;
    int64_t end;
};

static enum status write_flat(struct checkpoint_writer *w, const struct params *p,
                              const struct flat_array *flat, struct error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        if (q->offset >= flat->end)
            continue;
        snprintf(name, sizeof name, "%s:%s", flat->prefix, q->name);
        const struct checkpoint_array section = {name, CHECKPOINT_F32, q->ndim, q->dim,
                                                 flat->numbers + q->offset};
        TRY(checkpoint_write_section(w, &section, err));
    }
    return STATUS_OK;
}

static enum status write_arrays(struct checkpoint_writer *w, const struct snapshot_image *image,
                                struct error *err)
{
    const struct params *p = image->params;
    const struct flat_array weights = {"w", image->w, p->total};
    const struct flat_array raw = {"raw", image->raw, p->total};
    TRY(write_flat(w, p, &weights, err));
    if (image->raw != NULL)
        TRY(write_flat(w, p, &raw, err));
    for (int i = 0; i < image->kind->states; i++) {
        const struct flat_array state = {image->kind->state_name[i], image->moment[i],
                                         optimizer_state_end(image->kind, p, i)};
        TRY(write_flat(w, p, &state, err));
    }
    return STATUS_OK;
}

static enum status write_memory(struct checkpoint_writer *w, const struct snapshot_image *image,
                                struct error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    for (int i = 0; i < image->memories; i++) {
        const struct image_memory *from = &image->memory[i];
        int64_t dims[3] = {from->batch, from->count, from->width};
        snprintf(name, sizeof name, "mem:%d", i);
        const struct checkpoint_array section = {name, CHECKPOINT_F32, 3, dims, from->rows};
        if (from->count > 0)
            TRY(checkpoint_write_section(w, &section, err));
    }
    return STATUS_OK;
}

enum status snapshot_write(const char *path, const struct snapshot_image *image, struct error *err)
{
    enum status status = STATUS_OK;
    struct checkpoint_writer *w = NULL;
    TRY_OUT(checkpoint_write_open(&w, path, err));
    if (!image->compress)
        checkpoint_write_plain(w);
    TRY_OUT(write_texts(w, image, err));
    TRY_OUT(write_arrays(w, image, err));
    TRY_OUT(write_memory(w, image, err));
    TRY_OUT(checkpoint_write_close(&w, err));
out:
    checkpoint_write_abort(&w);
    return status;
}
