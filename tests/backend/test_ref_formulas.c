/* The reference backend against formulas written another way, and numbers by hand; attention, the
 * optimizer and the solver's operations have files of their own. */
#include "backend/by_hand.h"

static void gemm_of_transposes(void **state)
{
    enum { M = 3, N = 4, K = 5 };
    struct backend be;
    open_ref(&be);
    double a[M * K], b[K * N], at[K * M], bt[N * K];
    randomise(a, M * K, 1);
    randomise(b, K * N, 2);
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < M; i++)
            at[k * M + i] = a[i * K + k];
        for (int j = 0; j < N; j++)
            bt[j * K + k] = b[k * N + j];
    }
    for (int flags = 0; flags < 4; flags++) {
        bool ta = flags & 1, tb = flags & 2;
        double c[M * N];
        for (int e = 0; e < M * N; e++)
            c[e] = e;
        struct tensor x = ta ? reals(at, 2, K, M, 1) : reals(a, 2, M, K, 1);
        struct tensor y = tb ? reals(bt, 2, N, K, 1) : reals(b, 2, K, N, 1);
        struct tensor z = reals(c, 2, M, N, 1);
        op_gemm(
            &be,
            &(struct gemm){
                .trans_a = ta, .trans_b = tb, .alpha = -2, .beta = 0.5, .a = x, .b = y, .c = z});
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                double dot = 0;
                for (int k = 0; k < K; k++)
                    dot += a[i * K + k] * b[k * N + j];
                near(c[i * N + j], 0.5 * (i * N + j) - 2 * dot, 1e-14);
            }
    }
    assert_true(be.stat[OP_gemm].calls == 4 && be.stat[OP_gemm].flops == 4 * 2.0 * M * N * K);
    double one = 3, nan = NAN;
    struct tensor x = reals(&one, 2, 1, 1, 1), y = reals(&nan, 2, 1, 1, 1);
    op_gemm(&be, &(struct gemm){.alpha = 2, .a = x, .b = x, .c = y}); /* beta 0 overwrites */
    assert_true(nan == 18);
    backend_close(&be);
    (void)state;
}

static void elementwise_by_hand(void **state)
{
    struct backend be;
    open_ref(&be);
    double x[4] = {1, 2, 3, 4}, y[4] = {NAN, 1, 1, 1}, m[2] = {0, 2}, out[4], acc[2] = {10, 20};
    struct tensor tx = reals(x, 1, 4, 1, 1), ty = reals(y, 1, 4, 1, 1);
    op_axpby(&be, &ty, 2, &tx, 0);
    assert_true(y[0] == 2 && y[3] == 8);
    op_axpby(&be, &ty, 1, &tx, -1);
    assert_true(y[0] == -1 && y[3] == -4);
    struct tensor cube = reals(x, 3, 1, 2, 2), over_time = reals(m, 3, 1, 2, 1);
    struct tensor over_width = reals(m, 3, 1, 1, 2), to = reals(out, 3, 1, 2, 2);
    op_mul_bcast(&be, &to, &cube, &over_time);
    assert_true(out[0] == 0 && out[1] == 0 && out[2] == 6 && out[3] == 8);
    op_mul_bcast(&be, &to, &cube, &over_width);
    assert_true(out[0] == 0 && out[1] == 4 && out[2] == 0 && out[3] == 8);
    struct tensor square = reals(x, 2, 2, 2, 1), sums = reals(acc, 1, 2, 1, 1);
    op_col_sum(&be, &sums, &square);
    assert_true(acc[0] == 14 && acc[1] == 26);
    int32_t at[3] = {1, 0, 1};
    double rows[6], table[4] = {0, 0, 1, 1};
    struct tensor idx = ints(at, 3), gathered = reals(rows, 2, 3, 2, 1);
    struct tensor grad = reals(table, 2, 2, 2, 1);
    op_gather_rows(&be, &gathered, &square, &idx, 10);
    assert_true(rows[0] == 30 && rows[1] == 40 && rows[2] == 10 && rows[5] == 40);
    op_scatter_add_rows(&be, &grad, &gathered, &idx, 0.5);
    assert_true(table[0] == 5 && table[1] == 10 && table[2] == 31 && table[3] == 41);
    double total = 1;
    struct tensor one = reals(&total, 1, 1, 1, 1);
    op_sum_squares(&be, &one, &tx);
    assert_true(total == 31);
    double in[2] = {-1, NAN}, weight[2] = {1, -1}, shift[2] = {0.5, 0.25}, h[4], dh[4];
    double up[2] = {1, 1};
    struct ffn_up hidden = {.x = reals(in, 2, 2, 1, 1),
                            .w = reals(weight, 2, 2, 1, 1),
                            .bias = reals(shift, 1, 2, 1, 1),
                            .mask = reals(m, 2, 1, 2, 1),
                            .h = reals(h, 2, 2, 2, 1),
                            .rows_per_mask = 2,
                            .mask_scale = 2};
    op_ffn_up(&be, &hidden);
    assert_true(h[0] == 0 && h[1] == 2.5 && isnan(h[2]) && isnan(h[3]));
    struct ffn_up_vjp back = {.dy = reals(up, 2, 2, 1, 1),
                              .w = reals(weight, 2, 1, 2, 1),
                              .mask = hidden.mask,
                              .h = hidden.h,
                              .dh = reals(dh, 2, 2, 2, 1),
                              .rows_per_mask = 2,
                              .mask_scale = 2};
    op_ffn_up_vjp(&be, &back);
    assert_true(dh[0] == 0 && dh[1] == -2 && dh[2] == 0 && dh[3] == 0);
    backend_close(&be);
    (void)state;
}

/* A normalised row has mean 0 and mean square var / (var + eps); with a gain of 2 the rms row of
 * (3, 4) is 2 * (3, 4) / sqrt(12.5 + eps). */
static void norms_by_moments(void **state)
{
    enum { ROWS = 4, WIDTH = 9 };
    struct backend be;
    open_ref(&be);
    double a[ROWS * WIDTH], bias[WIDTH], mask[2 * WIDTH], res[ROWS * WIDTH], sum[ROWS * WIDTH],
        y[ROWS * WIDTH], rstd[ROWS];
    randomise(a, ROWS * WIDTH, 1);
    randomise(bias, WIDTH, 2);
    randomise(mask, 2 * WIDTH, 3);
    randomise(res, ROWS * WIDTH, 4);
    struct residual_norm p = {.a = reals(a, 2, ROWS, WIDTH, 1),
                              .bias = reals(bias, 1, WIDTH, 1, 1),
                              .mask = reals(mask, 2, 2, WIDTH, 1),
                              .res = reals(res, 2, ROWS, WIDTH, 1),
                              .sum = reals(sum, 2, ROWS, WIDTH, 1),
                              .y = reals(y, 2, ROWS, WIDTH, 1),
                              .rstd = reals(rstd, 1, ROWS, 1, 1),
                              .rows_per_mask = 2,
                              .kind = NORM_LAYER,
                              .eps = 0.01};
    op_residual_norm(&be, &p);
    for (int n = 0; n < ROWS; n++) {
        double mean = 0, square = 0, sum1 = 0, sum2 = 0;
        for (int d = 0; d < WIDTH; d++) {
            int e = n * WIDTH + d;
            near(sum[e], (a[e] + bias[d]) * mask[n / 2 * WIDTH + d] + res[e], 1e-15);
            mean += y[e] / WIDTH;
            square += y[e] * y[e] / WIDTH;
            sum1 += sum[e] / WIDTH;
            sum2 += sum[e] * sum[e] / WIDTH;
        }
        double var = sum2 - sum1 * sum1;
        near(mean, 0, 1e-15);
        near(square, var / (var + 0.01), 1e-13);
        near(rstd[n] * rstd[n] * (var + 0.01), 1, 1e-13);
        near(y[n * WIDTH] * sqrt(var + 0.01), sum[n * WIDTH] - sum1, 1e-13);
    }
    double row[2] = {3, 4}, gain[2] = {2, 2}, out[2];
    struct residual_norm q = {.a = reals(row, 2, 1, 2, 1),
                              .gain = reals(gain, 1, 2, 1, 1),
                              .y = reals(out, 2, 1, 2, 1),
                              .kind = NORM_RMS,
                              .eps = 0.5};
    op_residual_norm(&be, &q);
    near(out[0], 6 / sqrt(13), 1e-15);
    near(out[1], 8 / sqrt(13), 1e-15);
    backend_close(&be);
    (void)state;
}

static void softmax_by_sums(void **state)
{
    struct backend be;
    open_ref(&be);
    double x[6] = {0.5, -1, 2, 1, 1, 1}, bias[3] = {0.25, 0, -0.5}, nll[3] = {100, 200, 300};
    int32_t target[2] = {2, 0}, pos[2] = {2, 0};
    double was[6];
    memcpy(was, x, sizeof x);
    struct softmax_xent p = {reals(x, 2, 2, 3, 1),
                             reals(bias, 1, 3, 1, 1),
                             ints(target, 2),
                             ints(pos, 2),
                             reals(nll, 1, 3, 1, 1),
                             true,
                             2};
    op_softmax_xent(&be, &p);
    for (int i = 0; i < 2; i++) {
        double sum = 0;
        for (int c = 0; c < 3; c++)
            sum += exp(was[3 * i + c] + bias[c]);
        double picked = exp(was[3 * i + target[i]] + bias[target[i]]) / sum;
        near(nll[pos[i]], (i == 0 ? 300 : 100) - log(picked), 1e-13);
        for (int c = 0; c < 3; c++) {
            double prob = exp(was[3 * i + c] + bias[c]) / sum;
            near(x[3 * i + c], 2 * (prob - (c == target[i])), 1e-14);
        }
    }
    assert_true(nll[1] == 200);
    double y[4] = {1000, 1001, -1000, 0};
    struct tensor rows = reals(y, 2, 2, 2, 1);
    op_log_softmax(&be, &rows, NULL);
    near(y[0], -log(1 + exp(1)), 1e-12);
    near(y[1], 1 - log(1 + exp(1)), 1e-12);
    near(y[3], 0, 0);
    backend_close(&be);
    (void)state;
}

static void random_by_definition(void **state)
{
    enum { N = 9 };
    struct backend be;
    open_ref(&be);
    struct rng_key key = {3, 5};
    double x[N];
    uint8_t m[N];
    struct tensor t = reals(x, 1, N, 1, 1), mask = tensor_make(m, DTYPE_U8, 1, N, 1, 1, 1);
    op_dropout_mask(&be, &mask, 0.25, key, 0);
    op_dropout_mask(&be, &t, 0.25, key, 6);
    for (uint64_t i = 0; i < N; i++) {
        bool keep = !(rng_unit(rng_word(key, i)) < 0.25f);
        bool later = !(rng_unit(rng_word(key, 6 + i)) < 0.25f);
        assert_true(m[i] == keep && x[i] == (later ? 1 / 0.75 : 0));
    }
    double edge = (double)rng_unit(rng_word(key, 0)); /* equal to p is kept */
    op_dropout_mask(&be, &mask, edge, key, 0);
    assert_true(m[0] == 1);
    op_fill_normal(&be, &t, 3, key);
    for (uint64_t i = 0; i < N; i++)
        near(x[i], 3 * rng_normal(key, i), 1e-15);
    op_fill_uniform(&be, &t, -1, 3, key);
    for (uint64_t i = 0; i < N; i++)
        near(x[i], 4 * rng_uniform(key, i) - 1, 1e-15);
    backend_close(&be);
    (void)state;
}

/* Weight normalisation sets the length of a row to |g| and keeps its direction. */
static void weight_norm_by_length(void **state)
{
    struct backend be;
    open_ref(&be);
    double v[6], g[2] = {0.5, -3}, w[6], inv[2];
    randomise(v, 6, 1);
    struct tensor tv = reals(v, 2, 2, 3, 1), tg = reals(g, 1, 2, 1, 1), tw = reals(w, 2, 2, 3, 1);
    struct tensor ti = reals(inv, 1, 2, 1, 1);
    op_weight_norm(&be, &tw, &ti, &tv, &tg);
    for (int r = 0; r < 2; r++) {
        double *a = w + 3 * r, *b = v + 3 * r;
        near(sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]), fabs(g[r]), 1e-15);
        near(inv[r] * sqrt(b[0] * b[0] + b[1] * b[1] + b[2] * b[2]), 1, 1e-15);
        near(a[0] * b[1] - a[1] * b[0], 0, 1e-15);
        near(a[1] * b[2] - a[2] * b[1], 0, 1e-15);
        assert_true(a[0] * b[0] * g[r] > 0);
    }
    backend_close(&be);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_of_transposes),   cmocka_unit_test(elementwise_by_hand),
        cmocka_unit_test(norms_by_moments),     cmocka_unit_test(softmax_by_sums),
        cmocka_unit_test(random_by_definition), cmocka_unit_test(weight_norm_by_length),
    };
    return cmocka_run_group_tests_name("formulas of ref", tests, NULL, NULL);
}
