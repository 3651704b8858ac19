/* What the files of the reference backend share. */
#ifndef DEQ_BACKEND_REF_REF_OPS_H
#define DEQ_BACKEND_REF_REF_OPS_H

#include "backend/backend.h"

/* Returns the numbers of a tensor of real type, or NULL if it is absent. */
static inline double *ref_real(const struct tensor *t)
{
    return t == NULL ? NULL : (double *)t->data;
}

static inline int32_t *ref_int(const struct tensor *t)
{
    return (int32_t *)t->data;
}

/* Returns the mask row of row n, where rows_per_mask rows share one, or NULL without a mask. */
static inline const double *ref_mask_row(const struct tensor *mask, int64_t n, int64_t width,
                                         int64_t rows_per_mask)
{
    const double *m = ref_real(mask);
    return m == NULL ? NULL : m + n / rows_per_mask * width;
}

/* ref_gemm, ref_axpby, ... are the operations. Shapes have been checked by the op_* functions. */
#define OP(name, args, ...) void ref_##name(struct backend *be, __VA_ARGS__);
OP_LIST(OP)
#undef OP

#endif
