/* Queries, keys and values of heads, made from a projection as attention takes them. */
#ifndef DEQ_BACKEND_OPS_HEADS_H
#define DEQ_BACKEND_OPS_HEADS_H

#include "backend/tensor.h"
#include <stdbool.h>

#define HEADS_OPS(OP)                                 \
    OP(heads, (be, p), const struct heads *p)         \
    OP(heads_vjp, (be, p), const struct heads_vjp *p) \
    OP(heads_tangent, (be, p), const struct heads_tangent *p)

/* A row of x holds H heads of q, then G heads of k and G of v, of h numbers each. A row without q
 * has 2Gh numbers, as rows of a memory do. Heads n*H/G .. (n+1)*H/G - 1 share k and v number n
 * (grouped-query attention, Ainslie et al. 2023). With `norm` every head of q and k is divided by
 * its root mean square (QK-norm, Henry et al. 2020),
 *   u = x / sqrt(mean(x^2) + eps)
 * and with `turn` numbers i and i + h/2 of it are turned by their position's angle (RoPE, Su et al.
 * 2021), with c = turn[pos,i] and s = turn[pos,i + h/2],
 *   y[i]       = c u[i] - s u[i + h/2]
 *   y[i + h/2] = s u[i] + c u[i + h/2]
 * A row of qkv holds the H heads of q, k and v, 3Hh numbers in all. Without q its part is 0. Row n
 * is at position first + n % length, or first + rows[n] % length. */
struct heads {
    struct tensor x;    /* [N,(H+2G)h] or [N,2Gh] */
    struct tensor turn; /* [R,h] cosines, then sines, of positions 0 .. R-1, or NULL */
    struct tensor rows; /* I32 [N] numbers b*L + t, or NULL if all rows are there in order */
    struct tensor qkv;  /* [N,3Hh] out. Not used by the derivatives */
    int64_t length, first;
    int64_t heads, groups; /* H and G, which divides H */
    bool norm;
    double eps;
};

/* The vector-Jacobian product of heads, for rows with q. */
struct heads_vjp {
    struct heads fwd;
    struct tensor dqkv; /* [N,3Hh] */
    struct tensor dx;   /* [N,(H+2G)h] out */
};

/* Derivatives of heads and of its vjp while x moves along x_t, for rows with q. qkv_t is that of
 * qkv. With dqkv, dx is the vjp, and dx_t its derivative while dqkv moves along dqkv_t. */
struct heads_tangent {
    struct heads fwd;
    struct tensor x_t;          /* [N,(H+2G)h] */
    struct tensor qkv_t;        /* [N,3Hh] out, or NULL */
    struct tensor dqkv, dqkv_t; /* [N,3Hh], or both NULL */
    struct tensor dx, dx_t;     /* [N,(H+2G)h] out, with dqkv */
};

#endif
