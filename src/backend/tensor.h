/* A contiguous, row-major view of numbers in some backend's memory.
 *
 * A view owns nothing. Whoever allocated the memory (an arena, a parameter set) frees it. Code
 * above the backends never dereferences `data`, since it may lie on a device.
 *
 * The letters of shapes are the same everywhere.
 *   B batch               P positions of memory   H heads
 *   T or L positions      K = P + L keys          I inner width
 *     of a segment        N = B*T rows            V vocabulary
 *                         D model width           m solver history */
#ifndef DEQ_BACKEND_TENSOR_H
#define DEQ_BACKEND_TENSOR_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_U8, DTYPE_BF16 };

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    void *data; /* borrowed */
    enum dtype dtype;
    int ndim;
    int64_t dim[TENSOR_MAX_DIMS]; /* unused trailing dimensions are 1 */
};

static inline size_t dtype_size(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_F64:
        return 8;
    case DTYPE_U8:
        return 1;
    case DTYPE_BF16:
        return 2;
    }
    return 0;
}

static inline int64_t tensor_count(const struct tensor *t)
{
    return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
}

static inline size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

/* Returns a view of `data` with the first `ndim` of the four sizes. The others must be 1. */
static inline struct tensor tensor_make(void *data, enum dtype dtype, int ndim, int64_t d0,
                                        int64_t d1, int64_t d2, int64_t d3)
{
    return (struct tensor){data, dtype, ndim, {d0, d1, d2, d3}};
}

/* Returns the same numbers in another shape. The counts must agree. */
static inline struct tensor tensor_shape(const struct tensor *t, int ndim, int64_t d0, int64_t d1,
                                         int64_t d2, int64_t d3)
{
    struct tensor r = tensor_make(t->data, t->dtype, ndim, d0, d1, d2, d3);
    assert(tensor_count(&r) == tensor_count(t));
    return r;
}

/* Returns the tensor as a matrix, with all leading dimensions folded into rows. */
static inline struct tensor tensor_matrix(const struct tensor *t)
{
    int64_t last = t->dim[t->ndim - 1];
    int64_t rows = last == 0 ? 0 : tensor_count(t) / last;
    return tensor_make(t->data, t->dtype, 2, rows, last, 1, 1);
}

/* Returns the first numbers of `t` in a smaller shape, for a segment shorter than the planned
 * one. */
static inline struct tensor tensor_prefix(const struct tensor *t, int ndim, int64_t d0, int64_t d1,
                                          int64_t d2, int64_t d3)
{
    struct tensor r = tensor_make(t->data, t->dtype, ndim, d0, d1, d2, d3);
    assert(tensor_count(&r) <= tensor_count(t));
    return r;
}

/* Cuts a tensor planned for [B,L,W] to [b,l,W], where b and l are those of `like` [b,l,...]. */
static inline struct tensor tensor_cut(const struct tensor *t, const struct tensor *like)
{
    assert(t->ndim == 3);
    return tensor_prefix(t, 3, like->dim[0], like->dim[1], t->dim[2], 1);
}

/* Returns entries [start, start + count) of the first dimension. */
static inline struct tensor tensor_slice(const struct tensor *t, int64_t start, int64_t count)
{
    assert(start >= 0 && count >= 0 && start + count <= t->dim[0]);
    struct tensor r = *t;
    int64_t stride = t->dim[1] * t->dim[2] * t->dim[3];
    r.data = (char *)t->data + (size_t)(start * stride) * dtype_size(t->dtype);
    r.dim[0] = count;
    return r;
}

#endif
