/* Cases: residual and normalisation, rectifier, tables, softmax, random numbers. */
#ifndef DEQ_TESTS_BACKEND_CASES_ROWS_H
#define DEQ_TESTS_BACKEND_CASES_ROWS_H

#include "backend/suite.h"

/* Which optional tensors are there, and which share memory. */
struct norm_setup {
    int64_t rows, width, rows_per_mask;
    enum norm_kind kind;
    bool bias, mask, res, gain, sum, extras; /* extras: xhat and rstd */
    enum { APART, SUM_IS_A, Y_IS_A, SUM_IS_RES, Y_IS_RES } sharing;
};

/* |s| <= S = 3.5 (two numbers below 1, a mask of 1.25, a residual). The mean errs by D/2 eps S, so
 * with r = rstd the centred values times r by (D + 2) eps S r, and rstd relatively by as much plus
 * (D/2 + 3) eps: altogether (D + 6) eps (1 + S r)(1 + |xhat|) twice at most. A constant row
 * (D = 1) has r = 1/sqrt(eps of the norm) and comes out as 0 only if the mean is exact. */
static inline double *norm_magnitude(struct suite *s, const struct item *xhat,
                                     const struct item *rstd, int64_t width)
{
    double *x = suite_fetch(s, xhat, 1), *r = suite_fetch(s, rstd, 1);
    for (int64_t k = 0; k < xhat->count; k++)
        x[k] = 2 * (1 + 3.5 * r[k / width]) * (1 + fabs(x[k]));
    mem_free(r);
    return x;
}

static inline void norm_compare(struct suite *s, const struct norm_setup *c, struct item *sum,
                                struct item *y, struct item *xhat, struct item *rstd)
{
    double terms = (double)c->width + 6;
    if (c->sum)
        suite_close(s, sum, "sum", NULL, 8);
    if (c->kind == NORM_NONE)
        return;
    double *mag = norm_magnitude(s, xhat, rstd, c->width);
    suite_close(s, y, "y", mag, terms);
    if (xhat->t[0].data != NULL)
        suite_close(s, xhat, "xhat", mag, terms);
    if (rstd->t[0].data != NULL) {
        double *r = suite_fetch(s, rstd, 1);
        for (int64_t n = 0; n < c->rows; n++)
            r[n] *= 2 * (1 + 3.5 * r[n]);
        suite_close(s, rstd, "rstd", r, terms);
        mem_free(r);
    }
    mem_free(mag);
}

static inline void norm_one(struct suite *s, const struct norm_setup *c, bool nan)
{
    int64_t n = c->rows, d = c->width;
    suite_label(s,
                "%lld x %lld kind %d bias %d mask %d/%lld res %d gain %d sum %d extras %d sharing "
                "%d nan %d",
                (long long)n, (long long)d, c->kind, c->bias, c->mask, (long long)c->rows_per_mask,
                c->res, c->gain, c->sum, c->extras, c->sharing, nan);
    struct item *a = real2(s, FILL_RANDOM, n, d), *res = maybe2(s, c->res, FILL_RANDOM, n, d);
    struct item *bias = maybe2(s, c->bias, FILL_RANDOM, 1, d);
    struct item *gain = maybe2(s, c->gain, FILL_RANDOM, 1, d);
    struct item *mask = maybe2(s, c->mask, FILL_MASK, n / c->rows_per_mask, d);
    struct item *sum = c->sharing == SUM_IS_A     ? a
                       : c->sharing == SUM_IS_RES ? res
                                                  : maybe2(s, c->sum, FILL_NAN, n, d);
    struct item *y = c->sharing == Y_IS_A     ? a
                     : c->sharing == Y_IS_RES ? res
                                              : maybe2(s, c->kind != NORM_NONE, FILL_NAN, n, d);
    struct item *xhat = real2(s, FILL_NAN, n, d), *rstd = real2(s, FILL_NAN, 1, n);
    if (!c->extras) /* the reference keeps them: they are the scale of the tolerance */
        xhat->t[0].data = rstd->t[0].data = NULL;
    if (nan && n > 0)
        suite_poke(s, a, n * d / 2, NAN);
    BOTH_SIDES(i)
    {
        struct residual_norm p = {.a = a->t[i],
                                  .bias = bias->t[i],
                                  .mask = mask->t[i],
                                  .res = res->t[i],
                                  .gain = gain->t[i],
                                  .sum = sum->t[i],
                                  .y = y->t[i],
                                  .xhat = xhat->t[i],
                                  .rstd = rstd->t[i],
                                  .rows_per_mask = c->rows_per_mask,
                                  .kind = c->kind,
                                  .eps = 1e-5};
        if (c->kind == NORM_NONE)
            p.xhat.data = p.rstd.data = NULL;
        op_residual_norm(s->be[i], &p);
    }
    norm_compare(s, c, sum, y, xhat, rstd);
    xhat->compared = rstd->compared = true; /* the reference wrote them */
    suite_sweep(s);
}

static inline void case_residual_norm(struct suite *s)
{
    const int64_t sizes[][2] = {{1, 1}, {0, 8}, {6, 31}, {4, 32}, {6, 33}, {2, 256}, {34, 70}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int kind = NORM_NONE; kind <= NORM_RMS; kind++)
            for (int flags = 0; flags < 64; flags++) {
                int64_t n = sizes[k][0];
                if (sizes[k][1] > 33 &&
                    flags % 9 != 0) /* 63 among them; all of them on small sizes */
                    continue;
                struct norm_setup c = {n,
                                       sizes[k][1],
                                       n % 2 == 0 && n > 0 ? n / 2 : 1,
                                       (enum norm_kind)kind,
                                       flags & 1,
                                       flags & 2,
                                       flags & 4,
                                       (flags & 8) && kind == NORM_RMS,
                                       (flags & 16) || kind == NORM_NONE,
                                       flags & 32,
                                       APART};
                norm_one(s, &c, flags == 63);
            }
    for (int kind = NORM_NONE; kind <= NORM_RMS; kind++)
        for (int sharing = SUM_IS_A; sharing <= Y_IS_RES; sharing++) {
            bool is_y = sharing == Y_IS_A || sharing == Y_IS_RES;
            if (is_y && kind == NORM_NONE)
                continue;
            struct norm_setup c = {6,    33,    2,     (enum norm_kind)kind, true,   true,
                                   true, false, !is_y, kind != NORM_NONE,    sharing};
            norm_one(s, &c, false);
        }
}

struct norm_vjp_setup {
    int64_t rows, width, rows_per_mask;
    enum norm_kind kind;
    bool dsum, gain, mask, da, dgain;
    enum { DS_APART, DS_IS_DY, DS_IS_DSUM } sharing;
};

/* All inputs are below 1 (rstd 5/4): means err by (D/2 + 2) eps, ds by (D + 6) eps * 4, da by 5/4
 * of that; dgain sums N products onto a number below 1. */
static inline void norm_vjp_one(struct suite *s, const struct norm_vjp_setup *c, bool nan)
{
    int64_t n = c->rows, d = c->width;
    suite_label(s, "%lld x %lld kind %d dsum %d gain %d mask %d da %d dgain %d sharing %d",
                (long long)n, (long long)d, c->kind, c->dsum, c->gain, c->mask, c->da, c->dgain,
                c->sharing);
    struct item *dy = maybe2(s, c->kind != NORM_NONE, FILL_RANDOM, n, d);
    struct item *dsum = maybe2(s, c->dsum, FILL_RANDOM, n, d);
    struct item *xhat = maybe2(s, c->kind != NORM_NONE, FILL_RANDOM, n, d);
    struct item *rstd = maybe2(s, c->kind != NORM_NONE, FILL_POSITIVE, 1, n);
    struct item *gain = maybe2(s, c->gain, FILL_RANDOM, 1, d);
    struct item *mask = maybe2(s, c->mask, FILL_MASK, n / c->rows_per_mask, d);
    struct item *ds = c->sharing == DS_IS_DY     ? dy
                      : c->sharing == DS_IS_DSUM ? dsum
                                                 : real2(s, FILL_NAN, n, d);
    struct item *da = maybe2(s, c->da, FILL_NAN, n, d);
    struct item *dgain = maybe2(s, c->dgain, FILL_RANDOM, 1, d);
    if (nan && n > 0)
        suite_poke(s, c->kind == NORM_NONE ? dsum : dy, n * d / 2, NAN);
    BOTH_SIDES(i)
    {
        struct residual_norm_vjp p = {.dy = dy->t[i],
                                      .dsum = dsum->t[i],
                                      .xhat = xhat->t[i],
                                      .rstd = rstd->t[i],
                                      .gain = gain->t[i],
                                      .mask = mask->t[i],
                                      .ds = ds->t[i],
                                      .da = da->t[i],
                                      .dgain = dgain->t[i],
                                      .rows_per_mask = c->rows_per_mask,
                                      .kind = c->kind};
        op_residual_norm_vjp(s->be[i], &p);
    }
    suite_close(s, ds, "ds", NULL, 4 * ((double)d + 6));
    if (c->da)
        suite_close(s, da, "da", NULL, 5 * ((double)d + 6));
    if (c->dgain)
        suite_close(s, dgain, "dgain", NULL, (double)((n + 1) * (n + 1)));
    suite_sweep(s);
}

static inline void case_residual_norm_vjp(struct suite *s)
{
    const int64_t sizes[][2] = {{1, 1}, {0, 8}, {6, 31}, {4, 32}, {6, 33}, {2, 256}, {34, 70}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int kind = NORM_NONE; kind <= NORM_RMS; kind++)
            for (int flags = 0; flags < 32; flags++) {
                int64_t n = sizes[k][0];
                if (sizes[k][1] > 33 && flags % 5 != 1) /* 31 among them */
                    continue;
                bool mask = flags & 1, rms = kind == NORM_RMS;
                struct norm_vjp_setup c = {n,
                                           sizes[k][1],
                                           n % 2 == 0 && n > 0 ? n / 2 : 1,
                                           (enum norm_kind)kind,
                                           (flags & 2) || kind == NORM_NONE,
                                           rms && (flags & 4),
                                           mask,
                                           mask || (flags & 8),
                                           rms && (flags & 16),
                                           DS_APART};
                norm_vjp_one(s, &c, flags == 31);
            }
    for (int kind = NORM_NONE; kind <= NORM_RMS; kind++)
        for (int sharing = DS_IS_DY; sharing <= DS_IS_DSUM; sharing++) {
            if (kind == NORM_NONE && sharing == DS_IS_DY)
                continue;
            struct norm_vjp_setup c = {6,
                                       33,
                                       3,
                                       (enum norm_kind)kind,
                                       true,
                                       kind == NORM_RMS,
                                       true,
                                       true,
                                       kind == NORM_RMS,
                                       sharing};
            norm_vjp_one(s, &c, false);
        }
}

static inline void case_gather_scatter(struct suite *s)
{
    /* The last two are sorted by a device, with one digit and with two. */
    const int64_t sizes[][3] = {{0, 5, 9},   {1, 1, 9},   {31, 33, 9},  {32, 32, 9},
                                {33, 31, 9}, {100, 7, 9}, {1300, 3, 7}, {1025, 2, 70000}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k][0], e = sizes[k][1], vocabulary = sizes[k][2];
        suite_label(s, "%lld rows of %lld", (long long)n, (long long)e);
        struct item *table = real2(s, FILL_RANDOM, vocabulary, e), *idx = int1(s, n, vocabulary);
        struct item *out = real2(s, FILL_NAN, n, e);
        if (n > 1)
            suite_poke(s, idx, 1, (double)(vocabulary - 1));
        BOTH_SIDES(i) op_gather_rows(s->be[i], &out->t[i], &table->t[i], &idx->t[i], 2.5);
        suite_close(s, out, "out", NULL, 3);
        struct item *x = real2(s, FILL_RANDOM, n, e);
        if (n > 2)
            suite_poke(s, x, 2 * e, NAN);
        struct item *grad = real2(s, FILL_RANDOM, vocabulary, e);
        BOTH_SIDES(i) op_scatter_add_rows(s->be[i], &grad->t[i], &x->t[i], &idx->t[i], -2.5);
        suite_close(s, grad, "table", NULL, (double)(n + 2) * (1 + 2.5 * (double)n));
        suite_sweep(s);
    }
}

/* Every second row of a table, from the end. */
static inline void case_scatter_rows(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {31, 33}, {32, 32}, {33, 31}, {100, 8}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k][0], e = sizes[k][1];
        suite_label(s, "%lld rows of %lld", (long long)n, (long long)e);
        struct item *table = real2(s, FILL_RANDOM, 2 * n, e), *x = real2(s, FILL_RANDOM, n, e);
        struct item *idx = int1(s, n, 0);
        for (int64_t i = 0; i < n; i++)
            idx->value[i] = (double)(2 * (n - i) - 1);
        suite_send(s, idx);
        if (n > 2)
            suite_poke(s, x, 2 * e, NAN);
        BOTH_SIDES(i) op_scatter_rows(s->be[i], &table->t[i], &x->t[i], &idx->t[i]);
        suite_equal(s, table, "table");
        suite_sweep(s);
    }
}

/* Logits and bias below `amp` each. A logit errs by amp eps, lse by (2 amp + log C) + C/2 + 4
 * roundings; a probability below 1 relatively by that and the rounding of exp's argument. */
static inline double softmax_terms(double amp, int64_t classes)
{
    return 8 * amp + 2 * log((double)classes) + (double)classes + 12;
}

static inline void xent_one(struct suite *s, int64_t n, int64_t c, int flags, double amp)
{
    bool biased = flags & 1, placed = flags & 2, gradient = flags & 4, nan = (flags & 8) && n > 0;
    suite_label(s, "%lld x %lld bias %d pos %d gradient %d nan %d amp %g", (long long)n,
                (long long)c, biased, placed, gradient, nan, amp);
    struct item *logits = real2(s, FILL_RANDOM, n, c), *bias = maybe2(s, biased, FILL_RANDOM, 1, c);
    for (int64_t k = 0; k < n * c; k++)
        logits->value[k] *= amp;
    suite_send(s, logits);
    struct item *target = int1(s, n, c), *pos = int1(s, n, 0);
    struct item *nll = real1(s, FILL_RANDOM, n + 3);
    for (int64_t k = 0; k < n; k++) /* each position once, from the end */
        pos->value[k] = (double)(n + 2 - k);
    suite_send(s, pos);
    if (nan)
        suite_poke(s, logits, (n / 2) * c, NAN);
    BOTH_SIDES(i)
    {
        struct softmax_xent p = {logits->t[i], bias->t[i], target->t[i], pos->t[i],
                                 nll->t[i],    gradient,   0.75};
        if (!placed)
            p.pos.data = NULL;
        op_softmax_xent(s->be[i], &p);
    }
    suite_close(s, nll, "nll", NULL, softmax_terms(amp, c));
    if (gradient)
        suite_close(s, logits, "gradient", NULL, softmax_terms(amp, c));
    logits->compared = true; /* unspecified without a gradient; the guards still count */
    suite_sweep(s);
}

static inline void case_softmax_xent(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {3, 31}, {4, 32}, {5, 33}, {2, 1000}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 16; flags++)
            xent_one(s, sizes[k][0], sizes[k][1], flags, flags % 3 == 0 ? 200 : 2);
}

static inline void case_log_softmax(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {3, 31}, {4, 32}, {5, 33}, {2, 1000}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 4; flags++) {
            int64_t n = sizes[k][0], c = sizes[k][1];
            double amp = flags & 2 ? 300 : 1;
            suite_label(s, "%lld x %lld flags %d", (long long)n, (long long)c, flags);
            struct item *logits = real2(s, FILL_RANDOM, n, c);
            struct item *bias = maybe2(s, flags & 1, FILL_RANDOM, 1, c);
            for (int64_t e = 0; e < n * c; e++)
                logits->value[e] *= amp;
            suite_send(s, logits);
            if (n > 2)
                suite_poke(s, logits, c, NAN);
            BOTH_SIDES(i) op_log_softmax(s->be[i], &logits->t[i], &bias->t[i]);
            suite_close(s, logits, "logits", NULL, softmax_terms(amp, c));
            suite_sweep(s);
        }
}

/* Masks agree bit for bit; numbers up to one rounding to the real type, normals up to the accuracy
 * of a single-precision sine, cosine and logarithm (|normal| < 7, argument below 2 pi). */
static inline void case_random(struct suite *s)
{
    const int64_t sizes[] = {0, 1, 31, 32, 33, 4097};
    const double rates[] = {0, 0.1, 0.5, 0.9};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
            int64_t n = sizes[k];
            struct rng_key key = {1234 + r, rng_stream(k, 1ull << 31, r)};
            suite_label(s, "count %lld rate %g", (long long)n, rates[r]);
            struct item *u8 = suite_make(s, false, DTYPE_U8, FILL_ZERO, NULL, 1, n, 1, 1, 1);
            struct item *real = real1(s, FILL_NAN, n), *normal = real1(s, FILL_NAN, n);
            struct item *uniform = real1(s, FILL_NAN, n);
            BOTH_SIDES(i)
            {
                /* parts of larger masks, cut at every place of a block of four words */
                op_dropout_mask(s->be[i], &u8->t[i], rates[r], key, r);
                op_dropout_mask(s->be[i], &real->t[i], rates[r], key, (1ull << 34) + 7 * k + r);
                op_fill_normal(s->be[i], &normal->t[i], 0.02, key);
                op_fill_uniform(s->be[i], &uniform->t[i], -3, 5, key);
            }
            suite_equal(s, u8, "U8 mask");
            suite_close(s, real, "real mask", NULL, 2 / (1 - rates[r]));
            suite_close(s, normal, "normal", NULL, 0.02 * 7 * 8);
            suite_close(s, uniform, "uniform", NULL, 3 * 8);
            suite_sweep(s);
        }
}

#endif
