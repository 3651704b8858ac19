/* The solver's operations on the reference backend, against formulas written another way and
 * decisions worked out by hand. */
#include "ops/by_hand.h"

static void residual_and_dots(void **state)
{
    struct backend be;
    open_ref(&be);
    double f[4] = {3, 4, 1, 1}, z[4] = {0, 0, 1, -1}, g[4], norms[4], total[2];
    double hist[8] = {1, 0, 0, 1, 1, 1, 2, 2}, dots[6] = {7, 7, 7, 7, 7, 7};
    struct tensor tf = reals(f, 2, 2, 2, 1), tz = reals(z, 2, 2, 2, 1), tg = reals(g, 2, 2, 2, 1);
    struct tensor tn = reals(norms, 2, 2, 2, 1), tt = reals(total, 1, 2, 1, 1);
    op_solve_residual(&be, &tg, &tf, &tz, &tn, &tt, NULL);
    assert_true(g[0] == 3 && g[1] == 4 && g[2] == 0 && g[3] == 2);
    assert_true(norms[0] == 25 && norms[1] == 25 && norms[2] == 4 && norms[3] == 2);
    assert_true(total[0] == 29 && total[1] == 27);
    /* slots of a history [2,2,2]; dots has room for 2 and takes 1, then 2 */
    struct tensor th = reals(hist, 3, 2, 2, 2), td = reals(dots, 2, 2, 2, 1);
    op_row_dots(&be, &td, &tg, &th, 1, NULL);
    assert_true(dots[0] == 3 && dots[1] == 7 && dots[2] == 2 && dots[3] == 7);
    op_row_dots(&be, &td, &tg, &th, 2, NULL);
    assert_true(dots[0] == 3 && dots[1] == 7 && dots[2] == 2 && dots[3] == 4);
    /* the first row has ended: it adds nothing */
    int32_t reason[2] = {SOLVE_CONVERGED_REL, 0};
    struct tensor tr = ints(reason, 2);
    f[0] = NAN;
    f[3] = 2;
    op_solve_residual(&be, &tg, &tf, &tz, &tn, &tt, &tr);
    assert_true(g[0] == 3 && g[1] == 4 && g[3] == 3 && norms[0] == 0 && norms[2] == 9);
    assert_true(total[0] == 9 && total[1] == 5);
    op_row_dots(&be, &td, &tg, &th, 1, &tr);
    assert_true(dots[0] == 0 && dots[1] == 7 && dots[2] == 3 && dots[3] == 4);
    backend_close(&be);
    (void)state;
}

/* prefix: val_t = sum_s decay^|t - s| x_s over s on one side of t. */
static void scope_sums(void **state)
{
    enum { B = 2, T = 5, C = 2, N = B * T * C };
    struct backend be;
    open_ref(&be);
    double x[N], val[N];
    for (int i = 0; i < N; i++)
        x[i] = i * i % 7 - 2.5;
    for (int scope = SCOPE_TOKEN; scope <= SCOPE_BATCH; scope++)
        for (int reverse = 0; reverse < 2; reverse++) {
            memcpy(val, x, sizeof x);
            struct tensor t = reals(val, 3, B, T, C);
            op_scope_sum(&be, &t, (enum scope)scope, 0.5, reverse);
            for (int i = 0; i < N; i++) {
                int b = i / (T * C), s = i / C % T, c = i % C;
                double want = 0;
                for (int b2 = 0; b2 < B; b2++)
                    for (int u = 0; u < T; u++) {
                        int away = reverse ? u - s : s - u;
                        bool in = scope == SCOPE_BATCH || (b2 == b && scope == SCOPE_SEQUENCE) ||
                                  (b2 == b && u == s) ||
                                  (b2 == b && scope == SCOPE_PREFIX && away > 0);
                        double factor = scope == SCOPE_PREFIX ? pow(0.5, abs(away)) : 1;
                        want += in ? factor * x[(b2 * T + u) * C + c] : 0;
                    }
                near(val[i], want, 1e-13);
            }
        }
    backend_close(&be);
    (void)state;
}

enum { ROWS = 9 };

struct judged {
    double norms[2 * ROWS], z[ROWS], f[ROWS], best_z[ROWS], best_f[ROWS], best[ROWS], first[ROWS];
    int32_t best_at[ROWS], reason[ROWS], evals[ROWS], active;
};

/* tol 0.1, diverge 10, stall 3, rel_floor 1. */
static void judge(struct judged *x, enum solve_stop stop, int64_t k, int64_t min_iter)
{
    struct backend be;
    open_ref(&be);
    struct solve_judge p = {reals(x->norms, 2, ROWS, 2, 1),
                            reals(x->z, 2, ROWS, 1, 1),
                            reals(x->f, 2, ROWS, 1, 1),
                            reals(x->best_z, 2, ROWS, 1, 1),
                            reals(x->best_f, 2, ROWS, 1, 1),
                            reals(x->best, 1, ROWS, 1, 1),
                            reals(x->first, 1, ROWS, 1, 1),
                            ints(x->best_at, ROWS),
                            ints(x->reason, ROWS),
                            ints(x->evals, ROWS),
                            ints(&x->active, 1),
                            k,
                            min_iter,
                            3,
                            stop,
                            0.1,
                            1,
                            10};
    op_solve_judge(&be, &p);
    backend_close(&be);
}

static struct judged judged_start(void)
{
    static const double norms[ROWS][2] = {{1, 1},   {0.01, 9}, {0.04, 0}, {NAN, 1}, {1, INFINITY},
                                          {400, 0}, {4, 0},    {1, 1},    {0.25, 9}};
    struct judged x = {.active = -1};
    for (int n = 0; n < ROWS; n++) {
        memcpy(x.norms + 2 * n, norms[n], sizeof norms[n]);
        x.z[n] = 10 + n;
        x.f[n] = 20 + n;
        x.best_z[n] = 30 + n;
        x.best_f[n] = 40 + n;
        x.best[n] = 0.5;
        x.first[n] = 1;
        x.best_at[n] = 3;
    }
    x.best_at[6] = 2;
    x.reason[7] = SOLVE_STALLED;
    x.best[3] = INFINITY;
    return x;
}

static void expect_row(const struct judged *x, int n, enum solve_reason reason, bool better,
                       bool goes_back, double r)
{
    assert_int_equal(x->reason[n], reason);
    assert_int_equal(x->best_at[n], better ? 5 : n == 6 ? 2 : 3);
    near(x->best_z[n], (better ? 10 : 30) + n, 0);
    near(x->best_f[n], (better ? 20 : 40) + n, 0);
    near(x->z[n], (goes_back ? 30 : 10) + n, 0);
    if (better)
        near(x->best[n], r, 1e-15);
}

static void judge_decides(void **state)
{
    struct judged x = judged_start();
    judge(&x, STOP_REL, 5, 1); /* r: .5 .025 .2 nan nan 20 2 - .125 */
    expect_row(&x, 0, SOLVE_ACTIVE, false, false, 0);
    expect_row(&x, 1, SOLVE_CONVERGED_REL, true, false, 0.025);
    expect_row(&x, 2, SOLVE_ACTIVE, true, false, 0.2);
    assert_int_equal(x.reason[3], SOLVE_NONFINITE);
    assert_true(x.z[3] == 13 && isinf(x.best[3])); /* nothing to go back to */
    expect_row(&x, 4, SOLVE_NONFINITE, false, true, 0);
    expect_row(&x, 5, SOLVE_DIVERGED, false, true, 0);
    expect_row(&x, 6, SOLVE_STALLED, false, true, 0);
    expect_row(&x, 7, SOLVE_STALLED, false, false, 0);
    expect_row(&x, 8, SOLVE_ACTIVE, true, false, 0.125);
    assert_int_equal(x.active, 3);
    assert_int_equal(x.evals[0], 6);
    assert_int_equal(x.evals[7], 0);
    x = judged_start();
    judge(&x, STOP_ABS, 5, 1); /* r of row 1 is 0.1: the tolerance itself converges */
    expect_row(&x, 1, SOLVE_CONVERGED_ABS, true, false, 0.1);
    expect_row(&x, 8, SOLVE_ACTIVE, false, false, 0);
    x = judged_start();
    x.best[1] = 0.001; /* converged is converged, also above an earlier best */
    judge(&x, STOP_REL, 5, 6);
    expect_row(&x, 1, SOLVE_CONVERGED_REL, false, false, 0);
    x = judged_start();
    judge(&x, STOP_REL, 5, 7);
    expect_row(&x, 1, SOLVE_ACTIVE, true, false, 0.025);
    x = judged_start();
    judge(&x, STOP_FIXED, 5, 1);
    expect_row(&x, 1, SOLVE_ACTIVE, true, false, 0.025);
    expect_row(&x, 5, SOLVE_ACTIVE, false, false, 0);
    expect_row(&x, 6, SOLVE_ACTIVE, false, false, 0);
    expect_row(&x, 4, SOLVE_NONFINITE, false, true, 0);
    x = judged_start();
    judge(&x, STOP_ABS, 0, 1); /* the first residual is the measure of divergence */
    near(x.first[5], 20, 1e-13);
    assert_int_equal(x.reason[5], SOLVE_ACTIVE);
    (void)state;
}

/* alpha minimises a^T (G + ridge I) a among the weights that sum to 1, so (G + ridge I) alpha is
 * the same number in every slot of the window, and zero outside of it. */
static void anderson_is_optimal(void **state)
{
    enum { N = 3, M = 4, WIDTH = 6, STEPS = 9 };
    struct backend be;
    open_ref(&be);
    double hist[M][N][WIDTH], alpha[N * M], gram[N * M * M] = {0}, dots[N * M] = {0};
    int32_t len[N] = {0}, restarts[N] = {0};
    struct rng_key key = {4, 4};
    for (int step = 0; step < STEPS; step++) {
        int slot = step % M, count = step < M ? step + 1 : M;
        for (int n = 0; n < N; n++) {
            for (int e = 0; e < WIDTH; e++)
                hist[slot][n][e] = rng_normal(key, (uint64_t)((step * N + n) * WIDTH + e));
            for (int j = 0; j < count; j++) {
                dots[n * M + j] = 0;
                for (int e = 0; e < WIDTH; e++)
                    dots[n * M + j] += hist[slot][n][e] * hist[j][n][e];
            }
        }
        bool relative = step % 2;
        struct anderson_weights p = {reals(alpha, 2, N, M, 1),
                                     reals(gram, 3, N, M, M),
                                     reals(dots, 2, N, M, 1),
                                     ints(len, N),
                                     ints(restarts, N),
                                     slot,
                                     count,
                                     0.125,
                                     relative,
                                     {0}};
        op_anderson_weights(&be, &p);
        for (int n = 0; n < N; n++) {
            double sum = 0, trace = 0, level[M];
            for (int i = 0; i < count; i++)
                for (int e = 0; e < WIDTH; e++)
                    trace += hist[i][n][e] * hist[i][n][e];
            double ridge = relative ? 0.125 * trace / count : 0.125;
            for (int i = 0; i < M; i++) {
                sum += alpha[n * M + i];
                level[i] = ridge * alpha[n * M + i];
                for (int j = 0; i < count && j < count; j++)
                    for (int e = 0; e < WIDTH; e++)
                        level[i] += hist[i][n][e] * hist[j][n][e] * alpha[n * M + j];
                if (i >= count)
                    assert_true(alpha[n * M + i] == 0);
                else
                    near(level[i], level[0], 1e-12);
            }
            near(sum, 1, 1e-14);
            assert_int_equal(len[n], count);
            assert_int_equal(restarts[n], 0);
        }
    }
    backend_close(&be);
    (void)state;
}

/* Equal residuals without a ridge: singular. The window starts again with the newest slot, and the
 * next step uses two slots, across the end of the ring. */
static void anderson_restarts(void **state)
{
    enum { M = 3 };
    struct backend be;
    open_ref(&be);
    double alpha[M], dots[M] = {1, 1, 1}, gram[M * M] = {1, 1, 0, 1, 1, 0, 0, 0, 0};
    int32_t len = 2, restarts = 5;
    struct anderson_weights p = {reals(alpha, 2, 1, M, 1),
                                 reals(gram, 3, 1, M, M),
                                 reals(dots, 2, 1, M, 1),
                                 ints(&len, 1),
                                 ints(&restarts, 1),
                                 2,
                                 3,
                                 0,
                                 false,
                                 {0}};
    op_anderson_weights(&be, &p);
    assert_true(alpha[0] == 0 && alpha[1] == 0 && alpha[2] == 1 && len == 1 && restarts == 6);
    p.slot = 0;
    dots[0] = 4;
    dots[1] = 100; /* slot 1 is outside the window */
    dots[2] = 0;
    op_anderson_weights(&be, &p); /* G = diag(4, 1) on slots 0 and 2 */
    near(alpha[0], 0.2, 1e-15);
    near(alpha[2], 0.8, 1e-15);
    assert_true(alpha[1] == 0 && len == 2 && restarts == 6);
    dots[2] = NAN;
    op_anderson_weights(&be, &p);
    assert_true(alpha[0] == 1 && alpha[2] == 0 && len == 1 && restarts == 7);
    backend_close(&be);
    (void)state;
}

static void combine_and_divide(void **state)
{
    struct backend be;
    open_ref(&be);
    double x[4] = {1, 2, 3, 4}, y[4] = {1, 1, 1, 1}, coef[4] = {1, 2, 9, 9};
    double hist[8] = {1, 0, 0, 0, 0, 1, 0, 0}, hist2[8] = {1, 1, 0, 0, 1, 1, 0, 0};
    int32_t reason[2] = {0, SOLVE_STALLED}, restarts[2] = {0, 0};
    struct row_combine p = {reals(x, 2, 2, 2, 1),
                            reals(x, 2, 2, 2, 1),
                            reals(y, 2, 2, 2, 1),
                            reals(coef, 2, 2, 2, 1),
                            reals(hist, 3, 2, 2, 2),
                            reals(hist2, 3, 2, 2, 2),
                            ints(reason, 2),
                            2,
                            2,
                            3,
                            10,
                            100};
    op_row_combine(&be, &p);
    /* 2 x + 3 y + 10 (1, 2) + 100 (3, 3), and the row that has ended stays */
    assert_true(x[0] == 2 + 3 + 10 + 300 && x[1] == 4 + 3 + 20 + 300 && x[2] == 3 && x[3] == 4);
    double denom[2] = {2, 0};
    struct tensor tx = reals(x, 2, 2, 2, 1), td = reals(denom, 1, 2, 1, 1);
    struct tensor tr = ints(restarts, 2);
    op_row_divide(&be, &tx, &td, &tr);
    assert_true(x[0] == 157.5 && x[2] == 0 && x[3] == 0 && restarts[0] == 0 && restarts[1] == 1);
    backend_close(&be);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_and_dots), cmocka_unit_test(scope_sums),
        cmocka_unit_test(judge_decides),     cmocka_unit_test(anderson_is_optimal),
        cmocka_unit_test(anderson_restarts), cmocka_unit_test(combine_and_divide),
    };
    return cmocka_run_group_tests_name("solver operations of ref", tests, NULL, NULL);
}
