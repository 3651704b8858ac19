/* For tests of the reference backend by numbers that are worked out beside it: its memory is the
 * host's, so that arrays serve as tensors. */
#ifndef DEQ_TESTS_BACKEND_BY_HAND_H
#define DEQ_TESTS_BACKEND_BY_HAND_H

#include "backend/ref/ref.h"
#include "base/assert_ok.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline void open_ref(struct backend *be)
{
    struct error err;
    assert_ok(ref_open(be, &err), &err);
}

static inline struct tensor reals(double *x, int ndim, int64_t d0, int64_t d1, int64_t d2)
{
    return tensor_make(x, DTYPE_F64, ndim, d0, d1, d2, 1);
}

static inline struct tensor ints(int32_t *x, int64_t n)
{
    return tensor_make(x, DTYPE_I32, 1, n, 1, 1, 1);
}

/* Uniform in [-1, 1]. */
static inline void randomise(double *x, int64_t n, uint64_t stream)
{
    struct rng_key key = {77, stream};
    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
}

static inline void near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol))
        fail_msg("got %.17g, want %.17g within %g", got, want, tol);
}

#endif
