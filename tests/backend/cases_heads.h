/* Cases: queries, keys and values of heads. */
#ifndef DEQ_TESTS_BACKEND_CASES_HEADS_H
#define DEQ_TESTS_BACKEND_CASES_HEADS_H

#include "backend/cases_rows.h"

struct heads_setup {
    int64_t rows, length, first, heads, groups, h;
    bool norm, turn, no_query, listed;
};

struct heads_items {
    struct item *x, *turn, *rows;
    int64_t in, out; /* numbers in a row of x, and of qkv */
};

static inline struct heads_items heads_make(struct suite *s, const struct heads_setup *c)
{
    int64_t positions = c->first + c->length + 2;
    struct heads_items k = {.in = ((c->no_query ? 0 : c->heads) + 2 * c->groups) * c->h,
                            .out = 3 * c->heads * c->h};
    suite_label(s, "rows %lld of %lld from %lld H %lld G %lld h %lld norm %d turn %d q %d list %d",
                (long long)c->rows, (long long)c->length, (long long)c->first, (long long)c->heads,
                (long long)c->groups, (long long)c->h, c->norm, c->turn, !c->no_query, c->listed);
    k.x = real2(s, FILL_RANDOM, c->rows, k.in);
    k.turn = maybe2(s, c->turn, FILL_RANDOM, positions, c->h);
    k.rows = int1(s, c->rows, 0);
    for (int64_t n = 0; n < c->rows; n++)
        k.rows->value[n] = (double)(3 * n + 1);
    suite_send(s, k.rows);
    BOTH_SIDES(i)
    {
        if (!c->listed)
            k.rows->t[i].data = NULL;
    }
    return k;
}

static inline struct heads heads_call(const struct heads_setup *c, const struct heads_items *k,
                                      const struct item *qkv, int side)
{
    struct heads p = {.x = k->x->t[side],
                      .turn = k->turn->t[side],
                      .rows = k->rows->t[side],
                      .length = c->length,
                      .first = c->first,
                      .heads = c->heads,
                      .groups = c->groups,
                      .norm = c->norm,
                      .eps = 0.25}; /* so that no root mean square is small */
    if (qkv != NULL)
        p.qkv = qkv->t[side];
    return p;
}

static inline void heads_each(struct suite *s,
                              void (*one)(struct suite *, const struct heads_setup *))
{
    const struct heads_setup all[] = {
        {6, 3, 0, 2, 2, 8, false, false, false, false},
        {6, 3, 4, 2, 2, 8, true, true, false, false},
        {5, 5, 1, 4, 2, 32, true, true, false, false},
        {4, 20, 2, 6, 1, 6, true, true, false, true},
        {7, 7, 0, 3, 3, 41, true, false, false, false},
        {3, 3, 0, 4, 4, 70, false, true, false, false},
        {0, 3, 0, 2, 1, 8, true, true, false, false},
        {40, 40, 9, 8, 2, 64, true, true, false, false},
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        one(s, &all[k]);
}

/* A head's mean of squares has h terms, its root and quotient three more, and the turn four. */
static inline void heads_one(struct suite *s, const struct heads_setup *c)
{
    struct heads_items k = heads_make(s, c);
    struct item *qkv = real2(s, FILL_NAN, c->rows, k.out);
    BOTH_SIDES(i)
    {
        struct heads p = heads_call(c, &k, qkv, i);
        op_heads(s->be[i], &p);
    }
    suite_close(s, qkv, "qkv", NULL, 4 * ((double)c->h + 8));
    suite_sweep(s);
}

static inline void case_heads(struct suite *s)
{
    const struct heads_setup memory[] = {
        {9, 9, 0, 4, 2, 8, true, true, true, false},
        {6, 3, 0, 2, 2, 41, true, false, true, false},
    };
    heads_each(s, heads_one);
    for (size_t k = 0; k < sizeof memory / sizeof *memory; k++)
        heads_one(s, &memory[k]);
}

/* The root mean square is at least 1/2. A gradient sums H/G heads, turned (a factor of 2), and its
 * part along x has h terms. */
static inline double heads_terms(const struct heads_setup *c)
{
    return 64 * ((double)c->h + 8) * (double)(c->heads / c->groups);
}

static inline void heads_vjp_one(struct suite *s, const struct heads_setup *c)
{
    struct heads_items k = heads_make(s, c);
    struct item *dqkv = real2(s, FILL_RANDOM, c->rows, k.out);
    struct item *dx = real2(s, FILL_NAN, c->rows, k.in);
    BOTH_SIDES(i)
    {
        struct heads_vjp p = {heads_call(c, &k, NULL, i), dqkv->t[i], dx->t[i]};
        op_heads_vjp(s->be[i], &p);
    }
    suite_close(s, dx, "dx", NULL, heads_terms(c));
    suite_sweep(s);
}

static inline void case_heads_vjp(struct suite *s)
{
    heads_each(s, heads_vjp_one);
}

static inline void heads_tangent_one(struct suite *s, const struct heads_setup *c)
{
    struct heads_items k = heads_make(s, c);
    struct item *x_t = real2(s, FILL_RANDOM, c->rows, k.in);
    struct item *alone = real2(s, FILL_NAN, c->rows, k.out);
    struct item *dqkv = real2(s, FILL_RANDOM, c->rows, k.out);
    struct item *dqkv_t = real2(s, FILL_RANDOM, c->rows, k.out);
    struct item *dx = real2(s, FILL_NAN, c->rows, k.in), *dx_t = real2(s, FILL_NAN, c->rows, k.in);
    BOTH_SIDES(i)
    {
        struct heads_tangent p = {
            .fwd = heads_call(c, &k, NULL, i), .x_t = x_t->t[i], .qkv_t = alone->t[i]};
        op_heads_tangent(s->be[i], &p);
        p.qkv_t = (struct tensor){0};
        p.dqkv = dqkv->t[i];
        p.dqkv_t = dqkv_t->t[i];
        p.dx = dx->t[i];
        p.dx_t = dx_t->t[i];
        op_heads_tangent(s->be[i], &p);
    }
    suite_close(s, alone, "qkv_t", NULL, heads_terms(c));
    suite_close(s, dx, "dx", NULL, heads_terms(c));
    suite_close(s, dx_t, "dx_t", NULL, 16 * heads_terms(c));
    suite_sweep(s);
}

static inline void case_heads_tangent(struct suite *s)
{
    heads_each(s, heads_tangent_one);
}

#endif
