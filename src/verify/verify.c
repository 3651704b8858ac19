/* The report of a dump, and the table of kinds. */
#include "verify/verify_impl.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    double f32, f64;
} tolerances[TOL_COUNT] = {
    [TOL_EXACT] = {1e-6, 1e-14}, [TOL_FORWARD] = {1e-5, 1e-12}, [TOL_GRADIENT] = {3e-5, 1e-12},
    [TOL_SOLVED] = {5e-5, 1e-9}, [TOL_ADJOINT] = {2e-4, 1e-9},  [TOL_TRAINED] = {5e-2, 1e-5},
    [TOL_RADIUS] = {4, 4},       [TOL_SECOND] = {1e-4, 1e-12},  [TOL_TRACE] = {1e-3, 1e-9},
    [TOL_COURSE] = {5e-4, 1e-6},
};

static double tolerance_of(const struct verify *v, enum tolerance tol)
{
    if (v->tol > 0)
        return v->tol;
    return v->be->ops->real == DTYPE_F64 ? tolerances[tol].f64 : tolerances[tol].f32;
}

static enum status add_row(struct verify *v, const char *name, struct verify_row **row,
                           struct error *err)
{
    struct verify_report *r = v->report;
    if (r->count == r->capacity) {
        int64_t grown = r->capacity == 0 ? 64 : 2 * r->capacity;
        TRY(mem_grow((void **)&r->rows, (size_t)r->count, (size_t)grown, sizeof *r->rows, err));
        r->capacity = grown;
    }
    *row = &r->rows[r->count++];
    **row = (struct verify_row){.max_abs = NAN, .max_rel = NAN, .tol = NAN};
    snprintf((*row)->name, sizeof(*row)->name, "%s", name);
    return STATUS_OK;
}

const struct st_tensor *verify_find(struct verify *v, const char *name)
{
    const struct st_tensor *t = st_find(v->file, name);
    if (t != NULL)
        v->seen[t - st_tensor(v->file, 0)] = true;
    return t;
}

enum status verify_need(struct verify *v, const char *name, const struct st_tensor **out,
                        struct error *err)
{
    *out = verify_find(v, name);
    if (*out == NULL)
        return error_set(err, STATUS_DATA, "%s: a dump of kind %s needs the tensor %s", v->path,
                         v->report->kind, name);
    return STATUS_OK;
}

enum status verify_fail(struct verify *v, const char *name, const char *why, struct error *err)
{
    struct verify_row *row;
    (void)verify_find(v, name);
    TRY(add_row(v, name, &row, err));
    snprintf(row->note, sizeof row->note, "%s", why);
    v->report->pass = false;
    return STATUS_OK;
}

enum status verify_skip(struct verify *v, const char *name, const char *why, struct error *err)
{
    struct verify_row *row;
    if (verify_find(v, name) == NULL)
        return STATUS_OK;
    TRY(add_row(v, name, &row, err));
    row->pass = true;
    snprintf(row->note, sizeof row->note, "%s", why);
    return STATUS_OK;
}

enum status verify_skip_prefix(struct verify *v, const char *prefix, const char *why,
                               struct error *err)
{
    for (int64_t i = 0; i < st_count(v->file); i++) {
        const char *name = st_tensor(v->file, i)->name;
        if (strncmp(name, prefix, strlen(prefix)) == 0 && !v->seen[i])
            TRY(verify_skip(v, name, why, err));
    }
    return STATUS_OK;
}

enum status verify_compare(struct verify *v, const char *name, const struct verify_values *ours,
                           enum tolerance tol, struct error *err)
{
    const struct st_tensor *t = verify_find(v, name);
    struct verify_row *row;
    double largest = 0, worst = 0, scale = ours->scale;
    if (t == NULL)
        return STATUS_OK;
    if (t->count != ours->count)
        return verify_fail(v, name, "its number of elements is not the one computed here", err);
    for (int64_t i = 0; i < t->count; i++) {
        double want = st_value(t, i), off = fabs(ours->x[i] - want);
        largest = fabs(want) > largest ? fabs(want) : largest;
        if (!(off <= worst)) /* a NaN stays */
            worst = off;
    }
    if (scale == 0)
        scale = largest > 0 ? largest : 1;
    TRY(add_row(v, name, &row, err));
    row->compared = true;
    row->max_abs = worst;
    row->max_rel = worst / scale;
    row->tol = tolerance_of(v, tol);
    row->pass = row->max_rel <= row->tol;
    v->report->pass = v->report->pass && row->pass;
    return STATUS_OK;
}

enum status verify_number(struct verify *v, const char *name, double ours, enum tolerance tol,
                          struct error *err)
{
    return verify_compare(v, name, &(struct verify_values){.x = &ours, .count = 1}, tol, err);
}

/* Writes our [B,T,C] in the order of the dump. */
static void reorder(double *out, const double *in, const struct tensor *t, enum layout layout)
{
    int64_t b_count = t->dim[0], t_count = t->dim[1], c_count = t->dim[2];
    for (int64_t b = 0; b < b_count; b++)
        for (int64_t i = 0; i < t_count; i++)
            for (int64_t c = 0; c < c_count; c++) {
                int64_t to = layout == LAYOUT_BCT ? (b * c_count + c) * t_count + i
                                                  : (i * b_count + b) * c_count + c;
                out[to] = in[(b * t_count + i) * c_count + c];
            }
}

enum status verify_tensor(struct verify *v, const char *name, const struct tensor *t,
                          enum layout layout, enum tolerance tol, struct error *err)
{
    enum status status = STATUS_OK;
    int64_t count = tensor_count(t);
    double *host = NULL, *ordered = NULL;
    TRY_OUT(mem_alloc((void **)&host, (size_t)count, sizeof *host, err));
    TRY_OUT(mem_alloc((void **)&ordered, (size_t)count, sizeof *ordered, err));
    op_download(v->be, host, DTYPE_F64, t);
    if (layout != LAYOUT_SAME)
        reorder(ordered, host, t, layout);
    const double *x = layout == LAYOUT_SAME ? host : ordered;
    TRY_OUT(verify_compare(v, name, &(struct verify_values){.x = x, .count = count}, tol, err));
out:
    mem_free(host);
    mem_free(ordered);
    return status;
}

static const struct {
    const char *name;
    enum status (*run)(struct verify *v, struct error *err);
    bool has_model;
} kinds[] = {
    {"f", verify_kind_f, true},
    {"deq", verify_kind_deq, true},
    {"eval", verify_kind_eval, true},
    {"unrolled", verify_kind_unrolled, true},
    {"dropout", verify_kind_dropout, true},
    {"jacreg", verify_kind_jacreg, true},
    {"train", verify_kind_train, true},
    {"solver", verify_kind_solver, true},
    {"solver_map", verify_kind_solver_map, false},
};

static enum status run_kind(struct verify *v, const char *kind, bool *ran, struct error *err)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, kind) != 0)
            continue;
        if (kinds[i].has_model) {
            TRY(verify_setup_config(v, ran, err));
            if (!*ran)
                return STATUS_OK;
        }
        *ran = true;
        return kinds[i].run(v, err);
    }
    *ran = false;
    return verify_fail(v, "(kind)", "no such kind of dump is known", err);
}

enum status verify_file(struct verify_report *report, struct backend *be,
                        const struct st_file *file, const char *path, double tol, struct error *err)
{
    enum status status = STATUS_OK;
    struct verify v = {.be = be, .file = file, .path = path, .report = report, .tol = tol};
    const char *version = st_meta(file, "deq_dump"), *kind = st_meta(file, "kind");
    bool ran = false;
    *report = (struct verify_report){.pass = true};
    if (version == NULL || kind == NULL || strcmp(version, "1") != 0)
        return error_set(err, STATUS_DATA,
                         "%s: no dump of this convention: its metadata must have \"deq_dump\": "
                         "\"1\" and \"kind\"",
                         path);
    snprintf(report->kind, sizeof report->kind, "%s", kind);
    TRY(mem_alloc((void **)&v.seen, (size_t)st_count(file), sizeof *v.seen, err));
    TRY_OUT(run_kind(&v, kind, &ran, err));
    for (int64_t i = 0; ran && i < st_count(file); i++)
        if (!v.seen[i])
            TRY_OUT(verify_fail(&v, st_tensor(file, i)->name,
                                "unknown: no tensor of that name belongs to this kind", err));
    TRY_OUT(backend_check(be, err));
out:
    model_free(v.model);
    mem_free(v.seen);
    return status;
}

void verify_report_free(struct verify_report *report)
{
    mem_free(report->rows);
    *report = (struct verify_report){0};
}
