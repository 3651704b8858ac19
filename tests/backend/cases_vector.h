/* Cases: memory, elementwise operations, weight normalisation, optimizer. */
#ifndef DEQ_TESTS_BACKEND_CASES_VECTOR_H
#define DEQ_TESTS_BACKEND_CASES_VECTOR_H

#include "backend/suite.h"

static inline void case_memory(struct suite *s)
{
    struct backend *be = s->be[0];
    struct error err;
    const double f64[3] = {0.5, -2, 1.0e6};
    const float f32[3] = {0.25f, -3, 7};
    float back32[3];
    double back64[3];
    struct tensor t, u, none;
    suite_label(s, "upload, download, copy");
    size_t before = be->bytes;
    int64_t syncs = be->syncs;
    if (op_alloc(be, &t, be->ops->real, 1, 3, 1, 1, 1, &err) != STATUS_OK ||
        op_alloc(be, &u, be->ops->real, 1, 3, 1, 1, 1, &err) != STATUS_OK ||
        op_alloc(be, &none, be->ops->real, 2, 0, 5, 1, 1, &err) != STATUS_OK) {
        suite_fail(s, "%s", err.text);
        return;
    }
    suite_expect(s, (uintptr_t)t.data % 64 == 0, "memory is aligned to 64 bytes");
    op_download(be, back64, DTYPE_F64, &t);
    suite_expect(s, back64[0] == 0 && back64[1] == 0 && back64[2] == 0, "op_alloc clears");
    op_upload(be, &t, f64, DTYPE_F64);
    op_download(be, back32, DTYPE_F32, &t);
    suite_expect(s, back32[0] == 0.5f && back32[1] == -2 && back32[2] == 1.0e6f, "F64 to F32");
    op_upload(be, &u, f32, DTYPE_F32);
    op_copy(be, &t, &u);
    op_download(be, back64, DTYPE_F64, &t);
    suite_expect(s, back64[0] == 0.25 && back64[1] == -3 && back64[2] == 7, "F32 to F64");
    op_fill(be, &t, -1.5);
    op_download(be, back64, DTYPE_F64, &t);
    suite_expect(s, back64[0] == -1.5 && back64[2] == -1.5, "fill");
    op_fill(be, &none, 1);
    op_copy(be, &none, &none);
    suite_expect(s, be->bytes == before + 6 * dtype_size(be->ops->real), "bytes are counted");
    suite_expect(s, be->syncs == syncs + 4, "downloads are counted");
    op_release(be, &t);
    op_release(be, &u);
    op_release(be, &none);
    suite_expect(s, be->bytes == before, "released bytes are counted");
}

static inline void case_fill_copy(struct suite *s)
{
    const enum dtype types[] = {DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_U8};
    const int64_t sizes[] = {1, 31, 32, 33, 1000};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
            int64_t count = sizes[n];
            suite_label(s, "type %d, count %lld", (int)types[k], (long long)count);
            struct item *a = suite_make(s, false, types[k], FILL_ZERO, NULL, 1, count, 1, 1, 1);
            struct item *b = suite_make(s, false, types[k], FILL_ZERO, NULL, 1, count, 1, 1, 1);
            BOTH_SIDES(i)
            {
                op_fill(s->be[i], &a->t[i], 7);
                op_copy(s->be[i], &b->t[i], &a->t[i]);
            }
            suite_equal(s, a, "fill");
            suite_equal(s, b, "copy");
            suite_sweep(s);
        }
}

static inline void case_axpby(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 1000};
    const double scales[][2] = {{1, 0}, {-0.5, 1}, {2, -3}, {0, 1}};
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++)
        for (size_t f = 0; f < sizeof scales / sizeof *scales; f++) {
            double a = scales[f][0], b = scales[f][1];
            suite_label(s, "count %lld a %g b %g", (long long)sizes[n], a, b);
            struct item *x = real1(s, FILL_RANDOM, sizes[n]);
            struct item *y = real1(s, b == 0 ? FILL_NAN : FILL_RANDOM, sizes[n]);
            if (sizes[n] > 2 && a != 0)
                suite_poke(s, x, 2, NAN);
            BOTH_SIDES(i) op_axpby(s->be[i], &y->t[i], a, &x->t[i], b);
            suite_close(s, y, "y", NULL, 3 * (fabs(a) + fabs(b)));
            suite_sweep(s);
        }
}

static inline void case_mul_bcast(struct suite *s)
{
    const int64_t sizes[][3] = {{1, 1, 1}, {2, 3, 31}, {3, 5, 32}, {2, 7, 33}, {2, 0, 4}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 16; flags++) {
            const int64_t *d = sizes[k];
            suite_label(s, "%lld x %lld x %lld, flags %d", (long long)d[0], (long long)d[1],
                        (long long)d[2], flags);
            struct item *x = real3(s, FILL_RANDOM, d[0], d[1], d[2]);
            struct item *m = real3(s, FILL_MASK, flags & 1 ? d[0] : 1, flags & 2 ? d[1] : 1,
                                   flags & 4 ? d[2] : 1);
            bool in_place = flags & 8;
            struct item *out = in_place ? x : real3(s, FILL_NAN, d[0], d[1], d[2]);
            BOTH_SIDES(i) op_mul_bcast(s->be[i], &out->t[i], &x->t[i], &m->t[i]);
            suite_close(s, out, "out", NULL, 2);
            suite_sweep(s);
        }
}

static inline void case_col_dot(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {31, 33}, {33, 32}, {200, 31}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k][0], d = sizes[k][1];
        suite_label(s, "%lld x %lld", (long long)n, (long long)d);
        struct item *x = real2(s, FILL_RANDOM, n, d), *y = real2(s, FILL_RANDOM, n, d);
        struct item *acc = real1(s, FILL_RANDOM, d);
        BOTH_SIDES(i) op_col_dot(s->be[i], &acc->t[i], &x->t[i], &y->t[i]);
        suite_close(s, acc, "acc", NULL, (double)((n + 2) * (n + 1)));
        suite_sweep(s);
    }
}

static inline void case_col_sum(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {31, 33}, {33, 32}, {200, 31}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int nan = 0; nan < 2; nan++) {
            int64_t n = sizes[k][0], d = sizes[k][1];
            suite_label(s, "%lld x %lld, nan %d", (long long)n, (long long)d, nan);
            struct item *x = real2(s, FILL_RANDOM, n, d), *acc = real1(s, FILL_RANDOM, d);
            if (nan && n > 0)
                suite_poke(s, x, n * d / 2, NAN);
            BOTH_SIDES(i) op_col_sum(s->be[i], &acc->t[i], &x->t[i]);
            suite_close(s, acc, "acc", NULL, (double)((n + 1) * (n + 1)));
            suite_sweep(s);
        }
}

/* Entries of v lie in [1/4, 5/4], so inv <= 4 / sqrt(C); its relative error is (C/2 + 2) eps at
 * most, and w multiplies by it. In the vjp dw.v <= 5/4 C errs by C times that, hence dg by
 * 5 C sqrt(C), and dv = g inv (dw - dw.v inv^2 v) by C * 4 / sqrt(C) * (1 + 25). */
static inline void case_weight_norm(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {3, 31}, {5, 32}, {4, 33}, {7, 200}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t rows = sizes[k][0], cols = sizes[k][1];
        double n = (double)cols;
        suite_label(s, "%lld x %lld", (long long)rows, (long long)cols);
        struct item *v = real2(s, FILL_POSITIVE, rows, cols), *g = real1(s, FILL_RANDOM, rows);
        struct item *w = real2(s, FILL_NAN, rows, cols), *inv = real1(s, FILL_NAN, rows);
        BOTH_SIDES(i) op_weight_norm(s->be[i], &w->t[i], &inv->t[i], &v->t[i], &g->t[i]);
        suite_close(s, w, "w", NULL, n + 6);
        suite_close(s, inv, "inv", NULL, 4 * (n + 4)); /* inv <= 4: v >= 1/4 */
        double *exact = suite_fetch(s, inv, 1);
        for (int64_t r = 0; r < rows; r++)
            inv->value[r] = (float)exact[r];
        mem_free(exact);
        suite_send(s, inv);
        struct item *dw = real2(s, FILL_RANDOM, rows, cols);
        struct item *dv = real2(s, FILL_RANDOM, rows, cols), *dg = real1(s, FILL_RANDOM, rows);
        BOTH_SIDES(i)
        {
            op_weight_norm_vjp(s->be[i], &(struct weight_norm_vjp){.dv = dv->t[i],
                                                                   .dg = dg->t[i],
                                                                   .dw = dw->t[i],
                                                                   .v = v->t[i],
                                                                   .g = g->t[i],
                                                                   .inv = inv->t[i]});
        }
        suite_close(s, dg, "dg", NULL, (n + 6) * (1 + 5 * sqrt(n)));
        suite_close(s, dv, "dv", NULL, (n + 8) * (1 + 104 / sqrt(n)));
        BOTH_SIDES(i)
        {
            op_weight_norm_vjp(s->be[i], &(struct weight_norm_vjp){.dv = dw->t[i],
                                                                   .dg = dg->t[i],
                                                                   .dw = dw->t[i],
                                                                   .v = v->t[i],
                                                                   .g = g->t[i],
                                                                   .inv = inv->t[i]});
        }
        suite_close(s, dw, "dv in place of dw", NULL, (n + 8) * (1 + 104 / sqrt(n)));
        suite_sweep(s);
    }
}

static inline void case_sum_squares(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 5000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int nan = 0; nan < 2; nan++) {
            const double start = 2;
            suite_label(s, "count %lld nan %d", (long long)sizes[k], nan);
            struct item *x = real1(s, FILL_RANDOM, sizes[k]);
            struct item *acc = suite_make(s, false, DTYPE_F64, FILL_ZERO, &start, 1, 1, 1, 1, 1);
            if (nan && sizes[k] > 0)
                suite_poke(s, x, sizes[k] - 1, NAN);
            BOTH_SIDES(i) op_sum_squares(s->be[i], &acc->t[i], &x->t[i]);
            /* the sum is in double on every backend: squares of float32 numbers are exact there */
            double n = (double)sizes[k] + 2;
            suite_close(s, acc, "acc", NULL, n * n * DBL_EPSILON / s->eps);
            suite_sweep(s);
        }
}

struct adam_setup {
    double decay, clip, norm2;
    int64_t step;
    bool by_block, coupled, cautious;
};

/* m and v are convex sums of numbers below 1; the step lr * m / sqrt(v) has relative error of a
 * few eps, magnified where the bias corrections 1 - beta^step cancel (in double if done well, in
 * eps / (1 - beta2) if not); v >= 1/16 keeps the quotient below 4 / sqrt(1 - beta2^step) times
 * that. */
static inline void adam_one(struct suite *s, int64_t n, const struct adam_setup *a)
{
    suite_label(s, "n %lld decay %g%s%s%s clip %g norm2 %g step %lld", (long long)n, a->decay,
                a->by_block ? " by block" : "", a->coupled ? " coupled" : "",
                a->cautious ? " cautious" : "", a->clip, a->norm2, (long long)a->step);
    struct item *w = real1(s, FILL_RANDOM, n), *g = real1(s, FILL_RANDOM, n);
    struct item *m = real1(s, FILL_RANDOM, n), *v = real1(s, FILL_POSITIVE, n);
    struct item *norm2 = suite_make(s, false, DTYPE_F64, FILL_ZERO, &a->norm2, 1, 1, 1, 1, 1);
    int64_t blocks = (n + ADAM_BLOCK - 1) / ADAM_BLOCK;
    double flags[64];
    for (int64_t k = 0; k < blocks; k++)
        flags[k] = (double)(k % 3);
    struct item *groups = suite_make(s, false, DTYPE_U8, FILL_ZERO, flags, 1, blocks, 1, 1, 1);
    BOTH_SIDES(i)
    {
        struct adam p = {.w = w->t[i],
                         .g = g->t[i],
                         .m = m->t[i],
                         .v = v->t[i],
                         .norm2 = norm2->t[i],
                         .beta1 = 0.9,
                         .eps = 1e-8,
                         .clip = a->clip,
                         .step = a->step,
                         .group = {{0.01, 0.999, a->decay}, {0.01, 0.999, 0}, {0.004, 0.99, 0.3}},
                         .coupled = a->coupled,
                         .cautious = a->cautious};
        if (a->by_block)
            p.groups = groups->t[i];
        op_adam(s->be[i], &p);
    }
    if (isfinite(a->norm2)) {
        suite_close(s, m, "m", NULL, 6);
        suite_close(s, v, "v", NULL, 6);
        suite_close(s, w, "w", NULL, 4 + 0.01 * 64 / (1 - pow(0.9, (double)a->step)));
    }
    suite_sweep(s); /* otherwise nothing may have changed: the sweep looks at every bit */
}

static inline void case_adam(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 1000};
    const struct adam_setup setups[] = {
        {0, 0, 9, 1, 0, 0, 0},         {0.1, 0, 9, 2, 0, 0, 0},
        {0, 0.25, 9, 10, 0, 0, 0},     {0.1, 0.25, 0.01, 5000, 0, 0, 0},
        {0, 0.25, NAN, 3, 0, 0, 0},    {0, 0, INFINITY, 3, 0, 0, 0},
        {0, 1, 0, 1, 0, 0, 0},         {0.1, 0.25, 9, 7, true, 0, 0},
        {0.1, 0.25, 9, 7, 0, true, 0}, {0.1, 0, 9, 3, true, true, 0},
        {10, 0, 9, 7, 0, 0, true},     {10, 0.25, 9, 3, true, 0, true}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t j = 0; j < sizeof setups / sizeof *setups; j++)
            adam_one(s, sizes[k], &setups[j]);
    suite_label(s, "nan");
    const double one = 1;
    struct item *t[4];
    for (int k = 0; k < 4; k++)
        t[k] = real1(s, k == 3 ? FILL_POSITIVE : FILL_RANDOM, 40);
    suite_poke(s, t[1], 35, NAN);
    struct item *norm2 = suite_make(s, false, DTYPE_F64, FILL_ZERO, &one, 1, 1, 1, 1, 1);
    BOTH_SIDES(i)
    {
        struct adam p = {.w = t[0]->t[i],
                         .g = t[1]->t[i],
                         .m = t[2]->t[i],
                         .v = t[3]->t[i],
                         .norm2 = norm2->t[i],
                         .beta1 = 0.9,
                         .eps = 1e-8,
                         .step = 7,
                         .group = {{0.01, 0.999, 0}}};
        op_adam(s->be[i], &p);
    }
    suite_close(s, t[0], "w", NULL, 10);
    suite_close(s, t[2], "m", NULL, 6);
    suite_close(s, t[3], "v", NULL, 6);
    suite_sweep(s);
}

static inline void momentum_one(struct suite *s, int64_t n, double clip, double norm)
{
    double square = norm * norm;
    suite_label(s, "n %lld clip %g norm2 %g", (long long)n, clip, square);
    struct item *g = real1(s, FILL_RANDOM, n), *m = real1(s, FILL_RANDOM, n);
    struct item *norm2 = suite_make(s, false, DTYPE_F64, FILL_ZERO, &square, 1, 1, 1, 1, 1);
    BOTH_SIDES(i)
    {
        const struct momentum p = {
            .g = g->t[i], .m = m->t[i], .norm2 = norm2->t[i], .beta = 0.95, .clip = clip};
        op_momentum(s->be[i], &p);
    }
    if (isfinite(square)) { /* convex sums of numbers below 1, and 1 - 0.95 rounded */
        suite_close(s, m, "m", NULL, 4);
        suite_close(s, g, "g", NULL, 6);
    }
    suite_sweep(s); /* otherwise nothing may have changed */
}

static inline void case_momentum(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 1000};
    const double settings[][2] = {{0, 3}, {0.25, 3}, {0.25, 0.1}, {0.25, NAN}, {0, INFINITY}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t j = 0; j < sizeof settings / sizeof *settings; j++)
            momentum_one(s, sizes[k], settings[j][0], settings[j][1]);
}

static inline void case_unit_norm(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 1000};
    const double norms2[] = {0.04, 9, 0, 1e-20};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t j = 0; j < sizeof norms2 / sizeof *norms2; j++) {
            suite_label(s, "n %lld norm2 %g", (long long)sizes[k], norms2[j]);
            struct item *x = real1(s, FILL_RANDOM, sizes[k]), *y = real1(s, FILL_RANDOM, sizes[k]);
            struct item *norm2 =
                suite_make(s, false, DTYPE_F64, FILL_ZERO, &norms2[j], 1, 1, 1, 1, 1);
            double factor = 1 / fmax(sqrt(norms2[j]), 1e-7);
            BOTH_SIDES(i)
            op_unit_norm(s->be[i], &y->t[i], &x->t[i], &norm2->t[i], 1e-7);
            suite_close(s, y, "y", NULL, 4 * factor); /* numbers below 1 times the factor */
            suite_sweep(s);
        }
}

/* The sign of u w does not depend on rounding, as the drawn numbers are far from 0 or are equal. */
static inline void case_descend(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 1000};
    const double squares[] = {4, NAN};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int j = 0; j < 4; j++) {
            bool cautious = j % 2 == 1;
            suite_label(s, "n %lld norm2 %g%s", (long long)sizes[k], squares[j / 2],
                        cautious ? " cautious" : "");
            struct item *w = real1(s, FILL_RANDOM, sizes[k]), *u = real1(s, FILL_RANDOM, sizes[k]);
            struct item *norm2 =
                suite_make(s, false, DTYPE_F64, FILL_ZERO, &squares[j / 2], 1, 1, 1, 1, 1);
            BOTH_SIDES(i)
            {
                const struct descend p = {.w = w->t[i],
                                          .u = u->t[i],
                                          .norm2 = norm2->t[i],
                                          .rate = 0.02,
                                          .shrink = 0.25,
                                          .cautious = cautious};
                op_descend(s->be[i], &p);
            }
            if (isfinite(squares[j / 2]))
                suite_close(s, w, "w", NULL, 4);
            suite_sweep(s);
        }
}

#endif
