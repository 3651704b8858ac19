/* Cases: vector operations of the fixed-point solvers. */
#ifndef DEQ_TESTS_BACKEND_CASES_SOLVE_H
#define DEQ_TESTS_BACKEND_CASES_SOLVE_H

#include "backend/suite.h"

/* I32 numbers as given. */
static inline struct item *ints(struct suite *s, int64_t n, const double *values)
{
    return suite_make(s, false, DTYPE_I32, FILL_ZERO, values, 1, n, 1, 1, 1);
}

static inline void case_solve_residual(struct suite *s)
{
    const int64_t sizes[][2] = {{0, 5}, {1, 1}, {6, 31}, {5, 32}, {33, 33}, {3, 700}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 4; flags++) {
            bool nan = flags & 1, ends = flags & 2;
            int64_t n = sizes[k][0], d = sizes[k][1];
            suite_label(s, "%lld x %lld nan %d reasons %d", (long long)n, (long long)d, nan, ends);
            struct item *f = real2(s, FILL_RANDOM, n, d), *z = real2(s, FILL_RANDOM, n, d);
            struct item *g = real2(s, FILL_NAN, n, d), *norms = real2(s, FILL_NAN, n, 2);
            struct item *reason = int1(s, n, 3);
            struct item *total = suite_make(s, false, DTYPE_F64, FILL_NAN, NULL, 1, 2, 1, 1, 1);
            if (nan && n > 1)
                suite_poke(s, z, d, NAN);
            BOTH_SIDES(i)
            {
                op_solve_residual(
                    s->be[i],
                    &(struct solve_residual){.g = g->t[i],
                                             .f = f->t[i],
                                             .z = z->t[i],
                                             .norms = norms->t[i],
                                             .total = total->t[i],
                                             .reason = ends ? reason->t[i] : (struct tensor){0}});
            }
            suite_close(s, g, "g", NULL, 2);
            /* D squares of numbers below 2, each with the rounding of g; then N of those */
            double row = 4 * (double)d * (0.5 * (double)d + 4), all = (double)n;
            suite_close(s, norms, "norms", NULL, row);
            suite_close(s, total, "total", NULL, all * row + 4 * (double)d * all * all);
            suite_sweep(s);
        }
}

static inline void row_dots_one(struct suite *s, const int64_t *size, bool two, bool nan, bool ends)
{
    int64_t n = size[0], d = size[1], m = size[2], count = size[3], vectors = two ? 2 : 1;
    suite_label(s, "N %lld D %lld m %lld count %lld y %d nan %d reasons %d", (long long)n,
                (long long)d, (long long)m, (long long)count, two, nan, ends);
    struct item *x = real2(s, FILL_RANDOM, n, d), *y = maybe2(s, two, FILL_RANDOM, n, d);
    struct item *hist = real3(s, FILL_RANDOM, m, n, d);
    struct item *dots = real3(s, FILL_RANDOM, n, vectors, m); /* from count on: unchanged */
    struct item *reason = int1(s, n, 3);
    if (nan && n > 1)
        suite_poke(s, x, d, NAN);
    double *mag = suite_memory((size_t)(n * vectors * m), sizeof *mag);
    for (int64_t i = 0; i < n * vectors; i++)
        for (int64_t j = 0; j < count; j++)
            for (int64_t e = 0; e < d; e++)
                mag[i * m + j] += fabs((i % vectors == 0 ? x : y)->value[i / vectors * d + e] *
                                       hist->value[(j * n + i / vectors) * d + e]);
    BOTH_SIDES(i)
    {
        struct row_dots p = {dots->t[i], x->t[i], y->t[i], hist->t[i], reason->t[i], count};
        if (!two)
            p.y.data = NULL;
        if (!ends)
            p.reason.data = NULL;
        op_row_dots(s->be[i], &p);
    }
    suite_close(s, dots, "dots", mag, 0.5 * (double)d + 2);
    mem_free(mag);
    suite_sweep(s);
}

static inline void case_row_dots(struct suite *s)
{
    const int64_t sizes[][4] = {{0, 5, 3, 3},   {1, 1, 1, 1},     {6, 31, 6, 4},  {5, 32, 5, 5},
                                {33, 33, 7, 0}, {3, 700, 12, 11}, {2, 36, 64, 64}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 8; flags++)
            row_dots_one(s, sizes[k], flags & 4, flags & 1, flags & 2);
}

static inline void case_scope_sum(struct suite *s)
{
    const int64_t sizes[][3] = {{0, 4, 2},  {1, 1, 1},  {2, 31, 2},
                                {3, 32, 7}, {2, 33, 1}, {2, 0, 3}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int scope = SCOPE_TOKEN; scope <= SCOPE_BATCH; scope++)
            for (int flags = 0; flags < 8; flags++) {
                const int64_t *d = sizes[k];
                double decay = flags & 1 ? 0.875 : 1;
                suite_label(s, "%lld x %lld x %lld scope %d flags %d", (long long)d[0],
                            (long long)d[1], (long long)d[2], scope, flags);
                struct item *val = real3(s, FILL_RANDOM, d[0], d[1], d[2]);
                if ((flags & 4) && val->count > 3)
                    suite_poke(s, val, val->count / 2, NAN);
                BOTH_SIDES(i)
                {
                    op_scope_sum(s->be[i], &val->t[i], (enum scope)scope, decay, flags & 2);
                }
                double n = (double)(d[1] * (scope == SCOPE_BATCH ? d[0] : 1));
                suite_close(s, val, "val", NULL, scope == SCOPE_TOKEN ? 0 : (n + 1) * (n + 1));
                suite_sweep(s);
            }
}

/* Twelve rows, one for every way through the judgement: residual^2, ||f||^2, best, first, best_at,
 * reason. Powers of 4, so that roots are exact and no backend may decide otherwise. tol is 1/8,
 * diverge 16, stall 4, judged at k = 7. */
static const double judge_rows[][6] = {
    {1.0, 4, 0.25, 1, 4, 0},               /* goes on, not better */
    {0.0625, 4, 0.5, 1, 2, 0},             /* better: relative 1/8 converges, absolute 1/4 not */
    {1.0 / 64, 4, 0.5, 1, 2, 0},           /* better and converged either way */
    {NAN, 4, 0.5, 1, 6, 0},                /* not finite, goes back to its best */
    {INFINITY, INFINITY, 0.5, 1, 6, 0},    /* likewise */
    {1.0, INFINITY, 0.5, 1, 6, 0},         /* an overflow of ||f|| does not make r small */
    {NAN, 4, INFINITY, 1, -1, 0},          /* not finite and nothing to go back to */
    {4096.0, 4, 0.5, 1, 6, 0},             /* diverged */
    {1.0, 4, 0.25, 1, 3, 0},               /* stalled */
    {NAN, NAN, 0.25, 1, 3, SOLVE_STALLED}, /* ended before: nothing changes */
    {0.0625, 4, INFINITY, 1, 0, 0},        /* first measurement */
    {0.25, 1, 0.25, 0.001953125, 6, 0},    /* far above its first, worse than its best */
};

enum { JUDGE_ROWS = sizeof judge_rows / sizeof *judge_rows };

struct judge_setup {
    enum solve_stop stop;
    int64_t k, min_iter, width;
    bool best_f;
};

static inline void judge_one(struct suite *s, const struct judge_setup *c)
{
    suite_label(s, "stop %d k %lld min %lld D %lld best_f %d", c->stop, (long long)c->k,
                (long long)c->min_iter, (long long)c->width, c->best_f);
    struct item *norms = real2(s, FILL_ZERO, JUDGE_ROWS, 2),
                *best = real1(s, FILL_ZERO, JUDGE_ROWS);
    struct item *first = real1(s, FILL_ZERO, JUDGE_ROWS), *best_at = int1(s, JUDGE_ROWS, 0);
    struct item *reason = int1(s, JUDGE_ROWS, 0), *evals = int1(s, JUDGE_ROWS, 100);
    struct item *z = real2(s, FILL_RANDOM, JUDGE_ROWS, c->width);
    struct item *f = real2(s, FILL_RANDOM, JUDGE_ROWS, c->width);
    struct item *best_z = real2(s, FILL_RANDOM, JUDGE_ROWS, c->width);
    struct item *best_f = maybe2(s, c->best_f, FILL_RANDOM, JUDGE_ROWS, c->width);
    struct item *active = int1(s, 1, 100);
    for (int n = 0; n < JUDGE_ROWS; n++) {
        norms->value[2 * n] = judge_rows[n][0];
        norms->value[2 * n + 1] = judge_rows[n][1];
        best->value[n] = judge_rows[n][2];
        first->value[n] = judge_rows[n][3];
        best_at->value[n] = judge_rows[n][4];
        reason->value[n] = judge_rows[n][5];
    }
    struct item *changed[] = {norms, best, first, best_at, reason};
    for (int k = 0; k < 5; k++)
        suite_send(s, changed[k]);
    BOTH_SIDES(i)
    {
        struct convergence_check p = {norms->t[i],
                                      z->t[i],
                                      f->t[i],
                                      best_z->t[i],
                                      best_f->t[i],
                                      best->t[i],
                                      first->t[i],
                                      best_at->t[i],
                                      reason->t[i],
                                      evals->t[i],
                                      active->t[i],
                                      c->k,
                                      c->min_iter,
                                      4,
                                      c->stop,
                                      0.125,
                                      0,
                                      16};
        op_convergence_check(s->be[i], &p);
    }
    struct item *exact[] = {reason, evals, best_at, best, active, z, best_z, best_f};
    const char *const names[] = {"reason", "evals", "best_at", "best",
                                 "active", "z",     "best_z",  "best_f"};
    for (int k = 0; k < (c->best_f ? 8 : 7); k++)
        suite_equal(s, exact[k], names[k]);
    if (c->k > 0)
        suite_equal(s, first, "first");
    first->compared = true; /* at k = 0 a row without a finite residual may keep anything */
    suite_sweep(s);
}

static inline void case_convergence_check(struct suite *s)
{
    const int64_t widths[] = {1, 31, 32, 33};
    for (size_t w = 0; w < 4; w++)
        for (int stop = STOP_REL; stop <= STOP_FIXED; stop++)
            for (int flags = 0; flags < 8; flags++) {
                struct judge_setup c = {(enum solve_stop)stop, flags & 1 ? 0 : 7, flags & 2 ? 9 : 1,
                                        widths[w], flags & 4};
                judge_one(s, &c);
            }
}

enum combine_out { OUT_APART, OUT_X, OUT_Y, OUT_SLOT };

struct combine_setup {
    int64_t rows, width, m, count;
    bool x, y, hist2, sum, reason, clear, nan;
    enum combine_out out;
};

static inline void combine_one(struct suite *s, const struct combine_setup *c)
{
    int64_t n = c->rows, d = c->width;
    suite_label(
        s,
        "N %lld D %lld m %lld count %lld x %d y %d hist2 %d sum %d reason %d clear %d out %d "
        "nan %d",
        (long long)n, (long long)d, (long long)c->m, (long long)c->count, c->x, c->y, c->hist2,
        c->sum, c->reason, c->clear, c->out, c->nan);
    struct item *x = maybe2(s, c->x, FILL_RANDOM, n, d), *y = maybe2(s, c->y, FILL_RANDOM, n, d);
    struct item *coef = real2(s, FILL_RANDOM, n, c->m), *sum = maybe2(s, c->sum, FILL_RANDOM, n, d);
    struct item *hist = real3(s, FILL_RANDOM, c->m, n, d);
    struct item *hist2 = real3(s, FILL_RANDOM, c->m, n, d);
    struct item *reason = int1(s, n, 3);
    struct item *const outs[] = {NULL, x, y, hist};
    struct item *out = c->out == OUT_APART ? real2(s, FILL_NAN, n, d) : outs[c->out];
    if (c->nan && c->x && n > 0) {
        suite_poke(s, x, n * d / 2, NAN);
        suite_poke(s, reason, n / 2, 0);
    }
    BOTH_SIDES(i)
    {
        struct row_combine p = {.out = out->t[i],
                                .x = x->t[i],
                                .y = y->t[i],
                                .coef = coef->t[i],
                                .hist = hist->t[i],
                                .hist2 = hist2->t[i],
                                .sum = sum->t[i],
                                .reason = reason->t[i],
                                .count = c->count,
                                .a = 0.5,
                                .b = -1,
                                .c = 2,
                                .c2 = -0.25,
                                .clear = c->clear};
        if (c->out == OUT_SLOT) {
            p.out = tensor_slice(&p.hist, c->m - 1, 1);
            p.out = tensor_shape(&p.out, 2, n, d, 1, 1);
        }
        if (!c->hist2)
            p.hist2.data = NULL;
        if (!c->reason)
            p.reason.data = NULL;
        if (c->count == 0)
            p.coef.data = p.hist.data = p.hist2.data = NULL;
        op_row_combine(s->be[i], &p);
    }
    double terms = (double)c->count + 4; /* |out| <= 1.5 + 2.25 count, |sum| one more */
    suite_close(s, out, "out", NULL, terms * (1.5 + 2.25 * (double)c->count));
    if (c->sum)
        suite_close(s, sum, "sum", NULL, terms * (2.5 + 2.25 * (double)c->count));
    suite_sweep(s);
}

static inline void case_row_combine(struct suite *s)
{
    const int64_t sizes[][4] = {{0, 5, 3, 2},  {1, 1, 1, 1},   {6, 31, 6, 4},
                                {5, 32, 5, 5}, {33, 33, 7, 0}, {3, 130, 12, 11}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 256; flags++) {
            struct combine_setup c = {.rows = sizes[k][0],
                                      .width = sizes[k][1],
                                      .m = sizes[k][2],
                                      .count = sizes[k][3],
                                      .x = flags & 1,
                                      .y = flags & 2,
                                      .hist2 = flags & 4,
                                      .sum = flags & 8,
                                      .reason = flags & 16,
                                      .clear = flags & 32,
                                      .nan = flags % 3 == 0,
                                      .out = (enum combine_out)(flags / 64)};
            if ((c.out == OUT_X && !c.x) || (c.out == OUT_Y && !c.y) || (c.clear && !c.reason))
                continue;
            combine_one(s, &c);
        }
}

#endif
