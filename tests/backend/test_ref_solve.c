/* The solver's operations on the reference backend, against formulas written another way and
 * decisions worked out by hand. */
#include "backend/by_hand.h"

static void residual_and_dots(void **state)
{
    struct backend be;
    open_ref(&be);
    double f[4] = {3, 4, 1, 1}, z[4] = {0, 0, 1, -1}, g[4], norms[4], total[2];
    double hist[8] = {1, 0, 0, 1, 1, 1, 2, 2}, dots[6] = {7, 7, 7, 7, 7, 7};
    struct tensor tf = reals(f, 2, 2, 2, 1), tz = reals(z, 2, 2, 2, 1), tg = reals(g, 2, 2, 2, 1);
    struct tensor tn = reals(norms, 2, 2, 2, 1), tt = reals(total, 1, 2, 1, 1);
    op_solve_residual(
        &be, &(struct solve_residual){.g = tg, .f = tf, .z = tz, .norms = tn, .total = tt});
    assert_true(g[0] == 3 && g[1] == 4 && g[2] == 0 && g[3] == 2);
    assert_true(norms[0] == 25 && norms[1] == 25 && norms[2] == 4 && norms[3] == 2);
    assert_true(total[0] == 29 && total[1] == 27);
    /* slots of a history [2,2,2]; dots has room for 2 and takes 1, then 2 */
    struct tensor th = reals(hist, 3, 2, 2, 2), td = reals(dots, 2, 2, 2, 1);
    struct row_dots p = {.dots = td, .x = tg, .hist = th, .count = 1};
    op_row_dots(&be, &p);
    assert_true(dots[0] == 3 && dots[1] == 7 && dots[2] == 2 && dots[3] == 7);
    p.count = 2;
    op_row_dots(&be, &p);
    assert_true(dots[0] == 3 && dots[1] == 7 && dots[2] == 2 && dots[3] == 4);
    /* the first row has ended: it adds nothing */
    int32_t reason[2] = {SOLVE_CONVERGED_REL, 0};
    struct tensor tr = ints(reason, 2);
    f[0] = NAN;
    f[3] = 2;
    op_solve_residual(&be, &(struct solve_residual){
                               .g = tg, .f = tf, .z = tz, .norms = tn, .total = tt, .reason = tr});
    assert_true(g[0] == 3 && g[1] == 4 && g[3] == 3 && norms[0] == 0 && norms[2] == 9);
    assert_true(total[0] == 9 && total[1] == 5);
    p.count = 1;
    p.reason = tr;
    op_row_dots(&be, &p);
    assert_true(dots[0] == 0 && dots[1] == 7 && dots[2] == 3 && dots[3] == 4);
    /* and with f as well: (3,4) and (1,2), in which only the first of two slots counts */
    double pairs[8] = {7, 7, 7, 7, 7, 7, 7, 7};
    p.dots = reals(pairs, 3, 2, 2, 2);
    p.y = tf;
    p.reason.data = NULL;
    f[0] = 3;
    op_row_dots(&be, &p);
    assert_true(pairs[0] == 3 && pairs[2] == 3 && pairs[4] == 3 && pairs[6] == 2);
    assert_true(pairs[1] == 7 && pairs[3] == 7 && pairs[5] == 7 && pairs[7] == 7);
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
    struct convergence_check p = {reals(x->norms, 2, ROWS, 2, 1),
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
    op_convergence_check(&be, &p);
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

static void combines(void **state)
{
    struct backend be;
    open_ref(&be);
    double x[4] = {1, 2, 3, 4}, y[4] = {1, 1, 1, 1}, coef[4] = {1, 2, 9, 9}, z[4] = {5, 5, 5, 5};
    double hist[8] = {1, 0, 0, 0, 0, 1, 0, 0}, hist2[8] = {1, 1, 0, 0, 1, 1, 0, 0};
    int32_t reason[2] = {0, SOLVE_STALLED};
    struct row_combine p = {.out = reals(x, 2, 2, 2, 1),
                            .x = reals(x, 2, 2, 2, 1),
                            .y = reals(y, 2, 2, 2, 1),
                            .coef = reals(coef, 2, 2, 2, 1),
                            .hist = reals(hist, 3, 2, 2, 2),
                            .hist2 = reals(hist2, 3, 2, 2, 2),
                            .reason = ints(reason, 2),
                            .count = 2,
                            .a = 2,
                            .b = 3,
                            .c = 10,
                            .c2 = 100};
    op_row_combine(&be, &p);
    /* 2 x + 3 y + 10 (1, 2) + 100 (3, 3), and the row that has ended stays */
    assert_true(x[0] == 2 + 3 + 10 + 300 && x[1] == 4 + 3 + 20 + 300 && x[2] == 3 && x[3] == 4);
    /* the history alone, into its second slot and onto z; the other row is cleared there */
    p = (struct row_combine){.out = reals(hist + 4, 2, 2, 2, 1),
                             .coef = p.coef,
                             .hist = p.hist,
                             .sum = reals(z, 2, 2, 2, 1),
                             .reason = p.reason,
                             .count = 2,
                             .c = 10,
                             .clear = true};
    hist[6] = NAN;
    op_row_combine(&be, &p);
    assert_true(hist[4] == 10 && hist[5] == 20 && hist[6] == 0 && hist[7] == 0);
    assert_true(z[0] == 15 && z[1] == 25 && z[2] == 5 && z[3] == 5);
    backend_close(&be);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_and_dots),
        cmocka_unit_test(scope_sums),
        cmocka_unit_test(judge_decides),
        cmocka_unit_test(combines),
    };
    return cmocka_run_group_tests_name("solver operations of ref", tests, NULL, NULL);
}
