/* The mixing weights of the solvers on the reference backend, against what defines them. */
#include "backend/by_hand.h"

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

/* A row and a history of one number each, as the sums that go with a count of 1. */
struct one_step {
    double coef[2], gram, dots[2];
    int32_t restarts;
};

static void weigh(struct one_step *x, double g_dot, double square, double length)
{
    struct backend be;
    open_ref(&be);
    x->dots[0] = g_dot;
    x->dots[1] = square;
    struct broyden_weights p = {reals(x->coef, 2, 1, 2, 1),
                                reals(&x->gram, 2, 1, 1, 1),
                                reals(x->dots, 3, 1, 2, 1),
                                ints(&x->restarts, 1),
                                1,
                                {length}};
    op_broyden_weights(&be, &p);
    backend_close(&be);
}

static void broyden_leaves_out(void **state)
{
    struct one_step x = {.gram = -1};
    (void)state;
    weigh(&x, 1, 2, 1); /* rho is 1/2 */
    assert_true(x.coef[0] == 0 && x.coef[1] == 2 && x.gram == 2 && x.restarts == 0);
    weigh(&x, 1, 2, 0.5);
    assert_true(x.coef[0] == -0.5 && x.coef[1] == 2 && x.restarts == 0);
    weigh(&x, 2, 2, 0.5); /* 1 */
    assert_true(x.coef[0] == 0 && x.coef[1] == 1 && x.restarts == 1);
    weigh(&x, NAN, 2, 0.5);
    assert_true(x.coef[0] == 0 && x.coef[1] == 1 && x.restarts == 2);
    weigh(&x, 0, 0, 0.5); /* there is no update */
    assert_true(x.coef[0] == 0 && x.coef[1] == 1 && x.restarts == 2);
    weigh(&x, 1 - 1e-4, 1, 1);
    near(x.coef[1], 1e4, 1e-6);
    weigh(&x, 1 - 1e-6, 1, 1); /* steeper than BROYDEN_GAIN */
    assert_true(x.coef[1] == 1 && x.restarts == 3);
}

/* The coefficients belong to the product of updates, applied one after the other to g, in terms of
 * the steps as taken, s_j = a_j d_j (Kelley 1995, 7.3). */
static void broyden_is_a_product(void **state)
{
    enum { M = 5, WIDTH = 7 };
    struct backend be;
    struct rng_key key = {5, 5};
    double d[M][WIDTH], g[WIDTH], gram[M * (M + 1) / 2], coef[M + 1], dots[2 * M];
    const double a[M] = {1, 0.5, 1, 0.125, 0.75};
    int32_t restarts = 0;
    (void)state;
    open_ref(&be);
    for (int count = 1; count <= M; count++) {
        double x[WIDTH], t = 0;
        struct broyden_weights p = {reals(coef, 2, 1, count + 1, 1),
                                    reals(gram, 2, 1, M * (M + 1) / 2, 1),
                                    reals(dots, 3, 1, 2, count),
                                    ints(&restarts, 1),
                                    count,
                                    {0}};
        memcpy(p.lengths, a, sizeof a);
        for (int e = 0; e < WIDTH; e++) {
            d[count - 1][e] = rng_normal(key, (uint64_t)(count * WIDTH + e));
            x[e] = g[e] = rng_normal(key, (uint64_t)((M + count) * WIDTH + e));
        }
        for (int j = 0; j < count; j++) {
            double along = 0, square = 0;
            dots[j] = dots[count + j] = 0;
            for (int e = 0; e < WIDTH; e++) {
                dots[j] += g[e] * d[j][e];
                dots[count + j] += d[count - 1][e] * d[j][e];
                along += a[j] * d[j][e] * x[e];
                square += a[j] * d[j][e] * a[j] * d[j][e];
            }
            t = along / square;
            for (int e = 0; e < WIDTH && j + 1 < count; e++)
                x[e] +=
                    t * (a[j] / a[j + 1] * a[j + 1] * d[j + 1][e] - (1 - a[j]) * a[j] * d[j][e]);
        }
        op_broyden_weights(&be, &p);
        double last = a[count - 1];
        for (int e = 0; e < WIDTH; e++) {
            double want = (x[e] - (1 - last) * t * last * d[count - 1][e]) / (1 - last * t);
            double got = coef[count] * g[e];
            for (int j = 0; j < count; j++)
                got += coef[j] * d[j][e];
            near(got, want, 1e-12 * (1 + fabs(coef[count])));
        }
        assert_int_equal(restarts, 0);
    }
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anderson_is_optimal),
        cmocka_unit_test(anderson_restarts),
        cmocka_unit_test(broyden_leaves_out),
        cmocka_unit_test(broyden_is_a_product),
    };
    return cmocka_run_group_tests_name("mixing weights of ref", tests, NULL, NULL);
}
