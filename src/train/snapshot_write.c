#include "train/snapshot.h"

#include "base/json.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

/* --- the copy --------------------------------------------------------------------------------- */

static enum status plan_memories(struct snapshot_image *image, struct model *m, struct error *err)
{
    const struct cell_ops *ops = m->cell->ops;
    int count = 0;
    while (ops->memory(m->cell, count) != NULL)
        count++;
    TRY(mem_alloc((void **)&image->memory, (size_t)count, sizeof *image->memory, err));
    for (; image->memories < count; image->memories++) {
        const struct memory *from = ops->memory(m->cell, image->memories);
        struct image_memory *to = &image->memory[image->memories];
        *to = (struct image_memory){.batch = from->batch, .width = from->width};
        TRY(mem_alloc((void **)&to->rows, (size_t)(from->batch * from->capacity * from->width),
                      sizeof *to->rows, err));
    }
    return STATUS_OK;
}

enum status snapshot_image_create(struct snapshot_image *image, const struct snapshot_source *s,
                                  struct error *err)
{
    enum status status = STATUS_OK;
    size_t total = (size_t)s->model->params->total;
    *image = (struct snapshot_image){.params = s->model->params, .vocab = s->vocab};
    TRY_OUT(mem_alloc((void **)&image->w, total, sizeof *image->w, err));
    TRY_OUT(mem_alloc((void **)&image->m, total, sizeof *image->m, err));
    TRY_OUT(mem_alloc((void **)&image->v, total, sizeof *image->v, err));
    TRY_OUT(plan_memories(image, s->model, err));
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
    mem_free(image->m);
    mem_free(image->v);
    mem_free(image->config);
    mem_free(image->state);
    *image = (struct snapshot_image){0};
}

size_t snapshot_image_bytes(const struct snapshot_image *image)
{
    size_t numbers = image->params != NULL ? 3 * (size_t)image->params->total : 0;
    for (int i = 0; i < image->memories; i++)
        numbers += (size_t)(image->memory[i].batch * image->memory[i].count) *
                   (size_t)image->memory[i].width;
    return numbers * sizeof(float);
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
    json_write_int(&w, "micro", t->micro);
    json_write_real(&w, "best_nll", t->best_nll); /* null while there is none */
    json_write_int(&w, "best_step", t->best_step);
    json_write_int(&w, "evaluated", t->evaluated);
    json_write_real(&w, "seconds", t->seconds);
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

static void take_memory(struct image_memory *to, const struct memory *from, struct backend *be)
{
    struct tensor rows = memory_view(from);
    to->count = rows.data != NULL ? from->count : 0;
    if (to->count > 0)
        op_download(be, to->rows, DTYPE_F32, &rows);
}

enum status snapshot_take(struct snapshot_image *image, const struct snapshot_source *s,
                          struct error *err)
{
    struct model *m = s->model;
    TRY(take_texts(image, s, err));
    op_download(m->be, image->w, DTYPE_F32, &m->params->w);
    op_download(m->be, image->m, DTYPE_F32, &s->optimizer->m);
    op_download(m->be, image->v, DTYPE_F32, &s->optimizer->v);
    for (int i = 0; i < image->memories; i++)
        take_memory(&image->memory[i], m->cell->ops->memory(m->cell, i), m->be);
    return backend_check(m->be, err);
}

/* --- the file --------------------------------------------------------------------------------- */

static enum status write_texts(struct checkpoint_writer *w, const struct snapshot_image *image,
                               struct error *err)
{
    size_t size;
    const char *vocab = vocab_text(image->vocab, &size);
    int64_t dim = (int64_t)size;
    TRY(checkpoint_write_text(w, "config", image->config, err));
    TRY(checkpoint_write_text(w, "state", image->state, err));
    return checkpoint_write_section(w, "vocab", CHECKPOINT_U8, 1, &dim, vocab, err);
}

/* One of the three arrays that are laid out like the parameters. */
static enum status write_flat(struct checkpoint_writer *w, char prefix, const struct params *p,
                              const float *flat, struct error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        snprintf(name, sizeof name, "%c:%s", prefix, q->name);
        TRY(checkpoint_write_section(w, name, CHECKPOINT_F32, q->ndim, q->dim, flat + q->offset,
                                     err));
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
        if (from->count > 0)
            TRY(checkpoint_write_section(w, name, CHECKPOINT_F32, 3, dims, from->rows, err));
    }
    return STATUS_OK;
}

enum status snapshot_write(const char *path, const struct snapshot_image *image, struct error *err)
{
    enum status status = STATUS_OK;
    struct checkpoint_writer *w = NULL;
    TRY_OUT(checkpoint_write_open(&w, path, err));
    TRY_OUT(write_texts(w, image, err));
    TRY_OUT(write_flat(w, 'w', image->params, image->w, err));
    TRY_OUT(write_flat(w, 'm', image->params, image->m, err));
    TRY_OUT(write_flat(w, 'v', image->params, image->v, err));
    TRY_OUT(write_memory(w, image, err));
    TRY_OUT(checkpoint_write_close(&w, err));
out:
    checkpoint_write_abort(&w);
    return status;
}
