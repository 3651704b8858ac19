/* Rows that have stopped are not evaluated: the result is that of evaluating all, bit for bit, and
 * the map is called as its contract says. On both backends. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/assert_ok.h"
#include "solver/solver.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { B = 3, T = 41, W = 5, ROWS = B * T, NUMBERS = ROWS * W };

/* f(z)_t = tanh(rate_t z_t + mixing with z_{t-1}) + bias, causal, on the host. Rows differ in their
 * rate, so that they converge at different times, or (rate 3 without tanh) never. */
struct map {
    struct backend *be;
    double rate[ROWS], bias[NUMBERS];
    bool diverges[ROWS];
    double last[NUMBERS]; /* z of the call before */
    int64_t calls, rows_asked, shortest;
};

static double eval_number(const struct map *m, const double *z, int64_t row, int64_t d)
{
    double own = m->rate[row] * z[row * W + d];
    double before = row % T > 0 ? 0.4 * z[(row - 1) * W + (d + 1) % W] : 0;
    if (m->diverges[row])
        return 3 * z[row * W + d] + before + m->bias[row * W + d];
    return tanh(own + before) + m->bias[row * W + d];
}

/* Rows that were not asked for become NaN, and must not have moved. */
static enum status map_eval(void *ctx, const struct tensor *z, const struct tensor *f,
                            const struct tensor *rows, struct error *err)
{
    struct map *m = ctx;
    double in[NUMBERS], out[NUMBERS];
    int32_t list[2 * ROWS];
    int64_t n = rows != NULL ? rows->dim[1] : ROWS;
    (void)err;
    op_download(m->be, in, DTYPE_F64, z);
    for (int64_t i = 0; i < ROWS; i++)
        list[i] = (int32_t)i;
    if (rows != NULL) {
        assert_true(m->calls > 0 && rows->dim[0] == 2 && n < ROWS && n % SOLVER_ROWS_STEP == 0);
        op_download(m->be, list, DTYPE_I32, rows);
    }
    for (int64_t i = 0; i < NUMBERS; i++)
        out[i] = NAN;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = list[i];
        assert_true(row >= 0 && row < ROWS && (i == 0 || row > list[i - 1]));
        assert_true(rows == NULL || list[n + i] == row / T);
        for (int64_t d = 0; d < W; d++)
            out[row * W + d] = eval_number(m, in, row, d);
    }
    for (int64_t i = 0; i < NUMBERS && m->calls > 0; i++)
        assert_true(!isnan(out[i]) || in[i] == m->last[i]);
    memcpy(m->last, in, sizeof in);
    m->calls++;
    m->rows_asked += n;
    m->shortest = n < m->shortest ? n : m->shortest;
    op_upload(m->be, f, out, DTYPE_F64);
    return STATUS_OK;
}

static struct map make_map(struct backend *be)
{
    struct map m = {.be = be, .shortest = ROWS};
    for (int64_t n = 0; n < ROWS; n++) {
        m.rate[n] = 0.1 + 0.85 * (double)(n * 29 % ROWS) / ROWS;
        m.diverges[n] = n % 37 == 20;
        for (int64_t d = 0; d < W; d++)
            m.bias[n * W + d] = sin(1.0 + 3 * (double)(n * W + d));
    }
    return m;
}

struct outcome {
    double z[NUMBERS], f[NUMBERS];
    struct solve_report report;
};

static void solve(struct map *m, const struct solver_config *c, bool select, struct outcome *o)
{
    struct solver_plan plan = {.batch = B, .length = T, .width = W};
    struct solver *s;
    struct error err;
    struct tensor z = {0}, f = {0};
    m->calls = m->rows_asked = 0;
    m->shortest = ROWS;
    assert_ok(op_alloc(m->be, &z, m->be->ops->real, 3, B, T, W, 1, &err), &err);
    assert_ok(op_alloc(m->be, &f, m->be->ops->real, 3, B, T, W, 1, &err), &err);
    assert_ok(solver_create(&s, m->be, c, &plan, &err), &err);
    solver_select_rows(s, select);
    assert_ok(solver_run(s, map_eval, m, &z, NULL, &f, &err), &err);
    assert_ok(solver_report(s, &o->report, &err), &err);
    op_download(m->be, o->z, DTYPE_F64, &z);
    op_download(m->be, o->f, DTYPE_F64, &f);
    assert_true(o->report.paid_mean == (double)m->rows_asked / ROWS);
    solver_free(s);
    op_release(m->be, &z);
    op_release(m->be, &f);
    assert_int_equal(m->be->bytes, 0);
    o->report.trace_abs = o->report.trace_rel = NULL;
}

static struct solver_config settings(enum solve_method method, enum scope scope)
{
    return (struct solver_config){.method = method,
                                  .scope = scope,
                                  .decay = 0.5,
                                  .max_iter = 60,
                                  .min_iter = 2,
                                  .tol = 1e-4,
                                  .stop = STOP_REL,
                                  .history = 4,
                                  .damping = 1,
                                  .ridge = 1e-6,
                                  .ridge_mode = RIDGE_REL,
                                  .stall = 7};
}

typedef void (*case_fn)(struct backend *be);

static void on_both(void **state, case_fn run)
{
    struct backend be;
    struct error err;
    (void)state;
    assert_ok(ref_open(&be, &err), &err);
    run(&be);
    backend_close(&be);
    assert_ok(cpu_open(&be, 2, &err), &err);
    run(&be);
    backend_close(&be);
}

static void expect_same(const struct outcome *a, const struct outcome *b)
{
    assert_memory_equal(a->z, b->z, sizeof a->z);
    assert_memory_equal(a->f, b->f, sizeof a->f);
    assert_int_equal(a->report.evals, b->report.evals);
    assert_true(a->report.evals_mean == b->report.evals_mean);
    assert_true(a->report.rel_mean == b->report.rel_mean);
    assert_int_equal(a->report.restarts, b->report.restarts);
    assert_memory_equal(a->report.reasons, b->report.reasons, sizeof a->report.reasons);
}

static void run_same(struct backend *be)
{
    const enum scope scopes[] = {SCOPE_TOKEN, SCOPE_PREFIX, SCOPE_SEQUENCE};
    static struct outcome some, all;
    for (int method = SOLVE_PICARD; method <= SOLVE_ANDERSON; method++)
        for (int i = 0; i < 3; i++) {
            struct map m = make_map(be);
            struct solver_config c = settings((enum solve_method)method, scopes[i]);
            solve(&m, &c, false, &all);
            assert_int_equal(m.shortest, ROWS);
            solve(&m, &c, true, &some);
            expect_same(&some, &all);
            if (scopes[i] == SCOPE_SEQUENCE)
                continue;
            /* the case is one: rows were left out, some converged and some did not */
            assert_true(m.shortest < ROWS / 2 && some.report.paid_mean < 0.9 * all.report.evals);
            assert_true(some.report.paid_mean >= some.report.evals_mean);
            assert_true(some.report.reasons[SOLVE_CONVERGED_REL] > ROWS / 2);
            assert_true(method == SOLVE_ANDERSON || some.report.reasons[SOLVE_STALLED] > 0);
        }
}

static void same_as_all(void **state)
{
    on_both(state, run_same);
}

/* Other numbers from position 30 on change nothing before it: not where a row stops, nor with what.
 */
static void run_causal(struct backend *be)
{
    enum { CUT = 30 };
    static struct outcome one, other;
    for (int scope = SCOPE_TOKEN; scope <= SCOPE_PREFIX; scope++) {
        struct map m = make_map(be);
        struct solver_config c = settings(SOLVE_ANDERSON, (enum scope)scope);
        solve(&m, &c, true, &one);
        for (int64_t n = 0; n < ROWS; n++)
            if (n % T >= CUT) {
                m.rate[n] = 0.9 - m.rate[n];
                m.diverges[n] = !m.diverges[n] && n % 5 == 0;
                m.bias[n * W] += 1;
            }
        solve(&m, &c, true, &other);
        assert_true(one.report.paid_mean != other.report.paid_mean);
        for (int64_t b = 0; b < B; b++) {
            size_t at = (size_t)(b * T * W), bytes = (size_t)(CUT * W) * sizeof(double);
            assert_memory_equal(one.z + at, other.z + at, bytes);
            assert_memory_equal(one.f + at, other.f + at, bytes);
            assert_true(one.z[at + CUT * W] != other.z[at + CUT * W]);
        }
    }
}

static void the_past_does_not_see_the_future(void **state)
{
    on_both(state, run_causal);
}

/* A fixed number of steps, Broyden, and few rows: all are evaluated each time. */
static void run_whole(struct backend *be)
{
    static struct outcome o;
    struct map m = make_map(be);
    struct solver_config c = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    c.stop = STOP_FIXED;
    solve(&m, &c, true, &o);
    assert_int_equal(m.shortest, ROWS);
    c = settings(SOLVE_BROYDEN, SCOPE_TOKEN);
    solve(&m, &c, true, &o);
    assert_int_equal(m.shortest, ROWS);
}

static void whole_where_it_must(void **state)
{
    on_both(state, run_whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_all),
        cmocka_unit_test(the_past_does_not_see_the_future),
        cmocka_unit_test(whole_where_it_must),
    };
    return cmocka_run_group_tests_name("rows that have stopped", tests, NULL, NULL);
}
