/* What operations of transfers demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_upload(const struct backend *be, const struct tensor *dst,
                                   const void *src, enum dtype src_type)
{
    assert(src != NULL || tensor_count(dst) == 0);
    assert(src_type == dst->dtype ||
           (dst->dtype == be->ops->real && (src_type == DTYPE_F32 || src_type == DTYPE_F64)));
    return bytes_only(bytes_of(dst));
}

static struct op_cost check_download(const struct backend *be, void *dst, enum dtype dst_type,
                                     const struct tensor *src)
{
    (void)be;
    assert(dst != NULL || tensor_count(src) == 0);
    assert(dst_type == src->dtype || ((src->dtype == DTYPE_F32 || src->dtype == DTYPE_F64) &&
                                      (dst_type == DTYPE_F32 || dst_type == DTYPE_F64)));
    return bytes_only(bytes_of(src));
}

static struct op_cost check_copy(const struct backend *be, const struct tensor *dst,
                                 const struct tensor *src)
{
    (void)be;
    assert(dst->dtype == src->dtype && tensor_count(dst) == tensor_count(src));
    return bytes_only(2 * bytes_of(src));
}

static struct op_cost check_fill(const struct backend *be, const struct tensor *t, double value)
{
    (void)be, (void)value;
    return bytes_only(bytes_of(t));
}

/* Rows and sequences of a block in the wider array must not overlap. */
static void check_strides(const struct tensor *t, int64_t batch, int64_t row)
{
    int64_t row_at_least = t->dim[2], used = row != 0 ? row : t->dim[2];
    assert(row == 0 || row >= row_at_least);
    assert(batch == 0 || t->dim[1] == 0 || batch >= (t->dim[1] - 1) * used + t->dim[2]);
    /* sequences of strided rows cannot be contiguous */
    assert(batch != 0 || row == 0 || t->dim[0] <= 1);
}

static struct op_cost check_copy_block(const struct backend *be, const struct copy_block *p)
{
    check_low_precision(be, &p->to);
    check_real(be, &p->from);
    assert(p->to.dtype == be->ops->real || p->mask.data == NULL);
    assert(p->to.ndim == 3 && p->from.ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(p->to.dim[i] == p->from.dim[i]);
    check_strides(&p->to, p->to_batch, p->to_row);
    check_strides(&p->from, p->from_batch, p->from_row);
    check_optional(be, &p->mask, p->to.dim[0] * p->to.dim[2]);
    return bytes_only(bytes_of(&p->from) + bytes_of(&p->to));
}

TRANSFER_OPS(DEFINE_OP)
