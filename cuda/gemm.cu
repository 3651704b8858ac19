/* Products by cuBLAS.
 *
 * cuBLAS counts matrices by columns. What we store as rows [r,c] with stride s it reads as the
 * transposed [c,r] with leading dimension s. So C = op(A) op(B) is asked for as C^T = op(B)^T
 * op(A)^T, where the operands change places and keep their flags. Only this file and gemm_lt.cu
 * know.
 *
 * With tf32 the product units round operands to 10 bits on their way. For bf16, operands that are
 * not stored so are rounded here, into scratch, and the result stays float32. Sums are float32 in
 * both. */
#include "gemm.h"
#include "kernel.h"

#include <limits.h>

/* to[r,c] = from[r,c] rounded, and 0 behind the rows and their ends. With V 4 both strides and the
 * width are multiples of 4 and the starts are aligned. */
template <int V>
__global__ void k_to_bf16(__nv_bfloat16 *to, const float *from, int64_t rows, int64_t width,
                          int64_t from_stride, int64_t to_stride)
{
    int64_t row = blockIdx.x, d = tile_column<V>();
    if (d >= to_stride)
        return;
    pack<V> v = {};
    if (row < rows && d < width)
        v = load_pack<V>(from + row * from_stride + d);
    store_pack<V>(to + row * to_stride + d, v);
}

/* c *= beta, for a product with nothing to sum. With beta 0 it is 0 whatever c holds. */
__global__ void k_scale_block(float *c, int64_t width, int64_t stride, float beta)
{
    int64_t row = blockIdx.x, d = tile_column<1>();
    if (d < width)
        c[row * stride + d] = beta == 0 ? 0 : beta * c[row * stride + d];
}

struct operand operand_of(const struct tensor *t, int64_t stride)
{
    struct operand o = {t->data, t->dim[0], t->dim[1], stride != 0 ? stride : t->dim[1],
                        t->dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F};
    return o;
}

/* Rows of a rounded operand begin on 16 bytes, as the product units like it. */
int64_t rounded_stride(const struct operand *o)
{
    return low_precision_up(o->width);
}

size_t rounded_bytes(const struct operand *o, int64_t stride)
{
    return (size_t)(div_up(low_precision_up(o->rows) * stride, 128) * 128) * sizeof(__nv_bfloat16);
}

void round_operand(struct backend *be, struct operand *o, void *scratch, int64_t stride)
{
    __nv_bfloat16 *to = static_cast<__nv_bfloat16 *>(scratch);
    const float *from = static_cast<const float *>(o->data);
    bool strides = (o->stride | stride) % 4 == 0;
    int vec = strides ? VEC_OF(o->width, from) : 1;
    LAUNCH_TILES(be, PACKS(k_to_bf16), vec, low_precision_up(o->rows), stride, to, from, o->rows,
                 o->width, o->stride, stride);
    o->data = scratch;
    o->stride = stride;
    o->type = CUDA_R_16BF;
}

static const char *blas_text(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "cuBLAS is not ready";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "cuBLAS has no memory";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "cuBLAS refused the arguments";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "cuBLAS does not know this device";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "cuBLAS could not run the product";
    default:
        return "cuBLAS failed";
    }
}

void cuda_multiply(struct backend *be, const struct product *p, enum op_id id)
{
    int64_t m = p->d.rows, n = p->d.width;
    cublasComputeType_t compute =
        be->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    assert(p->c.data == p->d.data);
    assert(m <= INT_MAX && n <= INT_MAX && p->inner <= INT_MAX);
    assert(p->a.stride <= INT_MAX && p->b.stride <= INT_MAX && p->d.stride <= INT_MAX);
    cublasStatus_t status = cublasGemmEx(
        cuda_of(be)->blas, p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
        p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, (int)n, (int)m, (int)p->inner, &p->alpha, p->b.data,
        p->b.type, (int)p->b.stride, p->a.data, p->a.type, (int)p->a.stride, &p->beta,
        const_cast<void *>(p->d.data), p->d.type, (int)p->d.stride, compute, CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        backend_fault(be, id, blas_text(status));
}

void pad_inner(struct product *p)
{
    int64_t inner = low_precision_up(p->inner);
    p->inner = p->a.width = inner;
    if (p->trans_b)
        p->b.width = inner;
    else
        p->b.rows = inner;
}

/* Rounds float32 factors to bfloat16, into scratch, and pads the inner dimension where both factors
 * are padded. False if there is no memory. */
static bool round_factors(struct backend *be, struct product *p, bool b_padded)
{
    struct operand *factor[] = {&p->a, &p->b};
    size_t bytes[2] = {0, 0};
    bool a_rounds = p->a.type == CUDA_R_32F, b_rounds = p->b.type == CUDA_R_32F;
    for (int i = 0; i < 2; i++)
        if (factor[i]->type == CUDA_R_32F)
            bytes[i] = rounded_bytes(factor[i], rounded_stride(factor[i]));
    if (bytes[0] + bytes[1] == 0)
        return true;
    char *scratch = static_cast<char *>(cuda_work(be, bytes[0] + bytes[1], OP_gemm));
    if (scratch == NULL)
        return false;
    for (int i = 0; i < 2; i++)
        if (bytes[i] > 0)
            round_operand(be, factor[i], scratch + (i == 0 ? 0 : bytes[0]),
                          rounded_stride(factor[i]));
    if (!p->trans_a && a_rounds && (b_rounds || b_padded))
        pad_inner(p);
    return true;
}

static void copy_sum(struct backend *be, const struct operand *d, const struct tensor *add)
{
    size_t row = (size_t)d->width * sizeof(float), to = (size_t)d->stride * sizeof(float);
    cuda_note(be, OP_gemm,
              cudaMemcpy2DAsync(const_cast<void *>(d->data), to, add->data, row, row,
                                (size_t)d->rows, cudaMemcpyDeviceToDevice, cuda_of(be)->stream));
}

/* d = alpha a b + beta add. cuBLASLt reads `add` where it is, while cuBLAS wants it in d. */
static void multiply_and_add(struct backend *be, struct product *p, const struct tensor *add)
{
    struct lt_product q = {*p, EPILOGUE_NONE, NULL};
    q.p.c = operand_of(add, p->d.width);
    q.p.c.rows = p->d.rows;
    q.p.c.width = p->d.width;
    if (lt_supports(be, &q)) {
        lt_multiply(be, &q, OP_gemm);
        return;
    }
    copy_sum(be, &p->d, add);
    cuda_multiply(be, p, OP_gemm);
}

void cuda_gemm(struct backend *be, const struct gemm *p)
{
    struct product q = {};
    q.trans_a = p->trans_a;
    q.trans_b = p->trans_b;
    q.inner = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    q.alpha = (float)p->alpha;
    q.beta = (float)p->beta;
    q.a = operand_of(&p->a, p->a_stride);
    q.b = operand_of(&p->b, p->b_stride);
    q.c = q.d = operand_of(&p->c, p->c_stride);
    if (q.d.rows == 0 || q.d.width == 0)
        return;
    if (q.inner == 0) {
        if (p->add.data != NULL)
            copy_sum(be, &q.d, &p->add);
        struct row_launch l = launch_tiles(q.d.rows, q.d.width, 1);
        LAUNCH(k_scale_block, l.grid, l.threads, 0, cuda_of(be)->stream, f32(&p->c), q.d.width,
               q.d.stride, q.beta);
        cuda_launched(be, OP_gemm);
        return;
    }
    if (be->precision == PRECISION_BF16 && !round_factors(be, &q, p->b_padded))
        return;
    if (p->add.data != NULL && q.beta != 0)
        multiply_and_add(be, &q, &p->add);
    else
        cuda_multiply(be, &q, OP_gemm);
    cuda_launched(be, OP_gemm);
}
