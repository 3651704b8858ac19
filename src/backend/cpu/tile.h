/* Small products c (+)= a b inside one thread's scratch, for attention.
 *
 * a is read by single numbers with any strides, so that a transposed operand needs no copy. b and c
 * are read by vectors along their rows, whose lengths are therefore rounded up to whole vectors.
 * The length n counts numbers and is a multiple of VEC. Tiles of c stay in registers. */
#ifndef DEQ_BACKEND_CPU_TILE_H
#define DEQ_BACKEND_CPU_TILE_H

#include "backend/cpu/vecmath.h"
#include <stdbool.h>

#ifdef __AVX512F__
enum { TILE_ROWS = 8, TILE_VECS = 2 }; /* 16 accumulators of 32 registers */
#else
enum { TILE_ROWS = 6, TILE_VECS = 2 }; /* 12 of 16 */
#endif

static inline int64_t tile_round(int64_t count)
{
    return (count + VEC - 1) / VEC * VEC;
}

/* The first factor, whose number (i,k) lies at x[i * row + k * col]. */
struct tile_left {
    const float *x;
    int64_t row, col;
};

/* The second factor, with rows `ld` numbers apart. */
struct tile_right {
    const float *x;
    int64_t ld;
};

/* The result, with rows `ld` numbers apart. */
struct tile_result {
    float *x;
    int64_t ld;
};

/* The left factor as its rows are stored, `ld` numbers apart. */
static inline struct tile_left tile_rows(const float *x, int64_t ld)
{
    return (struct tile_left){x, ld, 1};
}

/* The left factor as the transpose of rows that are stored `ld` numbers apart. */
static inline struct tile_left tile_transposed(const float *x, int64_t ld)
{
    return (struct tile_left){x, 1, ld};
}

static inline struct tile_right tile_from(const float *x, int64_t ld)
{
    return (struct tile_right){x, ld};
}

static inline struct tile_result tile_to(float *x, int64_t ld)
{
    return (struct tile_result){x, ld};
}

/* A product with `inner` terms to a sum. With `add` it is added to the result. */
struct tile_operands {
    struct tile_left a;
    struct tile_right b;
    struct tile_result c;
    int64_t inner;
    bool add;
};

/* Computes one tile of `rows` x `vecs` vectors, both constants where this is inlined, at rows from
 * i and columns from j. */
static inline __attribute__((always_inline)) void
tile_one(int rows, int vecs, struct tile_operands p, int64_t i, int64_t j)
{
    const float *a = p.a.x + i * p.a.row, *b = p.b.x + j;
    float *c = p.c.x + i * p.c.ld + j;
    vec acc[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            acc[r][v] = p.add ? vec_load(c + r * p.c.ld + v * VEC) : vec_set(0);
    for (int64_t k = 0; k < p.inner; k++) {
        vec bv[TILE_VECS];
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            bv[v] = vec_load(b + k * p.b.ld + v * VEC);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vecs; v++)
                acc[r][v] = vec_fma(bv[v], vec_set(a[r * p.a.row + k * p.a.col]), acc[r][v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            vec_store(c + r * p.c.ld + v * VEC, acc[r][v]);
}

/* Computes all tiles of `rows` rows from i on. */
static inline __attribute__((always_inline)) void tile_strip(int rows, int64_t n,
                                                             struct tile_operands p, int64_t i)
{
    int64_t j = 0;
    for (; j + TILE_VECS * VEC <= n; j += TILE_VECS * VEC)
        tile_one(rows, TILE_VECS, p, i, j);
    for (; j < n; j += VEC)
        tile_one(rows, 1, p, i, j);
}

static inline void tile_all(int64_t m, int64_t n, struct tile_operands p)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS)
        tile_strip(TILE_ROWS, n, p, i);
    for (; i + 2 <= m; i += 2)
        tile_strip(2, n, p, i);
    for (; i < m; i++)
        tile_strip(1, n, p, i);
}

/* Computes c[m,n] = a[m,inner] b[inner,n]. */
static inline void tile_product(int64_t m, int64_t n, int64_t inner, struct tile_left a,
                                struct tile_right b, struct tile_result c)
{
    tile_all(m, n, (struct tile_operands){a, b, c, inner, false});
}

/* Computes c[m,n] += a[m,inner] b[inner,n]. */
static inline void tile_add(int64_t m, int64_t n, int64_t inner, struct tile_left a,
                            struct tile_right b, struct tile_result c)
{
    tile_all(m, n, (struct tile_operands){a, b, c, inner, true});
}

#endif
