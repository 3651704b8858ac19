/* The solvers on small maps whose behaviour is known, on both backends. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/assert_ok.h"
#include "solver/solver.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_BATCH = 2, MAX_LENGTH = 6, WIDTH = 8, MAX_ROWS = MAX_BATCH * MAX_LENGTH };

/* f(z)_{t} = tanh?(rate_d z_{t,d} + mix * mean of earlier positions' z + bias), diagonal in d but
 * causal over t; computed on the host. */
struct map {
    struct backend *be;
    double rate[WIDTH], mix, bias[MAX_ROWS * WIDTH];
    bool squash;
    int64_t calls, nan_call, nan_row; /* row nan_row of call nan_call (from 1) is NaN */
    int64_t batch, length;
};

static enum status map_eval(void *ctx, const struct tensor *z, const struct tensor *f,
                            const struct tensor *rows, struct error *err)
{
    struct map *m = ctx;
    double in[MAX_ROWS * WIDTH], out[MAX_ROWS * WIDTH];
    (void)err;
    (void)rows;
    m->calls++;
    op_download(m->be, in, DTYPE_F64, z);
    for (int64_t b = 0; b < m->batch; b++)
        for (int64_t t = 0; t < m->length; t++)
            for (int64_t d = 0; d < WIDTH; d++) {
                int64_t at = (b * m->length + t) * WIDTH + d;
                double x = m->rate[d] * in[at] + m->bias[at];
                for (int64_t s = 0; s < t; s++)
                    x += m->mix * in[(b * m->length + s) * WIDTH + (d + 1) % WIDTH];
                out[at] = m->squash ? tanh(x) : x;
            }
    if (m->calls == m->nan_call)
        out[m->nan_row * WIDTH] = NAN;
    op_upload(m->be, f, out, DTYPE_F64);
    return STATUS_OK;
}

static struct map make_map(struct backend *be, int64_t batch, int64_t length)
{
    struct map m = {.be = be, .batch = batch, .length = length};
    for (int d = 0; d < WIDTH; d++)
        m.rate[d] = 0.5;
    for (int i = 0; i < MAX_ROWS * WIDTH; i++)
        m.bias[i] = sin(1.0 + 3 * i);
    return m;
}

static struct solver_config settings(enum solve_method method, enum scope scope)
{
    return (struct solver_config){.method = method,
                                  .scope = scope,
                                  .decay = 0.5,
                                  .max_iter = 40,
                                  .tol = 1e-5,
                                  .stop = STOP_REL,
                                  .history = 10,
                                  .damping = 1,
                                  .ridge = 1e-12,
                                  .ridge_mode = RIDGE_REL,
                                  .stall = 100};
}

/* Solves from 0 and leaves the iterate in z. */
static struct solve_report solve(struct map *m, const struct solver_config *c, double *z)
{
    struct solver_plan plan = {.batch = m->batch, .length = m->length, .width = WIDTH};
    struct solver *s;
    struct tensor zt = {0};
    struct solve_report r;
    struct error err;
    m->calls = 0;
    assert_ok(op_alloc(m->be, &zt, m->be->ops->real, 3, m->batch, m->length, WIDTH, 1, &err), &err);
    assert_ok(solver_create(&s, m->be, c, &plan, &err), &err);
    size_t held = m->be->bytes;
    assert_ok(solver_run(s, map_eval, m, &zt, NULL, NULL, &err), &err);
    assert_int_equal(m->be->bytes, held); /* a solve allocates nothing */
    assert_ok(solver_report(s, &r, &err), &err);
    assert_int_equal(r.evals, m->calls);
    if (z != NULL)
        op_download(m->be, z, DTYPE_F64, &zt);
    solver_free(s);
    op_release(m->be, &zt);
    assert_int_equal(m->be->bytes, 0);
    r.trace_abs = r.trace_rel = NULL; /* gone with the solver */
    return r;
}

typedef void (*case_fn)(struct backend *be);

static void on_both(case_fn run)
{
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    run(&be);
    backend_close(&be);
    assert_ok(cpu_open(&be, 2, &err), &err);
    run(&be);
    backend_close(&be);
}

#define CASE(name)                              \
    static void run_##name(struct backend *be); \
    static void test_##name(void **state)       \
    {                                           \
        (void)state;                            \
        on_both(run_##name);                    \
    }                                           \
    static void run_##name(struct backend *be)

/* A linear map with k distinct eigenvalues is solved exactly after k + 1 evaluations and one more
 * to see it, by Anderson and Broyden with enough memory. */
CASE(known_spectrum)
{
    const enum solve_method methods[] = {SOLVE_ANDERSON, SOLVE_BROYDEN};
    for (int i = 0; i < 2; i++) {
        struct map m = make_map(be, 1, 1);
        struct solver_config c = settings(methods[i], SCOPE_SEQUENCE);
        for (int d = 0; d < WIDTH; d++)
            m.rate[d] = 0.3 + 0.2 * (d % 3); /* three eigenvalues */
        struct solve_report r = solve(&m, &c, NULL);
        assert_int_equal(r.reasons[SOLVE_CONVERGED_REL], 1);
        /* Broyden needs up to twice the dimension of the Krylov space (Gay 1979) */
        assert_true(r.evals <= (methods[i] == SOLVE_ANDERSON ? 5 : 8));
    }
}

CASE(picard_rate)
{
    struct map m = make_map(be, 1, 1);
    struct solver_config c = settings(SOLVE_PICARD, SCOPE_TOKEN);
    c.stop = STOP_ABS;
    c.tol = 1e-4;
    c.max_iter = 100;
    struct solve_report r = solve(&m, &c, NULL);
    /* residual k is 0.5^k |b| */
    double norm = 0;
    for (int d = 0; d < WIDTH; d++)
        norm += m.bias[d] * m.bias[d];
    int64_t expected = (int64_t)ceil(log2(sqrt(norm) / 1e-4)) + 1;
    assert_int_equal(r.evals, expected);
    assert_int_equal(r.reasons[SOLVE_CONVERGED_ABS], 1);
}

/* Eigenvalues of -2: plain iteration diverges, damping and Anderson do not. */
CASE(negative_spectrum)
{
    struct map m = make_map(be, 1, 1);
    for (int d = 0; d < WIDTH; d++)
        m.rate[d] = d % 2 == 0 ? -2 : 0.5;
    struct solver_config c = settings(SOLVE_PICARD, SCOPE_TOKEN);
    c.stop = STOP_ABS;
    assert_int_equal(solve(&m, &c, NULL).reasons[SOLVE_DIVERGED], 1);
    c.damping = 0.3;
    c.max_iter = 200;
    assert_int_equal(solve(&m, &c, NULL).reasons[SOLVE_CONVERGED_ABS], 1);
    c = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    assert_int_equal(solve(&m, &c, NULL).reasons[SOLVE_CONVERGED_REL], 1);
}

CASE(limits)
{
    struct map m = make_map(be, 2, 3);
    struct solver_config c = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    c.max_iter = 2;
    m.rate[1] = 0.9;
    assert_int_equal(solve(&m, &c, NULL).reasons[SOLVE_MAX_ITER], 6);
    c.stop = STOP_FIXED;
    c.max_iter = 7;
    int64_t syncs = be->syncs;
    struct solve_report r = solve(&m, &c, NULL);
    assert_int_equal(r.reasons[SOLVE_FIXED], 6);
    assert_int_equal(r.evals, 7);
    /* the map's own downloads, and those of the report: none inside the solve */
    assert_int_equal(be->syncs - syncs, 7 + 5);
}

CASE(stall)
{
    struct map m = make_map(be, 1, 1);
    struct solver_config c = settings(SOLVE_PICARD, SCOPE_TOKEN);
    for (int d = 0; d < WIDTH; d++)
        m.rate[d] = -1; /* for ever between two points, one of which f maps to 0 */
    c.stop = STOP_ABS;
    c.stall = 5;
    assert_int_equal(solve(&m, &c, NULL).reasons[SOLVE_STALLED], 1);
}

/* A NaN in one position's evaluation ends that position alone; it returns its best iterate. */
CASE(one_nan)
{
    struct map m = make_map(be, 2, 3);
    struct solver_config c = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    double z[MAX_ROWS * WIDTH];
    m.nan_call = 2;
    m.nan_row = 4;
    struct solve_report r = solve(&m, &c, z);
    assert_int_equal(r.reasons[SOLVE_NONFINITE], 1);
    assert_int_equal(r.reasons[SOLVE_CONVERGED_REL], 5);
    for (int i = 0; i < 6 * WIDTH; i++)
        assert_true(isfinite(z[i]));
}

CASE(all_nan)
{
    struct map m = make_map(be, 1, 1);
    struct solver_config c = settings(SOLVE_BROYDEN, SCOPE_BATCH);
    double z[WIDTH];
    m.bias[0] = NAN;
    struct solve_report r = solve(&m, &c, z);
    assert_int_equal(r.reasons[SOLVE_NONFINITE], 1);
    for (int d = 0; d < WIDTH; d++)
        assert_true(z[d] == 0);
}

/* Largest change of positions before the last two when only these get another bias. */
static double leak(struct backend *be, enum solve_method method, enum scope scope, int64_t k)
{
    double z[2][MAX_ROWS * WIDTH], worst = 0;
    for (int run = 0; run < 2; run++) {
        struct map m = make_map(be, 2, 6);
        struct solver_config c = settings(method, scope);
        m.squash = true;
        m.mix = 0.2;
        c.stop = k > 0 ? STOP_FIXED : STOP_REL;
        c.max_iter = k > 0 ? k : 30;
        c.tol = 1e-3;
        for (int b = 0; b < 2 && run == 1; b++)
            for (int i = 4 * WIDTH; i < 6 * WIDTH; i++)
                m.bias[b * 6 * WIDTH + i] += 1;
        solve(&m, &c, z[run]);
    }
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 4 * WIDTH; i++)
            worst = fmax(worst, fabs(z[0][b * 6 * WIDTH + i] - z[1][b * 6 * WIDTH + i]));
    return worst;
}

/* Coefficients, best iterate and number of steps of a position depend on positions up to it only:
 * not a bit of an earlier one changes. Mixing over the sequence does leak. */
CASE(causality)
{
    const enum scope causal[] = {SCOPE_TOKEN, SCOPE_PREFIX};
    for (int i = 0; i < 2; i++)
        for (int64_t k = 0; k <= 8; k++) {
            assert_true(leak(be, SOLVE_ANDERSON, causal[i], k) == 0);
            assert_true(leak(be, SOLVE_BROYDEN, causal[i], k) == 0);
            assert_true(leak(be, SOLVE_PICARD, causal[i], k) == 0);
        }
    assert_true(leak(be, SOLVE_ANDERSON, SCOPE_SEQUENCE, 4) > 1e-6);
    assert_true(leak(be, SOLVE_BROYDEN, SCOPE_SEQUENCE, 4) > 1e-6);
}

CASE(shapes)
{
    /* one slot is plain iteration; a full Broyden history is dropped and counted */
    struct map m = make_map(be, 1, 1);
    struct solver_config one = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    struct solver_config plain = settings(SOLVE_PICARD, SCOPE_TOKEN);
    double a[WIDTH], b[WIDTH];
    one.history = 1;
    one.stop = plain.stop = STOP_FIXED;
    one.max_iter = plain.max_iter = 5;
    solve(&m, &one, a);
    solve(&m, &plain, b);
    for (int d = 0; d < WIDTH; d++)
        assert_true(fabs(a[d] - b[d]) <= 1e-6);
    struct map hard = make_map(be, 1, 4);
    struct solver_config small = settings(SOLVE_BROYDEN, SCOPE_SEQUENCE);
    for (int d = 0; d < WIDTH; d++)
        hard.rate[d] = 0.9 - 0.2 * d;
    small.history = 2;
    small.max_iter = 100;
    struct solve_report r = solve(&hard, &small, NULL);
    assert_true(r.restarts > 0);
    assert_int_equal(r.reasons[SOLVE_CONVERGED_REL], 4);
}

/* Residual of the last iterate over the first one's, after many iterations of Broyden. */
static double last_residual(struct map *m, int64_t iterations)
{
    struct solver_config c = settings(SOLVE_BROYDEN, SCOPE_SEQUENCE);
    struct solver_plan plan = {.batch = m->batch, .length = m->length, .width = WIDTH};
    struct solver *s;
    struct tensor z = {0};
    struct solve_report r;
    struct error err;
    c.stop = STOP_FIXED;
    c.max_iter = c.history = iterations;
    assert_ok(op_alloc(m->be, &z, m->be->ops->real, 3, m->batch, m->length, WIDTH, 1, &err), &err);
    assert_ok(solver_create(&s, m->be, &c, &plan, &err), &err);
    assert_ok(solver_run(s, map_eval, m, &z, NULL, NULL, &err), &err);
    assert_ok(solver_report(s, &r, &err), &err);
    double last = 0;
    for (int64_t k = iterations / 2; k < iterations; k++)
        last = fmax(last, r.trace_abs[k] / r.trace_abs[0]);
    solver_free(s);
    op_release(m->be, &z);
    return last;
}

/* Once nothing but rounding is left of a residual, its direction says nothing, and yet iterates
 * stay where they are: within BROYDEN_GAIN times rounding. */
CASE(stays_converged)
{
    double eps = be->ops->real == DTYPE_F32 ? FLT_EPSILON : DBL_EPSILON;
    for (int seed = 0; seed < 40; seed++) {
        struct map m = make_map(be, 2, 6);
        m.squash = true;
        m.mix = 0.1;
        for (int i = 0; i < MAX_ROWS * WIDTH; i++)
            m.bias[i] = sin(1.0 + seed + 3 * i);
        for (int d = 0; d < WIDTH; d++)
            m.rate[d] = 0.6 * sin(3 * d + seed);
        double last = last_residual(&m, 60);
        if (!(last <= BROYDEN_GAIN * eps))
            fail_msg("seed %d: %g", seed, last);
    }
}

CASE(bad_settings)
{
    struct solver *s;
    struct error err;
    struct solver_plan plan = {.batch = 1, .length = 1, .width = WIDTH};
    struct solver_config c = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    c.history = 0;
    assert_int_equal(solver_create(&s, be, &c, &plan, &err), STATUS_CONFIG);
    c = settings(SOLVE_ANDERSON, SCOPE_TOKEN);
    c.line_search = true;
    assert_int_equal(solver_create(&s, be, &c, &plan, &err), STATUS_CONFIG);
    assert_int_equal(be->bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_spectrum),  cmocka_unit_test(test_picard_rate),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_negative_spectrum),
        cmocka_unit_test(test_stall),           cmocka_unit_test(test_one_nan),
        cmocka_unit_test(test_all_nan),         cmocka_unit_test(test_causality),
        cmocka_unit_test(test_shapes),          cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_stays_converged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
