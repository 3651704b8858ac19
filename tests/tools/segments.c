/* Losses, and gradients, of consecutive segments under a checkpoint's weights, for comparisons with
 * other implementations.
 *
 *   segments CHECKPOINT eval|train BATCH LENGTH MEM_LEN IDS OUT.safetensors [KEY=VALUE]...
 *
 * IDS is a text of BATCH streams of ids, one after the other and equally long. OUT gets the losses
 * "nll" [BATCH,N - 1] of N tokens a stream and, of train, the gradients "g:NAME" of their mean over
 * each segment, summed, without dropout. KEY=VALUE change the configuration. */
#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "store/safetensors.h"
#include "store/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_MAX = 1 << 20 };

struct request {
    const char *checkpoint, *ids, *out;
    bool train;
    int64_t batch, length, mem_len;
    char **set;
    int sets;
};

struct work {
    struct snapshot from;
    struct backend be;
    struct model *m;
    int32_t *ids, *input, *target; /* own */
    int64_t count;                 /* ids of a stream */
    double *nll, *segment;         /* own */
    struct st_tensor *list;        /* owns */
    float **data;                  /* owns */
    char (*name)[PARAM_NAME_MAX + 2];
};

static enum status read_ids(const struct request *r, struct work *w, struct error *err)
{
    FILE *in = fopen(r->ids, "r");
    int64_t n = 0;
    if (in == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open", r->ids);
    while (n < IDS_MAX && fscanf(in, "%d", &w->ids[n]) == 1)
        n++;
    fclose(in);
    w->count = n / r->batch;
    return w->count >= 2 && w->count * r->batch == n
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s: no streams of equal length", r->ids);
}

static enum status run_segment(const struct request *r, struct work *w, int64_t at, int64_t length,
                               struct error *err)
{
    const struct masks none = {.source = MASKS_NONE};
    for (int64_t b = 0; b < r->batch; b++)
        for (int64_t t = 0; t < length; t++) {
            w->input[b * length + t] = w->ids[b * w->count + at + t];
            w->target[b * length + t] = w->ids[b * w->count + at + t + 1];
        }
    model_begin(w->m, w->input, length, &none);
    TRY(model_solve(w->m, 0, r->train, err));
    model_loss(w->m, w->target, 1.0 / (double)(r->batch * length), r->train);
    if (r->train)
        TRY(model_backward(w->m, err));
    model_remember(w->m);
    model_read_loss(w->m, w->segment);
    for (int64_t b = 0; b < r->batch; b++)
        memcpy(w->nll + b * (w->count - 1) + at, w->segment + b * length,
               (size_t)length * sizeof *w->nll);
    return STATUS_OK;
}

static enum status take_gradient(struct work *w, int i, struct error *err)
{
    const struct params *p = w->m->params;
    const struct param *q = &p->list[i];
    int64_t count = param_count(q);
    struct tensor dw = params_weight(p, i).dw;
    float *own;
    TRY(mem_alloc((void **)&w->data[i], (size_t)(2 * count), sizeof **w->data, err));
    own = w->data[i] + count;
    op_download(&w->be, own, DTYPE_F32, &dw);
    for (int64_t k = 0; k < count; k++)
        w->data[i][param_published_index(q, k)] = own[k];
    snprintf(w->name[i], sizeof w->name[i], "g:%s", q->name);
    w->list[i + 1] = (struct st_tensor){.name = w->name[i], .type = ST_F32, .data = w->data[i]};
    w->list[i + 1].ndim = params_published_dims(p, i, w->list[i + 1].dim);
    return STATUS_OK;
}

static enum status write_out(const struct request *r, struct work *w, struct error *err)
{
    int count = r->train ? w->m->params->count : 0;
    w->list[0] = (struct st_tensor){
        .name = "nll", .type = ST_F64, .ndim = 2, .dim = {r->batch, w->count - 1}, .data = w->nll};
    for (int i = 0; i < count; i++)
        TRY(take_gradient(w, i, err));
    return st_write(r->out, w->list, count + 1, NULL, 0, err);
}

static enum status prepare(const struct request *r, struct work *w, struct error *err)
{
    struct config *config = &w->from.config;
    struct model_plan plan = {
        .batch = r->batch, .length = r->length, .mem_len = r->mem_len, .train = r->train};
    TRY(snapshot_open(&w->from, r->checkpoint, err));
    for (int i = 0; i < r->sets; i++)
        TRY(config_set(config, r->set[i], err));
    TRY(config_resolve(config, config->model.vocab_size, err));
    TRY(cpu_open(&w->be, 0, err));
    TRY(model_create(&w->m, &w->be, config, NULL, &plan, err));
    TRY(snapshot_read_params(&w->from, w->m->params, err));
    model_refresh(w->m);
    size_t numbers = (size_t)(r->batch * r->length), count = (size_t)w->m->params->count;
    TRY(mem_alloc((void **)&w->ids, IDS_MAX, sizeof *w->ids, err));
    TRY(mem_alloc((void **)&w->nll, IDS_MAX, sizeof *w->nll, err));
    TRY(mem_alloc((void **)&w->input, numbers, sizeof *w->input, err));
    TRY(mem_alloc((void **)&w->target, numbers, sizeof *w->target, err));
    TRY(mem_alloc((void **)&w->segment, numbers, sizeof *w->segment, err));
    TRY(mem_alloc((void **)&w->list, count + 1, sizeof *w->list, err));
    TRY(mem_alloc((void **)&w->data, count, sizeof *w->data, err));
    TRY(mem_alloc((void **)&w->name, count, sizeof *w->name, err));
    return read_ids(r, w, err);
}

static enum status run(const struct request *r, struct work *w, struct error *err)
{
    TRY(prepare(r, w, err));
    for (int64_t at = 0; at < w->count - 1; at += r->length) {
        int64_t left = w->count - 1 - at;
        TRY(run_segment(r, w, at, left < r->length ? left : r->length, err));
    }
    if (r->train)
        model_finish_gradients(w->m);
    TRY(backend_check(&w->be, err));
    return write_out(r, w, err);
}

/* Memory is left to the end of the process. */
int main(int argc, char **argv)
{
    struct error err;
    struct work w = {0};
    if (argc < 8) {
        fprintf(stderr, "usage: segments CHECKPOINT eval|train BATCH LENGTH MEM_LEN IDS OUT "
                        "[KEY=VALUE]...\n");
        return 64;
    }
    const struct request r = {.checkpoint = argv[1],
                              .train = strcmp(argv[2], "train") == 0,
                              .batch = atoll(argv[3]),
                              .length = atoll(argv[4]),
                              .mem_len = atoll(argv[5]),
                              .ids = argv[6],
                              .out = argv[7],
                              .set = argv + 8,
                              .sets = argc - 8};
    enum status status = run(&r, &w, &err);
    if (status != STATUS_OK)
        fprintf(stderr, "segments: %s\n", err.text);
    return (int)status;
}
