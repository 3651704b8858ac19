/* Cases: mixing weights of the fixed-point solvers, out of inner products. */
#ifndef DEQ_TESTS_BACKEND_CASES_WEIGHTS_H
#define DEQ_TESTS_BACKEND_CASES_WEIGHTS_H

#include "backend/suite.h"

/* Residual histories whose Gram matrix is well conditioned: slot j is the unit vector j plus noise
 * of 1/4, so the eigenvalues lie within [1/4, 3] and double precision solves it to far below eps;
 * what remains are the Gram numbers as stored. The same inputs on both sides: compare closely. */
static inline void anderson_one(struct suite *s, int64_t rows, int64_t m, double ridge,
                                bool relative, int trouble, bool ends)
{
    suite_label(s, "N %lld m %lld ridge %g relative %d trouble %d reasons %d", (long long)rows,
                (long long)m, ridge, relative, trouble, ends);
    double *hist = suite_memory((size_t)(rows * m * m), sizeof *hist);
    struct item *gram = real3(s, FILL_ZERO, rows, m, m), *dots = real2(s, FILL_ZERO, rows, m);
    struct item *alpha = real2(s, FILL_NAN, rows, m);
    struct item *len = int1(s, rows, 0), *restarts = int1(s, rows, 3);
    struct item *reason = int1(s, rows, 3); /* alpha of rows that have ended stays NaN */
    for (int64_t step = 0; step < m + 3; step++) {
        int64_t slot = step % m, count = step < m ? step + 1 : m;
        for (int64_t n = 0; n < rows; n++) {
            double *h = hist + n * m * m;
            for (int64_t e = 0; e < m; e++)
                h[slot * m + e] = (e == slot ? 1 : 0) + 0.25 / (double)m * suite_random(s);
            for (int64_t j = 0; j < count; j++) {
                double dot = 0;
                for (int64_t e = 0; e < m; e++)
                    dot += h[slot * m + e] * h[j * m + e];
                dots->value[n * m + j] = (float)dot;
            }
            /* row 0 meets a residual that is zero, or NaN, or equal to the one before */
            if (n == 0 && step == 1 && trouble > 0)
                for (int64_t j = 0; j < count; j++)
                    dots->value[j] = trouble == 1 ? 0 : trouble == 2 ? NAN : (float)gram->value[0];
        }
        suite_send(s, dots);
        double *was = suite_fetch(s, gram, 1); /* the Gram so far belongs to both: it is exact */
        memcpy(gram->value, was, (size_t)gram->count * sizeof *was);
        mem_free(was);
        BOTH_SIDES(i)
        {
            struct anderson_weights p = {alpha->t[i],    gram->t[i],  dots->t[i], len->t[i],
                                         restarts->t[i], slot,        count,      ridge,
                                         relative,       reason->t[i]};
            if (!ends)
                p.reason.data = NULL;
            op_anderson_weights(s->be[i], &p);
        }
        suite_equal(s, gram, "gram");
        suite_equal(s, len, "len");
        suite_equal(s, restarts, "restarts");
        suite_close(s, alpha, "alpha", NULL, 4);
        double *now = suite_fetch(s, gram, 1);
        memcpy(gram->value, now, (size_t)gram->count * sizeof *now);
        mem_free(now);
    }
    mem_free(hist);
    suite_sweep(s);
}

static inline void case_anderson_weights(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {5, 2}, {33, 6}, {4, 12}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int trouble = 0; trouble < 4; trouble++) {
            anderson_one(s, sizes[k][0], sizes[k][1], 0, false, trouble, false);
            anderson_one(s, sizes[k][0], sizes[k][1], 1e-4, false, trouble % 3, trouble % 2);
            anderson_one(s, sizes[k][0], sizes[k][1], 1e-4, true, trouble % 3, false);
        }
}

/* How row 0 gets into trouble. */
enum broyden_trouble {
    BROYDEN_FINE,
    BROYDEN_NAN,   /* sums of the second step are not finite */
    BROYDEN_STILL, /* the second step is 0 */
    BROYDEN_SAME,  /* the first step has changed nothing: 1 - rho is 0 */
    BROYDEN_STEEP, /* or 2^-20, too little */
    BROYDEN_GENTLE /* or 2^-10, enough */
};

/* Steps with a well conditioned Gram matrix, as in anderson_one, each half as long as the one
 * before, and a residual of their length: coefficients are known to far below eps in double
 * precision, and rounded once. */
static inline void broyden_dots(struct suite *s, struct item *dots, double *steps, int64_t rows,
                                int64_t m, int64_t count)
{
    double length = ldexp(1, -(int)count), *g = suite_memory((size_t)m, sizeof *g);
    for (int64_t n = 0; n < rows; n++) {
        double *d = steps + n * m * m, *newest = d + (count - 1) * m;
        for (int64_t e = 0; e < m; e++) {
            newest[e] = length * ((e == count - 1 ? 1 : 0) + 0.25 / (double)m * suite_random(s));
            g[e] = 0.5 * length * suite_random(s);
        }
        for (int64_t j = 0; j < count; j++) {
            double with_g = 0, with_newest = 0;
            for (int64_t e = 0; e < m; e++) {
                with_g += g[e] * d[j * m + e];
                with_newest += newest[e] * d[j * m + e];
            }
            dots->value[n * 2 * count + j] = (float)with_g;
            dots->value[(n * 2 + 1) * count + j] = (float)with_newest;
        }
    }
    mem_free(g);
}

/* The sums of row 0, [2,count]. */
static inline void broyden_spoil(double *dots, int64_t count, enum broyden_trouble trouble)
{
    for (int64_t j = 0; j < count && count == 2; j++) {
        if (trouble == BROYDEN_NAN)
            dots[j] = NAN;
        if (trouble == BROYDEN_STILL)
            dots[2 + j] = 0;
    }
    if (count == 2 && trouble == BROYDEN_STILL)
        dots[1] = 0;
    if (count == 1 && trouble >= BROYDEN_SAME) {
        dots[1] = 1;
        dots[0] =
            1 - (trouble == BROYDEN_SAME ? 0 : ldexp(1, trouble == BROYDEN_STEEP ? -20 : -10));
    }
}

static inline void broyden_one(struct suite *s, int64_t groups, int64_t each, int64_t m, bool line,
                               enum broyden_trouble trouble)
{
    int64_t rows = groups * each;
    suite_label(s, "G %lld N %lld m %lld line %d trouble %d", (long long)groups, (long long)rows,
                (long long)m, line, trouble);
    double *steps = suite_memory((size_t)(rows * m * m), sizeof *steps);
    struct item *coef = real2(s, FILL_NAN, rows, m + 1), *dots = real3(s, FILL_ZERO, rows, 2, m);
    struct item *gram = real2(s, FILL_NAN, groups, m * (m + 1) / 2), *restarts = int1(s, rows, 3);
    struct broyden_weights p = {.count = 1};
    for (; p.count <= m; p.count++) {
        broyden_dots(s, dots, steps, rows, m, p.count);
        if (rows > 0)
            broyden_spoil(dots->value, p.count, trouble);
        suite_send(s, dots);
        p.lengths[p.count - 1] = line ? 1 - 0.25 * (double)(p.count % 4) : 1;
        BOTH_SIDES(i)
        {
            p.coef = tensor_prefix(&coef->t[i], 2, rows, p.count + 1, 1, 1);
            p.gram = gram->t[i];
            p.dots = tensor_prefix(&dots->t[i], 3, rows, 2, p.count, 1);
            p.restarts = restarts->t[i];
            op_broyden_weights(s->be[i], &p);
        }
        double *mag = suite_fetch(s, coef, 1);
        for (int64_t k = 0; k < coef->count; k++)
            mag[k] = fabs(mag[k]);
        suite_close(s, coef, "coef", mag, 1);
        mem_free(mag);
    }
    suite_equal(s, gram, "gram");
    suite_equal(s, restarts, "restarts");
    mem_free(steps);
    suite_sweep(s);
}

static inline void case_broyden_weights(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 3}, {1, 1}, {5, 2}, {33, 6}, {3, 12}, {2, HISTORY_MOST}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int trouble = BROYDEN_FINE; trouble <= BROYDEN_GENTLE; trouble++) {
            if (sizes[k][1] == HISTORY_MOST && trouble > BROYDEN_FINE)
                continue;
            broyden_one(s, sizes[k][0], 1, sizes[k][1], false, (enum broyden_trouble)trouble);
            broyden_one(s, sizes[k][0], 1 + 35 * (trouble % 2), sizes[k][1], true,
                        (enum broyden_trouble)trouble);
        }
}

#endif
