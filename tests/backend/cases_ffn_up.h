/* Cases: the hidden layer of feed-forward networks, and low-precision tensors in other operations.
 */
#ifndef DEQ_TESTS_BACKEND_CASES_FFN_UP_H
#define DEQ_TESTS_BACKEND_CASES_FFN_UP_H

#include "backend/suite.h"

enum { WIDEST_MASK = 400 };

/* per: rows of a mask row; 0: no mask. */
struct ffn_shape {
    int64_t n, d, width, per;
    bool nan;
};

/* Sets both sides to a format of products, or, where the tested backend has none, to what it had.
 */
static inline void ffn_precision(struct suite *s, enum precision precision)
{
    struct error err;
    (void)backend_set_precision(s->be[0], precision, &err);
    (void)backend_set_precision(s->be[1], s->be[0]->precision, &err);
}

/* A weight [rows, cols] with `room` numbers behind its rows, as nn/weight.h makes it: aligned, and
 * with whole eights of rows. */
static inline struct item *ffn_weight(struct suite *s, int64_t rows, int64_t cols, int64_t room)
{
    int shift = s->shift;
    s->shift = 0;
    struct item *w = narrow2(s, FILL_RANDOM, low_precision_up(rows), low_precision_up(cols + room));
    s->shift = shift;
    BOTH_SIDES(i)
    {
        w->t[i].dim[0] = rows;
        w->t[i].dim[1] = cols;
    }
    return w;
}

/* Its numbers are as they were; what lies behind them is the backend's. */
static inline void weight_unchanged(struct suite *s, struct item *w, int64_t stride)
{
    w->t[0].dim[0] = low_precision_up(w->t[0].dim[0]);
    w->t[0].dim[1] = stride;
    double *now = suite_fetch(s, w, 0);
    int64_t cols = w->t[1].dim[1];
    for (int64_t k = 0; k < w->count; k++)
        suite_expect(s, k % stride >= cols || now[k] == w->value[k], "w was changed");
    w->compared = true;
    mem_free(now);
}

/* Bits for the tested backend, where it wants them. */
static inline struct item *ffn_relu_mask(struct suite *s, int64_t n, int64_t width)
{
    int64_t bytes = op_relu_mask_width(s->be[0], width);
    struct item *relu_mask = suite_make(s, false, DTYPE_U8, FILL_ZERO, NULL, 2, n, bytes, 1, 1);
    relu_mask->t[1].data = NULL;
    if (bytes == 0)
        relu_mask->t[0].data = NULL;
    relu_mask->compared = true; /* their order is the backend's business */
    return relu_mask;
}

/* What rounding may do to a sum of d products and a bias: each of them once, and, where the layer
 * is bfloat16, the product and the result once more each, by 2^-8. */
static inline double ffn_magnitude(const struct suite *s, int64_t d, double magnitude, double value)
{
    double rounded = op_low_precision(s->be[0]) == DTYPE_BF16 ? 0x1p-7 / s->eps * value : 0;
    return ((double)(d + 6) + suite_rounding_terms(s)) * magnitude + rounded;
}

/* Both of a row of x with row (or column, `along`) number i of w, w's rows `stride` apart. */
static inline double *product_magnitude(const struct suite *s, const struct ffn_shape *g,
                                        const struct item *x, const struct item *w, int64_t stride,
                                        bool along, const struct item *bias, double scale)
{
    double *mag = suite_memory((size_t)(g->n * g->width), sizeof *mag);
    for (int64_t k = 0; k < g->n * g->width; k++) {
        double sum = 0, value = 0, b = bias != NULL ? bias->value[k % g->width] : 0;
        for (int64_t e = 0; e < g->d; e++) {
            int64_t at = along ? k % g->width * stride + e : e * stride + k % g->width;
            double term = x->value[k / g->width * g->d + e] * w->value[at];
            sum += fabs(term);
            value += term; /* of the real x, of which products see a 2^-8 more or less */
        }
        mag[k] =
            scale * ffn_magnitude(s, g->d, sum + fabs(b), fabs(value) + fabs(b) + 0x1p-8 * sum);
    }
    return mag;
}

/* The reference's layer becomes the tested backend's, so that both gates open alike. */
static inline void same_layer(struct suite *s, struct item *h)
{
    double *now = suite_fetch(s, h, 0);
    op_upload(s->be[1], &h->t[1], now, DTYPE_F64);
    mem_free(now);
}

/* The layer on both sides. */
static inline void ffn_eval(struct suite *s, struct item *x, struct item *w, struct item *bias,
                            struct item *mask, struct item *h, struct item *relu_mask,
                            struct ffn_up shape)
{
    BOTH_SIDES(i)
    {
        struct ffn_up p = shape;
        p.x = x->t[i];
        p.w = w->t[i];
        p.bias = bias->t[i];
        p.mask = mask->t[i];
        p.h = h->t[i];
        if (relu_mask != NULL)
            p.relu_mask = relu_mask->t[i];
        op_ffn_up(s->be[i], &p);
    }
}

static inline void ffn_back(struct suite *s, const struct ffn_shape *g, struct item *h,
                            struct item *relu_mask, struct item *mask, bool forward)
{
    int64_t wide = low_precision_up(g->width), stride = forward ? low_precision_up(g->d) : wide;
    struct item *dy = real2(s, FILL_RANDOM, g->n, g->d);
    struct item *w = forward ? ffn_weight(s, g->width, g->d, 0) : ffn_weight(s, g->d, g->width, 0);
    struct item *dh = narrow2(s, FILL_NAN, g->n, g->width);
    if (g->nan)
        suite_poke(s, dy, 0, NAN);
    BOTH_SIDES(i)
    {
        struct ffn_up_vjp p = {.dy = dy->t[i],
                               .w = w->t[i],
                               .mask = mask->t[i],
                               .h = h->t[i],
                               .dh = dh->t[i],
                               .w_stride = stride,
                               .rows_per_mask = g->per,
                               .mask_scale = 1.25,
                               .forward = forward};
        if (relu_mask != NULL)
            p.relu_mask = relu_mask->t[i];
        if (p.relu_mask.data != NULL && s->be[i]->ops->ffn_rows > 0)
            p.h = (struct tensor){0};
        op_ffn_up_vjp(s->be[i], &p);
    }
    double *mag = product_magnitude(s, g, dy, w, stride, forward, NULL, 1.25);
    suite_close(s, dh, "dh", mag, 1);
    mem_free(mag);
    weight_unchanged(s, w, stride);
}

static inline void ffn_one(struct suite *s, const struct ffn_shape *g)
{
    suite_label(s, "%lld x %lld to %lld, %lld rows a mask, nan %d, precision %s", (long long)g->n,
                (long long)g->d, (long long)g->width, (long long)g->per, g->nan,
                precision_name(s->be[0]->precision));
    int64_t mask_rows = g->per > 0 ? g->n / g->per : 0,
            bytes = op_relu_mask_width(s->be[0], g->width);
    int64_t stride = low_precision_up(g->d + op_ffn_up_padding(s->be[0], mask_rows));
    struct item *x = real2(s, FILL_RANDOM, g->n, g->d), *bias = real1(s, FILL_RANDOM, g->width);
    struct item *w = ffn_weight(s, g->width, g->d, op_ffn_up_padding(s->be[0], mask_rows));
    struct item *mask = maybe2(s, g->per > 0, FILL_MASK, mask_rows, g->width);
    struct item *h = narrow2(s, FILL_NAN, g->n, g->width);
    struct item *relu_mask = ffn_relu_mask(s, g->n, g->width);
    if (g->nan)
        suite_poke(s, x, g->n * g->d - 1, NAN);
    struct ffn_up shape = {.w_stride = stride, .rows_per_mask = g->per, .mask_scale = 1.25};
    ffn_eval(s, x, w, bias, mask, h, relu_mask, shape);
    double *mag = product_magnitude(s, g, x, w, stride, true, bias, 1.25);
    suite_close(s, h, "h", mag, 1);
    mem_free(mag);
    weight_unchanged(s, w, stride);
    same_layer(s, h);
    for (int forward = 0; bytes > 0 && forward < 2; forward++)
        ffn_back(s, g, h, relu_mask, mask, forward);
    ffn_back(s, g, h, NULL, mask, false);
    ffn_back(s, g, h, NULL, mask, true);
    suite_sweep(s);
}

static inline void case_ffn_up(struct suite *s)
{
    const struct ffn_shape shapes[] = {
        {1, 1, 1, 1, false},    {0, 3, 8, 1, false},     {6, 5, 31, 0, false},
        {6, 5, 31, 3, false},   {4, 8, 32, 2, false},    {6, 7, 33, 1, false},
        {34, 9, 100, 17, true}, {34, 12, 100, 34, true}, {5, 33, 64, 0, true}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        ffn_one(s, &shapes[k]);
}

/* Large enough for no backend to leave factors as they are. The last has more masks than come as
 * columns. */
static inline void case_ffn_up_rounded(struct suite *s)
{
    const struct ffn_shape shapes[] = {{64, 32, 64, 0, false},   {64, 32, 64, 32, false},
                                       {34, 70, 41, 17, false},  {36, 33, 136, 12, false},
                                       {36, 33, 136, 36, false}, {WIDEST_MASK, 8, 32, 1, false}};
    for (int precision = PRECISION_TF32; precision <= PRECISION_BF16; precision++) {
        ffn_precision(s, (enum precision)precision);
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
            ffn_one(s, &shapes[k]);
    }
    ffn_precision(s, PRECISION_FP32);
}

/* A dropped number is 0, whatever bias and product would have made of it; and the bias comes in
 * full, also where 7 bits do not hold it: a product of -1 leaves what they miss of 1.0058. */
static inline void case_ffn_up_masks(struct suite *s)
{
    enum { ROWS = 6, D = 8, WIDTH = 16 };
    ffn_precision(s, PRECISION_BF16);
    suite_label(s, "dropped and biased numbers");
    int64_t room = op_ffn_up_padding(s->be[0], 2), stride = low_precision_up(D + room);
    struct item *x = real2(s, FILL_ZERO, ROWS, D), *bias = real1(s, FILL_ZERO, WIDTH);
    struct item *w = ffn_weight(s, WIDTH, D, room), *mask = real2(s, FILL_ZERO, 2, WIDTH);
    struct item *h = narrow2(s, FILL_NAN, ROWS, WIDTH);
    for (int n = 0; n < ROWS; n++)
        suite_poke(s, x, n * D, -1);
    for (int k = 0; k < WIDTH; k++) {
        suite_poke(s, w, k * stride, 1);
        suite_poke(s, bias, k, k % 2 == 0 ? 1e6 : 1 + 0x1p-8 + 0x1p-9);
        suite_poke(s, mask, k % 4 < 2 ? k : WIDTH + k, 2);
    }
    struct ffn_up shape = {.w_stride = stride, .rows_per_mask = ROWS / 2, .mask_scale = 2};
    ffn_eval(s, x, w, bias, mask, h, NULL, shape);
    double *now = suite_fetch(s, h, 0),
           unit = op_low_precision(s->be[0]) == DTYPE_BF16 ? 0x1p-8 : s->eps;
    for (int n = 0; n < ROWS; n++)
        for (int k = 0; k < WIDTH; k++) {
            double want = mask->value[n / (ROWS / 2) * WIDTH + k] * (bias->value[k] - 1);
            double got = now[n * WIDTH + k];
            suite_expect(s, fabs(got - want) <= unit * want, want == 0 ? "dropped" : "biased");
        }
    mem_free(now);
    h->compared = true;
    weight_unchanged(s, w, stride);
    suite_sweep(s);
    ffn_precision(s, PRECISION_FP32);
}

/* Products with a low-precision factor on either side, sums of its columns, and a matrix made
 * low-precision. */
static inline void case_narrow(struct suite *s)
{
    enum { M = 70, N = 33, K = 64 };
    for (int precision = PRECISION_FP32; precision <= PRECISION_BF16; precision += 2) {
        ffn_precision(s, (enum precision)precision);
        for (int flags = 0; flags < 16; flags++) {
            bool ta = flags & 1, tb = flags & 2, narrow_a = flags & 4, narrow_b = flags & 8;
            suite_label(s, "precision %d flags %d", precision, flags);
            int64_t ar = ta ? K : M, ac = ta ? M : K, br = tb ? N : K, bc = tb ? K : N;
            struct item *a =
                narrow_a ? narrow2(s, FILL_RANDOM, ar, ac) : real2(s, FILL_RANDOM, ar, ac);
            struct item *b =
                narrow_b ? narrow2(s, FILL_RANDOM, br, bc) : real2(s, FILL_RANDOM, br, bc);
            struct item *c = real2(s, FILL_NAN, M, N), *sum = real1(s, FILL_RANDOM, ac);
            struct item *round = narrow2(s, FILL_NAN, br, bc + 3);
            BOTH_SIDES(i)
            {
                op_gemm(s->be[i], &(struct gemm){.trans_a = ta,
                                                 .trans_b = tb,
                                                 .alpha = 1,
                                                 .a = a->t[i],
                                                 .b = b->t[i],
                                                 .c = c->t[i]});
                op_col_sum(s->be[i], &sum->t[i], &a->t[i]);
                struct copy_block p = {
                    .to = tensor_make(round->t[i].data, round->t[i].dtype, 3, 1, br, bc, 1),
                    .from = tensor_shape(&b->t[i], 3, 1, br, bc, 1),
                    .to_row = bc + 3};
                if (!narrow_b)
                    op_copy_block(s->be[i], &p);
            }
            suite_close(s, c, "c", NULL, (K + 3) * K);
            suite_close(s, sum, "sums", NULL, (double)(ar * (ar + 1)));
            double *mag = suite_memory((size_t)round->count, sizeof *mag);
            for (int64_t k = 0; k < round->count; k++) /* the reference keeps them as they are */
                mag[k] = k % (bc + 3) >= bc || op_low_precision(s->be[0]) != DTYPE_BF16
                             ? 0
                             : 0x1p-9 / s->eps;
            if (!narrow_b)
                suite_close(s, round, "rounded", mag, 1);
            mem_free(mag);
            suite_sweep(s);
        }
    }
    ffn_precision(s, PRECISION_FP32);
}

#endif
