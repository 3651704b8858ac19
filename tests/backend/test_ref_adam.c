/* The reference's optimizer against its moments in closed form. */
#include "backend/by_hand.h"

/* Five steps with gradients scaled by the clip: the moments as sums in closed form. */
static void adam_by_sums(void **state)
{
    enum { STEPS = 5 };
    const double lr = 0.1, b1 = 0.5, b2 = 0.75, eps = 1e-3, decay = 0.25, clip = 1;
    struct backend be;
    open_ref(&be);
    double w = 2, m = 0, v = 0, want = 2, grads[STEPS] = {3, -1, 0.5, 2, 0.25};
    struct adam p = {.w = reals(&w, 1, 1, 1, 1),
                     .m = reals(&m, 1, 1, 1, 1),
                     .v = reals(&v, 1, 1, 1, 1),
                     .beta1 = b1,
                     .eps = eps,
                     .clip = clip,
                     .group = {{lr, b2, decay}}};
    for (int t = 1; t <= STEPS; t++) {
        double g = grads[t - 1], norm2 = g * g, mean = 0, square = 0;
        p.g = reals(&g, 1, 1, 1, 1);
        p.norm2 = reals(&norm2, 1, 1, 1, 1);
        p.step = t;
        op_adam(&be, &p);
        assert_true(g == grads[t - 1]);
        for (int i = 1; i <= t; i++) {
            double x = grads[i - 1], size = fabs(x) + 1e-6;
            x = size > 1 ? x / size : x;
            mean += (1 - b1) * pow(b1, t - i) * x;
            square += (1 - b2) * pow(b2, t - i) * x * x;
        }
        want = want * (1 - lr * decay) -
               lr * mean / (1 - pow(b1, t)) / (sqrt(square / (1 - pow(b2, t))) + eps);
        near(w, want, 1e-14);
    }
    /* gradients that are not finite move nothing */
    double norm2 = NAN, g = 1, before = w;
    p.g = reals(&g, 1, 1, 1, 1);
    p.norm2 = reals(&norm2, 1, 1, 1, 1);
    p.clip = 0;
    p.step = STEPS + 1;
    op_adam(&be, &p);
    assert_true(w == before);
    backend_close(&be);
    (void)state;
}

/* Coupled decay is a larger gradient. Blocks of a group without decay move as with decay 0. */
static void adam_decays_by_group(void **state)
{
    enum { N = 2 * ADAM_BLOCK + 3 };
    struct backend be;
    open_ref(&be);
    uint8_t groups[3] = {0, 1, 0};
    for (int coupled = 0; coupled < 2; coupled++) {
        double w[2][N], m[2][N], v[2][N], g[2][N], norm2 = 4;
        for (int i = 0; i < N; i++) {
            w[0][i] = w[1][i] = 1 + 0.25 * i;
            m[0][i] = m[1][i] = 0.5;
            v[0][i] = v[1][i] = 0.75;
            g[0][i] = 2.0 / (i + 1);
            double pull = groups[i / ADAM_BLOCK] == 0 ? 0.125 * w[0][i] : 0;
            g[1][i] = coupled ? g[0][i] * (0.5 / (2 + 1e-6)) + pull : g[0][i];
        }
        for (int k = 0; k < 2; k++) {
            struct adam p = {.w = reals(w[k], 1, N, 1, 1),
                             .g = reals(g[k], 1, N, 1, 1),
                             .m = reals(m[k], 1, N, 1, 1),
                             .v = reals(v[k], 1, N, 1, 1),
                             .norm2 = reals(&norm2, 1, 1, 1, 1),
                             .beta1 = 0.5,
                             .eps = 1e-3,
                             .clip = k == 0 || !coupled ? 0.5 : 0,
                             .step = 3,
                             .group = {{0.1, 0.75, k == 0 ? 0.125 : 0}, {0.1, 0.75, 0}},
                             .groups = tensor_make(groups, DTYPE_U8, 1, 3, 1, 1, 1),
                             .coupled = coupled};
            op_adam(&be, &p);
        }
        for (int i = 0; i < N; i++) {
            double pulled =
                coupled || groups[i / ADAM_BLOCK] == 1 ? 0 : 0.1 * 0.125 * (1 + 0.25 * i);
            near(w[0][i], w[1][i] - pulled, 1e-13);
            near(m[0][i], m[1][i], 1e-13);
            near(v[0][i], v[1][i], 1e-13);
        }
    }
    backend_close(&be);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adam_by_sums),
        cmocka_unit_test(adam_decays_by_group),
    };
    return cmocka_run_group_tests_name("optimizer of ref", tests, NULL, NULL);
}
