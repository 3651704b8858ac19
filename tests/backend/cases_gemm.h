/* Cases: products. */
#ifndef DEQ_TESTS_BACKEND_CASES_GEMM_H
#define DEQ_TESTS_BACKEND_CASES_GEMM_H

#include "backend/suite.h"

struct gemm_shape {
    int64_t m, n, k, pad; /* pad: extra columns around blocks */
    bool ta, tb;
    double alpha, beta;
};

/* |err| <= (k + 3) eps (|alpha| sum |a||b| + |beta c|), for any order of the sum. */
static inline double *gemm_magnitude(const struct gemm_shape *g, const struct item *a,
                                     const struct item *b, const struct item *c)
{
    int64_t as = a->t[0].dim[1], bs = b->t[0].dim[1], cs = c->t[0].dim[1];
    double *mag = suite_memory((size_t)c->count, sizeof *mag);
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < g->k; k++)
                sum += fabs(a->value[g->ta ? k * as + i : i * as + k] *
                            b->value[g->tb ? j * bs + k : k * bs + j]);
            double old = g->beta == 0 ? 0 : fabs(g->beta * c->value[i * cs + j]);
            mag[i * cs + j] = fabs(g->alpha) * sum + old;
        }
    return mag;
}

static inline void gemm_one(struct suite *s, const struct gemm_shape *g, int64_t nan_at)
{
    suite_label(s, "m %lld n %lld k %lld pad %lld ta %d tb %d alpha %g beta %g nan %lld",
                (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->pad, g->ta, g->tb,
                g->alpha, g->beta, (long long)nan_at);
    int64_t ar = g->ta ? g->k : g->m, ac = g->ta ? g->m : g->k;
    int64_t br = g->tb ? g->n : g->k, bc = g->tb ? g->k : g->n;
    enum fill fill = g->beta == 0 && g->pad == 0 ? FILL_NAN : FILL_RANDOM;
    struct item *a = real2(s, FILL_RANDOM, ar, ac + g->pad);
    struct item *b = real2(s, FILL_RANDOM, br, bc + g->pad);
    struct item *c = real2(s, fill, g->m, g->n + g->pad);
    if (nan_at >= 0)
        suite_poke(s, a, nan_at, NAN);
    double *mag = gemm_magnitude(g, a, b, c);
    BOTH_SIDES(i)
    {
        struct gemm p = {.trans_a = g->ta,
                         .trans_b = g->tb,
                         .alpha = g->alpha,
                         .beta = g->beta,
                         .a = a->t[i],
                         .b = b->t[i],
                         .c = c->t[i]};
        if (g->pad > 0) {
            p.a_stride = a->t[i].dim[1];
            p.b_stride = b->t[i].dim[1];
            p.c_stride = c->t[i].dim[1];
            p.a.dim[1] = ac;
            p.b.dim[1] = bc;
            p.c.dim[1] = g->n;
            op_gemm(s->be[i], &p);
        } else {
            op_gemm(s->be[i], &(struct gemm){.trans_a = g->ta,
                                             .trans_b = g->tb,
                                             .alpha = g->alpha,
                                             .beta = g->beta,
                                             .a = a->t[i],
                                             .b = b->t[i],
                                             .c = c->t[i]});
        }
    }
    /* Columns of the padding have magnitude 0. */
    suite_close(s, c, "c", mag, (double)g->k + 3 + suite_rounding_terms(s));
    mem_free(mag);
    suite_sweep(s);
}

static inline void case_gemm(struct suite *s)
{
    const int64_t sizes[][3] = {{1, 1, 1},    {1, 33, 31},  {31, 1, 33}, {33, 31, 1}, {32, 32, 32},
                                {33, 64, 70}, {7, 100, 41}, {0, 5, 3},   {5, 0, 3},   {4, 5, 0}};
    const double scales[][2] = {{1, 0}, {0.5, 1}, {-2, 0.25}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 8; flags++)
            for (size_t f = 0; f < 3; f++) {
                struct gemm_shape g = {sizes[k][0], sizes[k][1], sizes[k][2],  flags & 4 ? 5 : 0,
                                       flags & 1,   flags & 2,   scales[f][0], scales[f][1]};
                gemm_one(s, &g, -1);
            }
    struct gemm_shape g = {5, 33, 32, 0, false, true, 1, 0};
    gemm_one(s, &g, 40); /* row 1 of c becomes NaN and no other */
}

/* Rounded factors, against the reference's rounding of the same kind. But for TF32
 * (suite_rounding_terms), only the sums may differ. The products are large enough for no backend to
 * leave them as they are. A device without the format refuses it, and multiplies as before. */
static inline void case_gemm_rounded(struct suite *s)
{
    const int64_t sizes[][3] = {{64, 64, 32}, {37, 70, 41}, {129, 100, 33}, {100, 33, 64}};
    const double scales[][2] = {{1, 0}, {0.5, 1}, {-2, 0.25}};
    struct error err;
    for (int precision = PRECISION_FP32; precision <= PRECISION_BF16; precision++) {
        enum status status = backend_set_precision(s->be[0], (enum precision)precision, &err);
        suite_label(s, "precision %d", precision);
        suite_expect(s, status == STATUS_OK || status == STATUS_DEVICE, err.text);
        (void)backend_set_precision(s->be[1], s->be[0]->precision, &err);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int flags = 0; flags < 8; flags++) {
                const double *scale = scales[(k + (size_t)flags) % 3];
                struct gemm_shape g = {sizes[k][0], sizes[k][1], sizes[k][2], flags & 4 ? 5 : 0,
                                       flags & 1,   flags & 2,   scale[0],    scale[1]};
                gemm_one(s, &g, -1);
            }
        struct gemm_shape g = {64, 64, 32, 0, false, true, 1, 0};
        gemm_one(s, &g, 40); /* row 1 of c becomes NaN and no other */
    }
    (void)backend_set_precision(s->be[0], PRECISION_FP32, &err);
    (void)backend_set_precision(s->be[1], PRECISION_FP32, &err);
}

/* What is added stands elsewhere and stays; c may have been NaN. */
static inline void case_gemm_add(struct suite *s)
{
    const int64_t sizes[][3] = {{1, 1, 1}, {33, 64, 70}, {64, 64, 32}, {5, 8, 0}, {0, 5, 3}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 8; flags++) {
            int64_t m = sizes[k][0], n = sizes[k][1], inner = sizes[k][2];
            int64_t stride = flags & 1 ? n + 4 : n;
            double beta = flags & 2 ? 0 : -0.5;
            bool nan = flags & 4;
            suite_label(s, "%lld x %lld x %lld flags %d", (long long)m, (long long)n,
                        (long long)inner, flags);
            struct item *a = real2(s, FILL_RANDOM, m, inner), *b = real2(s, FILL_RANDOM, n, inner);
            struct item *c = real2(s, stride == n ? FILL_NAN : FILL_RANDOM, m, stride);
            struct item *add = real2(s, FILL_RANDOM, m, n);
            if (nan && m * n > 1)
                suite_poke(s, add, 1, NAN);
            BOTH_SIDES(i)
            {
                struct gemm p = {.trans_b = true,
                                 .alpha = 2,
                                 .beta = beta,
                                 .a = a->t[i],
                                 .b = b->t[i],
                                 .c = c->t[i],
                                 .c_stride = stride,
                                 .add = add->t[i]};
                p.c.dim[1] = n;
                op_gemm(s->be[i], &p);
            }
            double *mag = suite_memory((size_t)c->count, sizeof *mag);
            for (int64_t e = 0; e < c->count; e++)
                mag[e] = e % stride < n ? 2 * (double)inner + 1 : 0;
            suite_close(s, c, "c", mag, (double)inner + 3);
            mem_free(mag);
            suite_sweep(s);
        }
}

/* A block in the middle of a wider matrix: its neighbours on both sides stay as they are. */
static inline void case_gemm_block(struct suite *s)
{
    for (int flags = 0; flags < 4; flags++) {
        suite_label(s, "inner columns, flags %d", flags);
        bool ta = flags & 1, tb = flags & 2;
        struct item *a = real2(s, FILL_RANDOM, 20, 50), *b = real2(s, FILL_RANDOM, 20, 60);
        struct item *c = real2(s, FILL_RANDOM, 20, 70);
        for (int r = 0; r < 20; r++) /* only c's own columns may be NaN before */
            for (int col = 9; col < 21; col++)
                c->value[r * 70 + col] = r < 12 ? NAN : c->value[r * 70 + col];
        suite_send(s, c);
        BOTH_SIDES(i)
        {
            size_t size = dtype_size(s->be[i]->ops->real);
            struct tensor blocks[3] = {a->t[i], b->t[i], c->t[i]};
            const int64_t first[3] = {7, 11, 9};
            for (int k = 0; k < 3; k++) {
                blocks[k].data = (char *)blocks[k].data + (size_t)first[k] * size;
                blocks[k].dim[0] = 12;
                blocks[k].dim[1] = 12;
            }
            struct gemm p = {.trans_a = ta,
                             .trans_b = tb,
                             .alpha = 1,
                             .a = blocks[0],
                             .b = blocks[1],
                             .c = blocks[2],
                             .a_stride = 50,
                             .b_stride = 60,
                             .c_stride = 70};
            op_gemm(s->be[i], &p);
        }
        /* 12 products of numbers below 1 */
        double *mag = suite_memory((size_t)c->count, sizeof *mag);
        for (int r = 0; r < 12; r++)
            for (int col = 9; col < 21; col++)
                mag[r * 70 + col] = 12;
        suite_close(s, c, "c", mag, 15);
        mem_free(mag);
        suite_sweep(s);
    }
}

#endif
