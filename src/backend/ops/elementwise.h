/* Elementwise operations, column sums, and rows of a table picked by an index. */
#ifndef DEQ_BACKEND_OPS_ELEMENTWISE_H
#define DEQ_BACKEND_OPS_ELEMENTWISE_H

#include "backend/tensor.h"

/* axpby            y = a x + b y. With b = 0, y is overwritten even where it holds a NaN.
 * mul_bcast        out[b,t,d] = x[b,t,d] * mask[b or 0, t or 0, d or 0]. mask is 3-D, and each of
 *                  its sizes is 1 or x's. out may be x.
 * col_sum          acc[d] += sum_n x[n,d]. x may be low-precision.
 * col_dot          acc[d] += sum_n x[n,d] y[n,d].
 * gather_rows      out[i] = scale * table[idx[i]], for rows of E numbers. idx is I32 [n] and its
 *                  entries lie within the table.
 * scatter_add_rows table[idx[i]] += scale * x[i]. Rows with equal indices are added in the order
 *                  of i.
 * scatter_rows     table[idx[i]] = x[i]. No index occurs twice. */
#define ELEMENTWISE_OPS(OP)                                                                   \
    OP(axpby, (be, y, a, x, b), const struct tensor *y, double a, const struct tensor *x,     \
       double b)                                                                              \
    OP(mul_bcast, (be, out, x, mask), const struct tensor *out, const struct tensor *x,       \
       const struct tensor *mask)                                                             \
    OP(col_sum, (be, acc, x), const struct tensor *acc, const struct tensor *x)               \
    OP(col_dot, (be, acc, x, y), const struct tensor *acc, const struct tensor *x,            \
       const struct tensor *y)                                                                \
    OP(gather_rows, (be, out, table, idx, scale), const struct tensor *out,                   \
       const struct tensor *table, const struct tensor *idx, double scale)                    \
    OP(scatter_add_rows, (be, table, x, idx, scale), const struct tensor *table,              \
       const struct tensor *x, const struct tensor *idx, double scale)                        \
    OP(scatter_rows, (be, table, x, idx), const struct tensor *table, const struct tensor *x, \
       const struct tensor *idx)

#endif
