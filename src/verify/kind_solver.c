/* Kinds "solver" (one layer's f) and "solver_map" (toy maps) hold results and residual traces of
 * the published Broyden and Anderson, under names METHOD_STOP[_LIMIT]:TENSOR. */
#include "verify/verify_impl.h"

#include "base/mem.h"
#include "cell/transformer/transformer_cell.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASE_NAME = 64, MAX_TRACE = 1000, TOY_MAX = 4096 };

/* Published settings that the dumps do not state. */
static const double UNSTATED_EPS = 1e-8, PUBLISHED_RIDGE = 1e-4, LINEAR_SCALE = 0.5;
enum { UNSTATED_LIMIT = 30, PUBLISHED_HISTORY = 6 };
/* The evaluation, counted from 0, that a published trace begins with. Broyden's begins after its
 * first step. */
enum { BROYDEN_FIRST = 1, ANDERSON_FIRST = 2 };

/* The map that is solved for, and the shape [batch, length, width] of z. */
struct problem {
    solve_fn fn;
    void *ctx;
    int64_t batch, length, width;
    bool transposed; /* the dump has z as [B, channel, time] */
};

struct toy {
    struct backend *be;
    struct tensor w, bias; /* owns [n,n], [B,n] */
    bool tanh;
    double *host; /* owns [B*n] */
};

/* f(z) = W z / 2 + b, or tanh(W z + b), on the flattened sample. */
static enum status toy_eval(void *ctx, const struct tensor *z, const struct tensor *f,
                            const struct tensor *rows, struct error *err)
{
    struct toy *t = ctx;
    assert(rows == NULL);
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f);
    int64_t count = tensor_count(z);
    op_copy(t->be, &fm, &t->bias);
    op_gemm(t->be, &(struct gemm){.trans_b = true,
                                  .alpha = t->tanh ? 1.0 : LINEAR_SCALE,
                                  .beta = 1,
                                  .a = zm,
                                  .b = t->w,
                                  .c = fm});
    if (!t->tanh)
        return backend_check(t->be, err);
    op_download(t->be, t->host, DTYPE_F64, f);
    for (int64_t i = 0; i < count; i++)
        t->host[i] = tanh(t->host[i]);
    op_upload(t->be, f, t->host, DTYPE_F64);
    return backend_check(t->be, err);
}

static enum status layer_eval(void *ctx, const struct tensor *z, const struct tensor *f,
                              const struct tensor *rows, struct error *err)
{
    struct verify *v = ctx;
    assert(rows == NULL);
    v->model->cell->ops->eval(v->model->cell, 0, z, f);
    return backend_check(v->be, err);
}

/* Takes a method's name and "_" from the front of *name. */
static bool parse_method(const char **name, enum solve_method *method)
{
    static const char *const names[] = {
#define NAME(NAME, name) [SOLVE_##NAME] = #name "_",
        SOLVE_METHODS(NAME)
#undef NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(*name, names[i], strlen(names[i])) != 0)
            continue;
        *method = (enum solve_method)i;
        *name += strlen(names[i]);
        return true;
    }
    return false;
}

/* From "broyden_ls_rel_12" to settings; false if the name says nothing known. */
static bool parse_case(const char *name, struct solver_config *c)
{
    *c = (struct solver_config){.scope = SCOPE_BATCH,
                                .max_iter = UNSTATED_LIMIT,
                                .history = PUBLISHED_HISTORY,
                                .damping = 1,
                                .ridge = PUBLISHED_RIDGE,
                                .ridge_mode = RIDGE_ABS};
    if (!parse_method(&name, &c->method))
        return false;
    if (strncmp(name, "ls_", 3) == 0) {
        c->line_search = true;
        name += 3;
    }
    if (strncmp(name, "abs", 3) != 0 && strncmp(name, "rel", 3) != 0)
        return false;
    c->stop = name[0] == 'a' ? STOP_ABS : STOP_REL;
    name += 3;
    if (name[0] == '_') {
        char *end;
        c->max_iter = strtol(name + 1, &end, 10);
        name = end;
    }
    /* Broyden's published limit counts steps, not evaluations, and its history is never dropped */
    if (c->method == SOLVE_BROYDEN) {
        c->max_iter++;
        c->history = c->max_iter < 64 ? c->max_iter : 64;
    }
    return name[0] == '\0' && c->max_iter > ANDERSON_FIRST && c->max_iter <= MAX_TRACE;
}

static double case_eps(struct verify *v, const char *name)
{
    char full[CASE_NAME + 16];
    snprintf(full, sizeof full, "%s:eps", name);
    const struct st_tensor *t = verify_find(v, full);
    if (t != NULL && t->count == 1)
        return st_value(t, 0);
    return UNSTATED_EPS;
}

/* Writes the trace as published, where the lowest residual fills the places after the end, and
 * returns its length. *lowest and *at receive that residual and its evaluation. Broyden's trace has
 * a place more than the published limit allows steps, which c->max_iter includes. */
static int64_t published_trace(const struct solve_report *r, const struct solver_config *c,
                               bool absolute, double *trace, double *lowest, int64_t *at)
{
    bool anderson = c->method == SOLVE_ANDERSON;
    int64_t first = anderson ? ANDERSON_FIRST : BROYDEN_FIRST;
    int64_t length = anderson ? c->max_iter - first : c->max_iter;
    const double *from = absolute ? r->trace_abs : r->trace_rel;
    *lowest = INFINITY;
    *at = 0;
    for (int64_t k = first; k < r->trace_len; k++) {
        trace[k - first] = from[k];
        if (from[k] < *lowest) {
            *lowest = from[k];
            *at = k;
        }
    }
    /* the trace of a solve that breaks down at once ends before `first` */
    for (int64_t k = r->trace_len > first ? r->trace_len - first : 0; k < length; k++)
        trace[k] = *lowest;
    return length;
}

static enum status compare_case(struct verify *v, const char *name, const struct solver_config *c,
                                const struct solve_report *r, struct error *err)
{
    double trace[MAX_TRACE], lowest, other, largest = 0;
    int64_t at, ignored;
    char full[CASE_NAME + 16];
    bool absolute = c->stop == STOP_ABS;
    for (int kind = 0; kind < 2; kind++) {
        int64_t n = published_trace(r, c, kind == 1, trace, &other, &ignored);
        snprintf(full, sizeof full, "%s:%s_trace", name, kind == 1 ? "abs" : "rel");
        TRY(verify_compare(v, full, &(struct verify_values){.x = trace, .count = n}, TOL_TRACE,
                           err));
    }
    int64_t n = published_trace(r, c, absolute, trace, &lowest, &at);
    for (int64_t k = 0; k < n; k++)
        largest = fmax(largest, trace[k]);
    snprintf(full, sizeof full, "%s:lowest", name);
    TRY(verify_compare(v, full, &(struct verify_values){.x = &lowest, .count = 1, .scale = largest},
                       TOL_TRACE, err));
    snprintf(full, sizeof full, "%s:nstep", name);
    if (v->be->ops->real == DTYPE_F32 && lowest < 1e-5 * largest)
        return verify_skip(v, full, "the lowest residual is rounding noise in float32", err);
    return verify_number(v, full, (double)at, TOL_EXACT, err);
}

static enum status run_case(struct verify *v, const char *name, const struct problem *p,
                            struct error *err)
{
    struct solver_config c;
    struct solver_plan plan = {.batch = p->batch, .length = p->length, .width = p->width};
    struct solver *s = NULL;
    struct tensor z = {0};
    struct solve_report report;
    char full[CASE_NAME + 16];
    enum status status = STATUS_OK;
    if (!parse_case(name, &c))
        return STATUS_OK; /* its tensors are reported as unknown */
    c.tol = case_eps(v, name);
    TRY_OUT(op_alloc(v->be, &z, v->be->ops->real, 3, p->batch, p->length, p->width, 1, err));
    TRY_OUT(solver_create(&s, v->be, &c, &plan, err));
    TRY_OUT(solver_run(s, p->fn, p->ctx, &z, NULL, NULL, err));
    TRY_OUT(solver_report(s, &report, err));
    snprintf(full, sizeof full, "%s:result", name);
    TRY_OUT(verify_tensor(v, full, &z, p->transposed ? LAYOUT_BCT : LAYOUT_SAME, TOL_TRACE, err));
    TRY_OUT(compare_case(v, name, &c, &report, err));
out:
    solver_free(s);
    op_release(v->be, &z);
    return status;
}

/* Runs every case of the file. Each has one tensor NAME:result. */
static enum status run_cases(struct verify *v, const struct problem *p, struct error *err)
{
    for (int64_t i = 0; i < st_count(v->file); i++) {
        char name[CASE_NAME];
        const char *full = st_tensor(v->file, i)->name, *colon = strrchr(full, ':');
        if (colon == NULL || strcmp(colon, ":result") != 0 || colon - full >= CASE_NAME)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(colon - full), full);
        TRY(run_case(v, name, p, err));
    }
    return STATUS_OK;
}

enum status verify_kind_solver(struct verify *v, struct error *err)
{
    const struct st_tensor *stream;
    const struct masks none = {.source = MASKS_NONE};
    int32_t *input = NULL;
    enum status status = STATUS_OK;
    if (v->config.model.cell != CELL_TRANSFORMER)
        return verify_fail(v, "(config)", "cell: dumps of this kind have a transformer", err);
    TRY(verify_need(v, "stream", &stream, err));
    if (stream->ndim != 2 || stream->dim[0] < 2)
        return error_set(err, STATUS_DATA, "%s: stream: want [time, streams]", v->path);
    int64_t batch = stream->dim[1], length = stream->dim[0] - 1;
    if (length > v->config.train.tgt_len)
        v->config.train.tgt_len = length;
    TRY(verify_setup_model(v, batch, "w", true, err));
    TRY(mem_alloc((void **)&input, (size_t)(batch * length), sizeof *input, err));
    TRY_OUT(verify_take_tokens(v, 0, length, input, err));
    model_begin(v->model, input, length, &none);
    struct transformer_cell *cell = (struct transformer_cell *)v->model->cell;
    TRY_OUT(verify_tensor(v, "u", &cell->block[0].input.u, LAYOUT_BCT, TOL_FORWARD, err));
    struct problem p = {layer_eval, v, batch, length, v->config.model.d_model, true};
    TRY_OUT(run_cases(v, &p, err));
out:
    mem_free(input);
    return status;
}

static enum status load_toy(struct verify *v, struct toy *t, int64_t *batch, int64_t *n,
                            struct error *err)
{
    const struct st_tensor *w, *bias;
    TRY(verify_need(v, "W", &w, err));
    TRY(verify_need(v, "bias", &bias, err));
    *n = w->ndim == 2 ? w->dim[0] : 0;
    if (w->ndim != 2 || w->dim[1] != *n || *n < 1 || *n > TOY_MAX || bias->count % *n != 0 ||
        bias->count == 0)
        return error_set(err, STATUS_DATA, "%s: W and bias do not fit each other", v->path);
    *batch = bias->count / *n;
    TRY(op_alloc(v->be, &t->w, v->be->ops->real, 2, *n, *n, 1, 1, err));
    TRY(op_alloc(v->be, &t->bias, v->be->ops->real, 2, *batch, *n, 1, 1, err));
    TRY(mem_alloc((void **)&t->host, (size_t)bias->count, sizeof *t->host, err));
    TRY(verify_fill_tensor(v, "W", &t->w, err));
    return verify_fill_tensor(v, "bias", &t->bias, err);
}

enum status verify_kind_solver_map(struct verify *v, struct error *err)
{
    const char *config = st_meta(v->file, "config");
    struct toy toy = {.be = v->be};
    int64_t batch = 0, n = 0;
    enum status status = STATUS_OK;
    bool linear = config != NULL && strstr(config, "\"linear\"") != NULL;
    toy.tanh = config != NULL && strstr(config, "\"tanh\"") != NULL;
    if (!linear && !toy.tanh)
        return verify_fail(v, "(config)", "no such map is known: want linear or tanh", err);
    TRY_OUT(load_toy(v, &toy, &batch, &n, err));
    /* A sample is a sequence of one position. Published mixing weights are per sample, and the stop
     * is over the batch. */
    struct problem p = {toy_eval, &toy, batch, 1, n, false};
    TRY_OUT(run_cases(v, &p, err));
out:
    op_release(v->be, &toy.w);
    op_release(v->be, &toy.bias);
    mem_free(toy.host);
    return status;
}
