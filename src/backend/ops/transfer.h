/* Operations that move numbers: between host and device, inside the device, and within arrays. */
#ifndef DEQ_BACKEND_OPS_TRANSFER_H
#define DEQ_BACKEND_OPS_TRANSFER_H

#include "backend/tensor.h"

/* upload     Converts numbers of the host to dst's type and stores them in dst. src_type is F32,
 *            F64 or dst's own type.
 * download   Converts the numbers of src to dst_type (F32, F64 or src's own type) and stores them
 *            in host memory. It waits for the device. No other operation returns numbers.
 * copy       dst = src. Both have the same type and count, and do not overlap.
 * fill       Sets every number of t to value, whatever t's type.
 * copy_block See struct copy_block. */
#define TRANSFER_OPS(OP)                                                            \
    OP(upload, (be, dst, src, src_type), const struct tensor *dst, const void *src, \
       enum dtype src_type)                                                         \
    OP(download, (be, dst, dst_type, src), void *dst, enum dtype dst_type,          \
       const struct tensor *src)                                                    \
    OP(copy, (be, dst, src), const struct tensor *dst, const struct tensor *src)    \
    OP(fill, (be, t, value), const struct tensor *t, double value)                  \
    OP(copy_block, (be, p), const struct copy_block *p)

/* Copies a block of rows and columns between wider arrays.
 *   to[b,t,d] = from[b,t,d] * mask[b,d]
 * Number (b,t,d) of `to` lies at to.data[b * to_batch + t * to_row + d], and `from` likewise. A
 * distance of 0 means contiguous. The blocks do not overlap. What lies between the rows of `to`
 * stays as it is. If `to` is low-precision, the numbers are rounded and there is no mask. */
struct copy_block {
    struct tensor to, from; /* [B,T,D], the sizes of the block, with data at its first number */
    int64_t to_batch, to_row, from_batch, from_row;
    struct tensor mask; /* [B,D], or NULL for a factor of 1 */
};

#endif
