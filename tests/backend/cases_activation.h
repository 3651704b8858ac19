/* Cases: activations and the logistic function. */
#ifndef DEQ_TESTS_BACKEND_CASES_ACTIVATION_H
#define DEQ_TESTS_BACKEND_CASES_ACTIVATION_H

#include "backend/cases_ffn_up.h"

/* Inputs up to `amp` in size. Values are below amp^2, slopes below 2 amp and their slopes below 2.
 * A bfloat16 result is off by 2^-8 of itself. */
static inline void activate_one(struct suite *s, enum activation kind, int64_t rows, int64_t width,
                                double amp)
{
    int64_t wide = width * activation_inputs(kind);
    bool low = op_low_precision(s->be[0]) == DTYPE_BF16;
    double size = 2 * amp * amp + 2, terms = (low ? 0x1p-7 / s->eps : 0) + 24;
    suite_label(s, "kind %d, %lld x %lld, amp %g", kind, (long long)rows, (long long)width, amp);
    struct item *x = real2(s, FILL_RANDOM, rows, wide), *x_t = real2(s, FILL_RANDOM, rows, wide);
    struct item *dh = real2(s, FILL_RANDOM, rows, width),
                *dh_t = real2(s, FILL_RANDOM, rows, width);
    struct item *h = narrow2(s, FILL_NAN, rows, width), *h_t = narrow2(s, FILL_NAN, rows, width);
    struct item *dx[2] = {narrow2(s, FILL_NAN, rows, wide), narrow2(s, FILL_NAN, rows, wide)};
    struct item *dx_t = narrow2(s, FILL_NAN, rows, wide);
    for (int64_t k = 0; k < x->count; k++)
        x->value[k] = k % 7 == 3 ? 0 : amp * x->value[k];
    suite_send(s, x);
    BOTH_SIDES(i)
    {
        struct activate p = {x->t[i], h->t[i], kind};
        struct activate_vjp v = {x->t[i], dh->t[i], dx[0]->t[i], kind};
        struct activate_tangent t = {
            .x = x->t[i], .x_t = x_t->t[i], .h_t = h_t->t[i], .kind = kind};
        op_activate(s->be[i], &p);
        op_activate_vjp(s->be[i], &v);
        op_activate_tangent(s->be[i], &t);
        t.h_t = (struct tensor){0};
        t.dh = dh->t[i];
        t.dh_t = dh_t->t[i];
        t.dx = dx[1]->t[i];
        t.dx_t = dx_t->t[i];
        op_activate_tangent(s->be[i], &t);
    }
    suite_close(s, h, "h", NULL, terms * size);
    suite_close(s, h_t, "h_t", NULL, terms * size);
    suite_close(s, dx[0], "dx", NULL, terms * size);
    suite_close(s, dx[1], "dx of the tangent", NULL, terms * size);
    suite_close(s, dx_t, "dx_t", NULL, 2 * terms * size);
    suite_sweep(s);
}

static inline void activate_each(struct suite *s)
{
    const enum activation kinds[] = {ACTIVATION_RELU, ACTIVATION_RELU2, ACTIVATION_SWIGLU};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        activate_one(s, kinds[k], 0, 8, 1);
        activate_one(s, kinds[k], 1, 1, 1);
        activate_one(s, kinds[k], 5, 33, 4);
        activate_one(s, kinds[k], 70, 48, 1);
    }
}

/* Far out the gate is 0 or x, and a NaN passes on. */
static inline void case_activate(struct suite *s)
{
    activate_each(s);
    for (int kind = 0; kind < 3; kind++) {
        suite_label(s, "far numbers, kind %d", kind);
        struct item *x = real2(s, FILL_RANDOM, 1, kind == ACTIVATION_SWIGLU ? 8 : 4);
        struct item *h = narrow2(s, FILL_NAN, 1, 4);
        suite_poke(s, x, 0, -200);
        suite_poke(s, x, 1, 200);
        suite_poke(s, x, 2, NAN);
        BOTH_SIDES(i)
        {
            struct activate p = {x->t[i], h->t[i], (enum activation)kind};
            op_activate(s->be[i], &p);
        }
        suite_close(s, h, "h", NULL, 200 * 200 * 8);
        suite_sweep(s);
    }
}

static inline void case_activate_rounded(struct suite *s)
{
    ffn_precision(s, PRECISION_BF16);
    activate_each(s);
    ffn_precision(s, PRECISION_FP32);
}

static inline void case_sigmoid(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 33, 1000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        suite_label(s, "count %lld", (long long)sizes[k]);
        struct item *x = real1(s, FILL_RANDOM, sizes[k]), *y = real1(s, FILL_NAN, sizes[k]);
        struct item *dy = real1(s, FILL_RANDOM, sizes[k]), *dx = real1(s, FILL_RANDOM, sizes[k]);
        if (sizes[k] > 2)
            suite_poke(s, x, 2, -200);
        BOTH_SIDES(i)
        {
            op_sigmoid(s->be[i], &y->t[i], &x->t[i]);
            op_sigmoid_vjp(s->be[i], &dx->t[i], &y->t[i], &dy->t[i]);
        }
        suite_close(s, y, "y", NULL, 8);
        suite_close(s, dx, "dx", NULL, 12);
        suite_sweep(s);
    }
}

#endif
