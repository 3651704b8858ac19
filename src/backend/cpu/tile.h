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

/* Computes one tile of `rows` x `vecs` vectors, both constants where this is inlined. */
static inline __attribute__((always_inline)) void
tile_one(int rows, int vecs, int64_t inner, const float *a, int64_t a_row, int64_t a_col,
         const float *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    vec acc[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            acc[i][v] = add ? vec_load(c + i * ldc + v * VEC) : vec_set(0);
    for (int64_t k = 0; k < inner; k++) {
        vec bv[TILE_VECS];
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            bv[v] = vec_load(b + k * ldb + v * VEC);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vecs; v++)
                acc[i][v] = vec_fma(bv[v], vec_set(a[i * a_row + k * a_col]), acc[i][v]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            vec_store(c + i * ldc + v * VEC, acc[i][v]);
}

/* Computes all tiles of a row block. */
static inline __attribute__((always_inline)) void
tile_strip(int rows, int64_t n, int64_t inner, const float *a, int64_t a_row, int64_t a_col,
           const float *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    int64_t j = 0;
    for (; j + TILE_VECS * VEC <= n; j += TILE_VECS * VEC)
        tile_one(rows, TILE_VECS, inner, a, a_row, a_col, b + j, ldb, c + j, ldc, add);
    for (; j < n; j += VEC)
        tile_one(rows, 1, inner, a, a_row, a_col, b + j, ldb, c + j, ldc, add);
}

/* Computes c[m,n] (+)= a[m,inner] b[inner,n], with a(i,k) at a[i * a_row + k * a_col]. */
static inline void tile_product(int64_t m, int64_t n, int64_t inner, const float *a, int64_t a_row,
                                int64_t a_col, const float *b, int64_t ldb, float *c, int64_t ldc,
                                bool add)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS)
        tile_strip(TILE_ROWS, n, inner, a + i * a_row, a_row, a_col, b, ldb, c + i * ldc, ldc, add);
    for (; i + 2 <= m; i += 2)
        tile_strip(2, n, inner, a + i * a_row, a_row, a_col, b, ldb, c + i * ldc, ldc, add);
    for (; i < m; i++)
        tile_strip(1, n, inner, a + i * a_row, a_row, a_col, b, ldb, c + i * ldc, ldc, add);
}

#endif
