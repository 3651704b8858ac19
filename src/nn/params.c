#include "nn/params.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Each parameter starts on a vector boundary, and on a block that decays or does not. */
enum { PARAM_ALIGN = ADAM_BLOCK };

void params_init(struct params *p, struct backend *be)
{
    memset(p, 0, sizeof *p);
    p->be = be;
}

void params_free(struct params *p)
{
    workspace_free(p->ws);
    mem_free(p->list);
    memset(p, 0, sizeof *p);
}

int64_t param_count(const struct param *q)
{
    return q->dim[0] * q->dim[1];
}

int64_t param_matrix_rows(const struct param *q, int64_t i, int64_t *first)
{
    assert(i >= 0 && i < q->matrices);
    int64_t own = q->first_rows > 0 ? q->first_rows : q->dim[0] / q->matrices;
    int64_t rest = q->matrices > 1 ? (q->dim[0] - own) / (q->matrices - 1) : 0;
    *first = i == 0 ? 0 : own + (i - 1) * rest;
    return i == 0 ? own : rest;
}

int params_published_dims(const struct params *p, int index, int64_t dim[3])
{
    const struct param *q = &p->list[index];
    if (q->norm_of >= 0) { /* [out, 1] or [out, 1, 1], as its matrix is */
        int ndim = params_published_dims(p, q->norm_of, dim);
        for (int i = 1; i < ndim; i++)
            dim[i] = 1;
        return ndim;
    }
    dim[0] = q->dim[0];
    dim[1] = q->taps > 0 ? q->dim[1] / q->taps : q->dim[1];
    dim[2] = q->taps;
    return q->taps > 0 ? 3 : q->ndim;
}

int64_t param_published_index(const struct param *q, int64_t i)
{
    if (q->taps <= 1)
        return i;
    int64_t in = q->dim[1] / q->taps, row = i / q->dim[1], j = i % q->dim[1] / in, d = i % in;
    return (row * in + d) * q->taps + j;
}

/* Gives every parameter its place. */
static void lay_out(struct params *p)
{
    p->total = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < p->count; i++) {
            struct param *q = &p->list[i];
            if ((q->matrices > 0) != (pass == 1))
                continue;
            q->offset = p->total;
            p->total += (param_count(q) + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
        }
        if (pass == 0)
            p->matrices = p->total;
    }
}

enum status params_add(struct params *p, const struct param_spec *spec, int *index,
                       struct error *err)
{
    bool vector = spec->cols == 0;
    assert(spec->matrices == 0 || !vector);
    assert(spec->first_rows > 0 ? spec->matrices > 1 && spec->first_rows < spec->rows &&
                                      (spec->rows - spec->first_rows) % (spec->matrices - 1) == 0
                                : spec->matrices == 0 || spec->rows % spec->matrices == 0);
    assert(p->w.data == NULL && params_find(p, spec->name) < 0);
    if (p->count == p->capacity) {
        int grown = p->capacity == 0 ? 32 : 2 * p->capacity;
        TRY(mem_grow((void **)&p->list, (size_t)p->count, (size_t)grown, sizeof *p->list, err));
        p->capacity = grown;
    }
    struct param *q = &p->list[p->count];
    *q = (struct param){.ndim = vector ? 1 : 2,
                        .dim = {spec->rows, vector ? 1 : spec->cols},
                        .init = spec->init,
                        .scale = spec->scale,
                        .taps = spec->taps,
                        .matrices = spec->matrices,
                        .first_rows = spec->first_rows,
                        .norm_of = -1,
                        .alias_of = -1};
    snprintf(q->name, sizeof q->name, "%s", spec->name);
    snprintf(q->part, sizeof q->part, "%s", spec->part);
    if (index != NULL)
        *index = p->count;
    p->count++;
    lay_out(p);
    return STATUS_OK;
}

static void declare_flat(struct params *p, struct tensor *t, const char *name,
                         enum memory_part part)
{
    workspace_declare(p->ws, t,
                      &(struct buffer){.name = name,
                                       .dtype = p->be->ops->real,
                                       .ndim = 1,
                                       .dim = {p->total},
                                       .life = lives_always(),
                                       .part = part});
}

enum status params_commit(struct params *p, bool train, struct error *err)
{
    TRY(workspace_create(&p->ws, p->be, err));
    declare_flat(p, &p->w, "parameters", PART_PARAMETERS);
    if (train)
        declare_flat(p, &p->g, "gradients", PART_GRADIENTS);
    return workspace_commit(p->ws, err);
}

static struct tensor view(const struct tensor *flat, const struct param *q)
{
    if (flat->data == NULL)
        return (struct tensor){0};
    char *data = (char *)flat->data + (size_t)q->offset * dtype_size(flat->dtype);
    return tensor_make(data, flat->dtype, q->ndim, q->dim[0], q->dim[1], 1, 1);
}

struct weight params_weight(const struct params *p, int index)
{
    assert(index >= 0 && index < p->count);
    const struct param *q = &p->list[index];
    return (struct weight){.w = view(&p->w, q), .dw = view(&p->g, q)};
}

int params_find(const struct params *p, const char *name)
{
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->list[i].name, name) == 0)
            return i;
    return -1;
}

int64_t params_distinct(const struct params *p, const char *part)
{
    int64_t sum = 0;
    for (int i = 0; i < p->count; i++)
        if (p->list[i].alias_of < 0 && (part == NULL || strcmp(part, p->list[i].part) == 0))
            sum += param_count(&p->list[i]);
    return sum;
}

int64_t params_reported(const struct params *p)
{
    int64_t sum = 0;
    for (int i = 0; i < p->count; i++)
        sum += param_count(&p->list[i]);
    return sum;
}

enum { INIT_PIECE = 1 << 13 }; /* numbers on the host at once */

/* Row norms of the parameter q belongs to. The g of weight normalisation starts as ||v||. */
static enum status init_row_norms(struct params *p, const struct param *q, struct error *err)
{
    const struct param *v = &p->list[q->norm_of];
    int64_t rows = v->dim[0], cols = v->dim[1];
    int64_t at_once = cols < INIT_PIECE ? INIT_PIECE / cols : 1;
    double *host = NULL;
    TRY(mem_alloc((void **)&host, (size_t)(at_once * cols), sizeof *host, err));
    struct tensor from = view(&p->w, v), to = view(&p->w, q);
    for (int64_t start = 0; start < rows; start += at_once) {
        int64_t count = rows - start < at_once ? rows - start : at_once;
        struct tensor part = tensor_slice(&from, start, count),
                      norms = tensor_slice(&to, start, count);
        op_download(p->be, host, DTYPE_F64, &part);
        for (int64_t r = 0; r < count; r++) {
            double sum = 0;
            for (int64_t c = 0; c < cols; c++)
                sum += host[r * cols + c] * host[r * cols + c];
            host[r] = sqrt(sum);
        }
        op_upload(p->be, &norms, host, DTYPE_F64);
    }
    mem_free(host);
    return STATUS_OK;
}

enum status params_initialize(struct params *p, uint64_t seed, struct error *err)
{
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        struct tensor w = view(&p->w, q);
        struct rng_key key = {seed, rng_stream(RNG_INIT, 0, (uint64_t)i)};
        switch (q->init) {
        case INIT_ZERO:
            op_fill(p->be, &w, 0.0);
            break;
        case INIT_ONE:
            op_fill(p->be, &w, 1.0);
            break;
        case INIT_CONSTANT:
            op_fill(p->be, &w, q->scale);
            break;
        case INIT_NORMAL:
            op_fill_normal(p->be, &w, q->scale, key);
            break;
        case INIT_UNIFORM:
            op_fill_uniform(p->be, &w, -q->scale, q->scale, key);
            break;
        case INIT_ROW_NORM:
            TRY(init_row_norms(p, q, err));
            break;
        }
        if (q->alias_of >= 0) {
            struct tensor shared = view(&p->w, &p->list[q->alias_of]);
            op_copy(p->be, &w, &shared);
        }
    }
    return STATUS_OK;
}

void params_split_aliases(struct params *p)
{
    for (int i = 0; i < p->count; i++) {
        if (p->list[i].alias_of < 0)
            continue;
        struct tensor w = view(&p->w, &p->list[i]);
        op_fill(p->be, &w, 0.0);
    }
}

void params_join_aliases(struct params *p)
{
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        if (q->alias_of < 0)
            continue;
        struct tensor w = view(&p->w, q), shared = view(&p->w, &p->list[q->alias_of]);
        op_axpby(p->be, &shared, 1.0, &w, 1.0);
    }
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        if (q->alias_of < 0)
            continue;
        struct tensor w = view(&p->w, q), shared = view(&p->w, &p->list[q->alias_of]);
        op_copy(p->be, &w, &shared);
    }
}
