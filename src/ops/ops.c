/* The doors to the table: memory, products, elementwise operations. */
#include "ops/doors.h"

#include <string.h>

enum { PLANNED_ALIGN = 256, PLANNED_START = 1 << 20 };

enum status op_alloc(struct backend *be, struct tensor *t, enum dtype dtype, int ndim, int64_t d0,
                     int64_t d1, int64_t d2, int64_t d3, struct error *err)
{
    struct tensor made = tensor_make(NULL, dtype, ndim, d0, d1, d2, d3);
    assert(d0 >= 0 && d1 >= 0 && d2 >= 0 && d3 >= 0);
    *t = made;
    size_t bytes = tensor_bytes(&made);
    if (be->planning) {
        /* an address that nobody looks at, different from all others */
        made.data = (void *)(uintptr_t)(PLANNED_START + be->dry_bytes);
        be->dry_bytes += (bytes / PLANNED_ALIGN + 1) * PLANNED_ALIGN;
    } else {
        TRY(be->ops->alloc(be, &made.data, bytes, err));
    }
    *t = made;
    be->planned[be->part] += bytes;
    be->bytes += bytes;
    if (be->bytes > be->peak_bytes)
        be->peak_bytes = be->bytes;
    if (bytes > 0)
        op_fill(be, t, 0.0);
    return STATUS_OK;
}

void op_release(struct backend *be, struct tensor *t)
{
    if (t->data == NULL)
        return;
    be->bytes -= tensor_bytes(t);
    if (!be->planning)
        be->ops->release(be, t->data);
    t->data = NULL;
}

void op_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type)
{
    assert(src_type == dst->dtype ||
           (dst->dtype == be->ops->real && (src_type == DTYPE_F32 || src_type == DTYPE_F64)));
    BOOK(OP_upload, 0, bytes_of(dst), be->ops->upload(be, dst, src, src_type));
}

void op_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src)
{
    assert(dst_type == src->dtype || ((src->dtype == DTYPE_F32 || src->dtype == DTYPE_F64) &&
                                      (dst_type == DTYPE_F32 || dst_type == DTYPE_F64)));
    be->syncs++;
    if (be->planning)
        memset(dst, 0, (size_t)tensor_count(src) * dtype_size(dst_type));
    BOOK(OP_download, 0, bytes_of(src), be->ops->download(be, dst, dst_type, src));
}

void op_copy(struct backend *be, const struct tensor *dst, const struct tensor *src)
{
    assert(dst->dtype == src->dtype && tensor_count(dst) == tensor_count(src));
    BOOK(OP_copy, 0, 2 * bytes_of(src), be->ops->copy(be, dst, src));
}

void op_fill(struct backend *be, const struct tensor *t, double value)
{
    BOOK(OP_fill, 0, bytes_of(t), be->ops->fill(be, t, value));
}

void op_gemm_block(struct backend *be, const struct gemm *p)
{
    check_real(be, &p->a);
    check_real(be, &p->b);
    check_real(be, &p->c);
    assert(p->a.ndim == 2 && p->b.ndim == 2 && p->c.ndim == 2);
    int64_t m = p->trans_a ? p->a.dim[1] : p->a.dim[0];
    int64_t k = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    int64_t n = p->trans_b ? p->b.dim[0] : p->b.dim[1];
    assert((p->trans_b ? p->b.dim[1] : p->b.dim[0]) == k);
    assert(p->c.dim[0] == m && p->c.dim[1] == n);
    assert(p->a_stride == 0 || p->a_stride >= p->a.dim[1]);
    assert(p->b_stride == 0 || p->b_stride >= p->b.dim[1]);
    assert(p->c_stride == 0 || p->c_stride >= p->c.dim[1]);
    size_t operands = tensor_bytes(&p->a) + tensor_bytes(&p->b);
    if (operands > be->operand_bytes)
        be->operand_bytes = operands;
    double bytes = (double)operands + (p->beta != 0 ? 2 : 1) * bytes_of(&p->c);
    BOOK(OP_gemm, 2.0 * (double)m * (double)n * (double)k, bytes, be->ops->gemm(be, p));
}

void op_gemm(struct backend *be, bool trans_a, bool trans_b, double alpha, const struct tensor *a,
             const struct tensor *b, double beta, const struct tensor *c)
{
    struct gemm p = {trans_a, trans_b, alpha, beta, *a, *b, *c, 0, 0, 0};
    op_gemm_block(be, &p);
}

void op_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
              double b)
{
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    BOOK(OP_axpby, 0, (b != 0 ? 3 : 2) * bytes_of(y), be->ops->axpby(be, y, a, x, b));
}

void op_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                  const struct tensor *mask)
{
    check_count(be, out, tensor_count(x));
    check_real(be, mask);
    assert(x->ndim == 3 && mask->ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(mask->dim[i] == 1 || mask->dim[i] == x->dim[i]);
    BOOK(OP_mul_bcast, 0, bytes_of(x) + bytes_of(out) + bytes_of(mask),
         be->ops->mul_bcast(be, out, x, mask));
}

void op_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    assert(x->ndim == 2);
    check_real(be, x);
    check_count(be, acc, x->dim[1]);
    BOOK(OP_col_sum, 0, bytes_of(x) + bytes_of(acc), be->ops->col_sum(be, acc, x));
}

/* Rows and sequences of a block in the wider array must not overlap. */
static void check_strides(const struct tensor *t, int64_t batch, int64_t row)
{
    int64_t row_at_least = t->dim[2], used = row != 0 ? row : t->dim[2];
    assert(row == 0 || row >= row_at_least);
    assert(batch == 0 || t->dim[1] == 0 || batch >= (t->dim[1] - 1) * used + t->dim[2]);
    assert(batch != 0 || row == 0 || t->dim[0] <= 1); /* contiguous sequences of strided rows: no */
}

void op_copy_block(struct backend *be, const struct copy_block *p)
{
    check_real(be, &p->to);
    check_real(be, &p->from);
    assert(p->to.ndim == 3 && p->from.ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(p->to.dim[i] == p->from.dim[i]);
    check_strides(&p->to, p->to_batch, p->to_row);
    check_strides(&p->from, p->from_batch, p->from_row);
    check_optional(be, &p->mask, p->to.dim[0] * p->to.dim[2]);
    BOOK(OP_copy_block, 0, 2 * bytes_of(&p->to), be->ops->copy_block(be, p));
}
