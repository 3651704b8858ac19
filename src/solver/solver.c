#include "solver/solver_impl.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>

/* The published protective break is a residual beyond the first one times the length times this. */
static const double DIVERGE_ABS = 1e6, DIVERGE_REL = 1e3;
/* The published stagnation rule is below STAGNANT_BAND tolerances, and flat for so many iterations.
 */
enum { STAGNANT_WINDOW = 30 };
static const double STAGNANT_BAND = 3.0, STAGNANT_RATIO = 1.3;

static const struct method *const methods[] = {
#define METHOD(NAME, name) [SOLVE_##NAME] = &name##_method,
    SOLVE_METHODS(METHOD)};

enum scope solver_mixing_scope(const struct solver *s)
{
    return s->config.scope == SCOPE_BATCH ? SCOPE_SEQUENCE : s->config.scope;
}

struct tensor solver_rows(const struct solver *s, const struct tensor *planned)
{
    const struct tensor *p = planned;
    if (p->ndim == 3 && p->dim[2] == s->width) /* slots stay apart by the rows of this run */
        return tensor_prefix(p, 3, p->dim[0], s->rows, p->dim[2], 1);
    return tensor_prefix(p, p->ndim, s->rows, p->dim[1], p->dim[2], 1);
}

void solver_mix(const struct solver *s, const struct tensor *val)
{
    struct tensor v = tensor_shape(val, 3, s->b, s->t, val->dim[1], 1);
    op_scope_sum(s->be, &v, solver_mixing_scope(s), s->config.decay, s->reverse);
}

enum status solver_call(struct solver *s, const struct tensor *z, const struct tensor *f,
                        struct error *err)
{
    struct tensor z3 = tensor_shape(z, 3, s->b, s->t, s->width, 1);
    struct tensor f3 = tensor_shape(f, 3, s->b, s->t, s->width, 1);
    struct tensor list = tensor_prefix(&s->list, 2, 2, s->listed, 1, 1);
    s->count.calls++;
    s->count.rows += s->listed > 0 ? s->listed : s->rows;
    return s->fn(s->ctx, &z3, &f3, s->listed > 0 ? &list : NULL, err);
}

struct tensor solver_ended(const struct solver *s)
{
    if (!s->method->leaves_ended || s->config.stop == STOP_FIXED)
        return (struct tensor){0};
    return solver_rows(s, &s->reason);
}

static enum status check_config(const struct solver_config *c, struct error *err)
{
    if (c->max_iter < 1)
        return error_set(err, STATUS_CONFIG, "solver: max_iter: want at least 1, got %lld",
                         (long long)c->max_iter);
    if (c->history < 1 || c->history > HISTORY_MOST)
        return error_set(err, STATUS_CONFIG, "solver: history: want 1..%d, got %lld", HISTORY_MOST,
                         (long long)c->history);
    if (!(c->decay >= 0 && c->decay <= 1))
        return error_set(err, STATUS_CONFIG, "solver: decay: want 0..1, got %g", c->decay);
    if (!(c->damping > 0 && c->damping <= 2))
        return error_set(err, STATUS_CONFIG, "solver: damping: want above 0, at most 2, got %g",
                         c->damping);
    if (!(c->ridge >= 0 && c->tol >= 0))
        return error_set(err, STATUS_CONFIG, "solver: ridge and tol must not be negative");
    if (c->line_search && (c->method != SOLVE_BROYDEN || c->scope != SCOPE_BATCH))
        return error_set(err, STATUS_CONFIG,
                         "solver: line_search: only with method broyden and scope batch, since one "
                         "step length is chosen for the whole batch");
    return STATUS_OK;
}

void solver_declare(struct solver *s, struct tensor *t, const char *name, bool reported,
                    const struct tensor *shape)
{
    char full[BUFFER_NAME_MAX];
    struct buffer b = {.name = full,
                       .dtype = shape->dtype,
                       .ndim = shape->ndim,
                       .life = lives_on(PATH_SOLVE, s->phase, reported ? PHASE_UPDATE : s->phase),
                       .part = PART_SOLVER};
    for (int i = 0; i < shape->ndim; i++)
        b.dim[i] = shape->dim[i];
    snprintf(full, sizeof full, "%s: %s", phase_text(s->phase), name);
    workspace_declare(s->ws, t, &b);
}

static void declare_large(struct solver *s)
{
    enum dtype real = s->be->ops->real;
    int64_t n = s->batch * s->length, slots = s->history + s->method->history_extra;
    struct tensor state = tensor_make(NULL, real, 2, n, s->width, 1, 1);
    struct tensor history = tensor_make(NULL, real, 3, slots, n, s->width, 1);
    int work = s->method->work_tensors;
    if (s->config.line_search)
        work += s->method->search_tensors;
    for (int i = 0; i < work; i++)
        solver_declare(s, &s->work[i], "working state", false, &state);
    for (int i = 0; i < s->method->history_tensors; i++)
        solver_declare(s, &s->hist[i], "history", false, &history);
    solver_declare(s, &s->best_z, "best iterate", false, &state);
}

static enum status declare_small(struct solver *s, struct error *err)
{
    enum dtype real = s->be->ops->real;
    int64_t n = s->batch * s->length;
    struct tensor ints = tensor_make(NULL, DTYPE_I32, 1, n, 1, 1, 1), one = ints, two = ints;
    struct tensor reals = tensor_make(NULL, real, 1, n, 1, 1, 1);
    struct tensor pairs = tensor_make(NULL, real, 2, n, 2, 1, 1);
    one.dim[0] = 1;
    two.dim[0] = 2 * n;
    solver_declare(s, &s->best_at, "best evaluation", false, &ints);
    solver_declare(s, &s->reason, "reasons", true, &ints);
    solver_declare(s, &s->evals, "evaluations", true, &ints);
    solver_declare(s, &s->restarts, "restarts", true, &ints);
    solver_declare(s, &s->active, "active rows", false, &one);
    solver_declare(s, &s->list, "rows evaluated", false, &two);
    solver_declare(s, &s->best, "best residual", true, &reals);
    solver_declare(s, &s->first, "first residual", false, &reals);
    solver_declare(s, &s->norms, "norms", false, &pairs);
    if (s->method->declare != NULL)
        s->method->declare(s);
    TRY(mem_alloc((void **)&s->host_list, (size_t)n * 2, sizeof *s->host_list, err));
    return mem_alloc((void **)&s->host_reason, (size_t)n, sizeof *s->host_reason, err);
}

/* The trace holds one entry for each iterate, max_iter evaluations and a given first one. */
static enum status plan_host_trace(struct solver *s, int64_t capacity, struct error *err)
{
    mem_free(s->host_trace);
    s->host_trace = NULL;
    s->trace_capacity = 0;
    TRY(mem_alloc((void **)&s->host_trace, (size_t)capacity * 4, sizeof *s->host_trace, err));
    s->trace_capacity = capacity;
    return STATUS_OK;
}

static enum status lengthen_trace(struct solver *s, int64_t capacity, struct error *err)
{
    op_release(s->be, &s->longer_trace);
    TRY(op_alloc(s->be, &s->longer_trace, DTYPE_F64, 2, capacity, 2, 1, 1, err));
    s->trace = s->longer_trace;
    return plan_host_trace(s, capacity, err);
}

static enum status declare_buffers(struct solver *s, struct workspace *ws, struct error *err)
{
    int64_t capacity = s->config.max_iter + 1;
    struct tensor trace = tensor_make(NULL, DTYPE_F64, 2, capacity, 2, 1, 1);
    if (ws == NULL)
        TRY(workspace_create(&s->own_ws, s->be, err));
    s->ws = ws != NULL ? ws : s->own_ws;
    declare_large(s);
    TRY(declare_small(s, err));
    solver_declare(s, &s->planned_trace, "trace", true, &trace);
    TRY(plan_host_trace(s, capacity, err));
    return s->own_ws != NULL ? workspace_commit(s->own_ws, err) : STATUS_OK;
}

enum status solver_create(struct solver **out, struct backend *be,
                          const struct solver_config *config, const struct solver_plan *plan,
                          struct error *err)
{
    enum status status = STATUS_OK;
    struct solver *s = NULL;
    *out = NULL;
    TRY(check_config(config, err));
    TRY(mem_alloc((void **)&s, 1, sizeof *s, err));
    s->be = be;
    s->config = *config;
    s->method = methods[config->method];
    s->batch = plan->batch;
    s->length = plan->length;
    s->width = plan->width;
    s->reverse = plan->reverse;
    s->history = config->history;
    s->phase = plan->ws != NULL ? plan->phase : PHASE_FORWARD;
    TRY_OUT(declare_buffers(s, plan->ws, err));
    *out = s;
    return STATUS_OK;
out:
    solver_free(s);
    return status;
}

void solver_free(struct solver *s)
{
    if (s == NULL)
        return;
    op_release(s->be, &s->longer_trace);
    workspace_free(s->own_ws);
    mem_free(s->host_trace);
    mem_free(s->host_list);
    mem_free(s->host_reason);
    mem_free(s);
}

enum status solver_set_limits(struct solver *s, int64_t max_iter, double tol, enum solve_stop stop,
                              struct error *err)
{
    struct solver_config c = s->config;
    c.max_iter = max_iter;
    c.tol = tol;
    c.stop = stop;
    TRY(check_config(&c, err));
    if (max_iter + 1 > s->trace_capacity)
        TRY(lengthen_trace(s, max_iter + 1, err));
    s->config = c;
    return STATUS_OK;
}

static void start_run(struct solver *s, const struct tensor *z)
{
    s->b = z->dim[0];
    s->t = z->dim[1];
    s->rows = s->b * s->t;
    assert(z->dim[2] == s->width && s->b <= s->batch && s->rows <= s->batch * s->length);
    s->z = tensor_matrix(z);
    s->trace = s->longer_trace.data != NULL ? s->longer_trace : s->planned_trace;
    s->have_f = false;
    s->listed = s->failed = 0;
    s->count = (struct solver_counts){0};
}

/* The state of every row at the start. */
static void clear_rows(struct solver *s, const struct tensor *f_best)
{
    struct backend *be = s->be;
    struct tensor *const zeros[] = {&s->best_at, &s->reason,   &s->evals,
                                    &s->first,   &s->restarts, &s->len};
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) {
        struct tensor t = solver_rows(s, zeros[i]);
        if (t.data != NULL)
            op_fill(be, &t, 0);
    }
    if (s->method->begin != NULL)
        s->method->begin(s);
    struct tensor best = solver_rows(s, &s->best), best_z = solver_rows(s, &s->best_z);
    op_fill(be, &best, INFINITY);
    /* should no residual be finite, the start is what is returned */
    op_copy(be, &best_z, &s->z);
    if (f_best != NULL) {
        struct tensor f = tensor_matrix(f_best);
        op_copy(be, &f, &s->z);
    }
}

static void check_convergence(struct solver *s, int64_t k, const struct tensor *f_best)
{
    struct tensor norms = solver_rows(s, &s->norms);
    struct tensor by_row = tensor_shape(&norms, 3, s->b, s->t, 2, 1);
    op_scope_sum(s->be, &by_row, s->config.scope, s->config.decay, s->reverse);
    bool absolute = s->config.stop == STOP_ABS;
    struct convergence_check p = {
        .norms = norms,
        .z = s->z,
        .f = s->f,
        .best_z = solver_rows(s, &s->best_z),
        .best = solver_rows(s, &s->best),
        .first = solver_rows(s, &s->first),
        .best_at = solver_rows(s, &s->best_at),
        .reason = solver_rows(s, &s->reason),
        .evals = solver_rows(s, &s->evals),
        .active = s->active,
        .k = k,
        .min_iter = s->config.min_iter,
        .stall = s->config.stall > 0 ? s->config.stall : INT64_MAX,
        .stop = s->config.stop,
        .tol = s->config.tol,
        .rel_floor = s->method->floor,
        .diverge = (double)s->t * (absolute ? DIVERGE_ABS : DIVERGE_REL),
    };
    if (f_best != NULL)
        p.best_f = tensor_matrix(f_best);
    op_convergence_check(s->be, &p);
}

double solver_batch_residual(const struct solver *s, const double squares[2], bool absolute)
{
    double g = sqrt(squares[0]);
    return absolute ? g : g / (sqrt(squares[1]) + s->method->floor);
}

/* The published rule for the whole batch is nearly converged, and flat for 30 iterations. */
static bool stagnant(struct solver *s, int64_t k)
{
    double squares[STAGNANT_WINDOW][2], low = INFINITY, high = 0, last = INFINITY;
    if (s->config.scope != SCOPE_BATCH || k <= STAGNANT_WINDOW)
        return false;
    struct tensor window = tensor_slice(&s->trace, k + 1 - STAGNANT_WINDOW, STAGNANT_WINDOW);
    op_download(s->be, squares, DTYPE_F64, &window);
    for (int i = 0; i < STAGNANT_WINDOW; i++) {
        last = solver_batch_residual(s, squares[i], s->config.stop == STOP_ABS);
        low = fmin(low, last);
        high = fmax(high, last);
    }
    return last < STAGNANT_BAND * s->config.tol && high / low < STAGNANT_RATIO;
}

static enum status evaluate(struct solver *s, int64_t k, const struct tensor *f0, struct error *err)
{
    s->method->place(s, k);
    if (k == 0 && f0 != NULL) {
        struct tensor known = tensor_matrix(f0);
        op_copy(s->be, &s->f, &known);
    } else if (s->have_f) {
        s->have_f = false;
    } else {
        TRY(solver_call(s, &s->z, &s->f, err));
    }
    struct tensor norms = solver_rows(s, &s->norms), total = tensor_slice(&s->trace, k, 1);
    struct tensor ended = solver_ended(s);
    op_solve_residual(
        s->be,
        &(struct solve_residual){
            .g = s->g, .f = s->f, .z = s->z, .norms = norms, .total = total, .reason = ended});
    s->count.iterates = k + 1;
    return STATUS_OK;
}

/* All device operations of a run. */
static enum status iterate(struct solver *s, const struct tensor *f0, const struct tensor *f_best,
                           struct error *err)
{
    clear_rows(s, f_best);
    int64_t limit = s->config.max_iter + (f0 != NULL ? 1 : 0);
    for (int64_t k = 0; k < limit; k++) {
        TRY(evaluate(s, k, f0, err));
        check_convergence(s, k, f_best);
        if (k + 1 == limit)
            break;
        if (s->config.stop != STOP_FIXED) {
            if (solver_read_active(s) == 0 || stagnant(s, k))
                break;
        }
        TRY(s->method->advance(s, k, err));
    }
    struct tensor best_z = solver_rows(s, &s->best_z);
    op_copy(s->be, &s->z, &best_z);
    return STATUS_OK;
}

void solver_select_rows(struct solver *s, bool can)
{
    s->selects = can && s->method->leaves_ended;
}

enum status solver_run(struct solver *s, solve_fn fn, void *ctx, const struct tensor *z,
                       const struct tensor *f0, const struct tensor *f_best, struct error *err)
{
    s->fn = fn;
    s->ctx = ctx;
    s->given_f0 = f0 != NULL;
    start_run(s, z);
    TRY(iterate(s, f0, f_best, err));
    return backend_check(s->be, err);
}
