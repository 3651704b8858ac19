/* Products: cuBLAS.
 *
 * cuBLAS counts matrices by columns: what we store as rows [r,c] with stride s it reads as the
 * transposed [c,r] with leading dimension s. So C = op(A) op(B) is asked for as
 * C^T = op(B)^T op(A)^T: the operands change places and keep their flags. This is the only place
 * that knows.
 *
 * tf32 lets the product units round operands to 10 bits on their way; for bf16 the operands are
 * rounded here, into scratch, and the result stays float32. Sums are float32 in both. */
#include "cuda_impl.h"
#include "kernel.h"

#include <limits.h>

/* to[r,c] = from[r,c] rounded; rows of `to` are to_stride apart. */
__global__ void k_to_bf16(__nv_bfloat16 *to, const float *from, int64_t width, int64_t from_stride,
                          int64_t to_stride)
{
    int64_t row = blockIdx.x, d = tile_column<1>();
    if (d < width)
        to[row * to_stride + d] = __float2bfloat16(from[row * from_stride + d]);
}

/* Four at a time: both strides and the width are multiples of 4, both starts aligned. */
__global__ void k_to_bf16_four(__nv_bfloat16 *to, const float *from, int64_t width,
                               int64_t from_stride, int64_t to_stride)
{
    int64_t row = blockIdx.x, d = tile_column<4>();
    if (d >= width)
        return;
    float4 v = load_vec<float4>(from + row * from_stride + d);
    struct alignas(8) four {
        __nv_bfloat16 x[4];
    } r = {{__float2bfloat16(v.x), __float2bfloat16(v.y), __float2bfloat16(v.z),
            __float2bfloat16(v.w)}};
    store_vec(to + row * to_stride + d, r);
}

/* c *= beta, 0 whatever c holds for beta 0: a product with nothing to sum. */
__global__ void k_scale_block(float *c, int64_t width, int64_t stride, float beta)
{
    int64_t row = blockIdx.x, d = tile_column<1>();
    if (d < width)
        c[row * stride + d] = beta == 0 ? 0 : beta * c[row * stride + d];
}

/* One operand as cuBLAS gets it. */
struct operand {
    const void *data;
    int64_t rows, width, stride;
    cudaDataType_t type;
};

static struct operand operand_of(const struct tensor *t, int64_t stride)
{
    struct operand o = {t->data, t->dim[0], t->dim[1], stride != 0 ? stride : t->dim[1],
                        CUDA_R_32F};
    return o;
}

/* Rows of a rounded operand begin on 16 bytes, as the product units like it. */
static int64_t rounded_stride(const struct operand *o)
{
    return div_up(o->width, 8) * 8;
}

static size_t rounded_bytes(const struct operand *o)
{
    return (size_t)(div_up(o->rows * rounded_stride(o), 128) * 128) * sizeof(__nv_bfloat16);
}

static void round_operand(struct backend *be, struct operand *o, void *scratch)
{
    __nv_bfloat16 *to = static_cast<__nv_bfloat16 *>(scratch);
    const float *from = static_cast<const float *>(o->data);
    int64_t stride = rounded_stride(o);
    int vec = o->stride % 4 == 0 && o->width % 4 == 0 && is_aligned(from, 16) ? 4 : 1;
    struct row_launch l = launch_tiles(o->rows, o->width, vec);
    cudaStream_t stream = cuda_of(be)->stream;
    if (vec == 4)
        LAUNCH(k_to_bf16_four, l.grid, l.threads, 0, stream, to, from, o->width, o->stride, stride);
    else
        LAUNCH(k_to_bf16, l.grid, l.threads, 0, stream, to, from, o->width, o->stride, stride);
    o->data = to;
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

static void multiply(struct backend *be, const struct gemm *p, const struct operand *a,
                     const struct operand *b, int64_t inner, int64_t c_stride)
{
    int64_t m = p->c.dim[0], n = p->c.dim[1];
    float alpha = (float)p->alpha, beta = (float)p->beta;
    cublasComputeType_t compute =
        be->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    assert(m <= INT_MAX && n <= INT_MAX && inner <= INT_MAX);
    assert(a->stride <= INT_MAX && b->stride <= INT_MAX && c_stride <= INT_MAX);
    cublasStatus_t status =
        cublasGemmEx(cuda_of(be)->blas, p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                     p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, (int)n, (int)m, (int)inner, &alpha,
                     b->data, b->type, (int)b->stride, a->data, a->type, (int)a->stride, &beta,
                     p->c.data, CUDA_R_32F, (int)c_stride, compute, CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        backend_fault(be, OP_gemm, blas_text(status));
}

void cuda_gemm(struct backend *be, const struct gemm *p)
{
    int64_t m = p->c.dim[0], n = p->c.dim[1];
    int64_t inner = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    int64_t c_stride = p->c_stride != 0 ? p->c_stride : n;
    struct operand a = operand_of(&p->a, p->a_stride), b = operand_of(&p->b, p->b_stride);
    if (m == 0 || n == 0)
        return;
    if (inner == 0) {
        struct row_launch l = launch_tiles(m, n, 1);
        LAUNCH(k_scale_block, l.grid, l.threads, 0, cuda_of(be)->stream, f32(&p->c), n, c_stride,
               (float)p->beta);
        cuda_launched(be, OP_gemm);
        return;
    }
    if (be->precision == PRECISION_BF16) {
        char *scratch =
            static_cast<char *>(cuda_work(be, rounded_bytes(&a) + rounded_bytes(&b), OP_gemm));
        if (scratch == NULL)
            return;
        size_t first = rounded_bytes(&a);
        round_operand(be, &a, scratch);
        round_operand(be, &b, scratch + first);
    }
    multiply(be, p, &a, &b, inner, c_stride);
    cuda_launched(be, OP_gemm);
}
