/* cuBLAS: products by OpenBLAS, with cuBLAS's column-major meaning, its checks of the arguments,
 * and inputs rounded as the chosen arithmetic rounds them (TF32: 10 bits of mantissa, bfloat16: 7).
 * Sums are float32, as on the device, in another order. */
#include "emu/internal.h"

extern "C" {
#include "cuda/cublas_load.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <vector>

struct cublasContext {
    cudaStream_t stream;
    cublasMath_t math;
};

enum rounding { AS_IS, TO_TF32, TO_BF16 };

/* One side of a product: `rows` x `cols` numbers, columns ld apart, matrices `stride` apart. */
struct matrix {
    const void *p;
    cudaDataType type;
    int rows, cols, ld;
    long long stride;

    size_t size() const
    {
        return type == CUDA_R_32F ? 4 : 2;
    }
};

struct product {
    bool trans_a, trans_b;
    int k, count;
    matrix a, b, c;
    float alpha, beta;
    rounding round;
};

float emu_to_tf32(float x)
{
    uint32_t u = emu_bits<uint32_t>(x);
    if ((u & 0x7f800000u) == 0x7f800000u)
        return x;
    return emu_bits<float>((u + 0x1000u) & ~0x1fffu);
}

static float round_number(float x, rounding how)
{
    if (how == TO_BF16)
        return __bfloat162float(__float2bfloat16(x));
    return how == AS_IS ? x : emu_to_tf32(x);
}

static float load(const matrix &m, size_t at)
{
    if (m.type == CUDA_R_32F)
        return static_cast<const float *>(m.p)[at];
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(m.p)[at]);
}

/* The numbers of one matrix of the batch, rounded and packed. */
static std::vector<float> pack(const matrix &m, int which, rounding how)
{
    std::vector<float> out(static_cast<size_t>(m.rows) * static_cast<size_t>(m.cols));
    size_t start = static_cast<size_t>(m.stride * which), at = 0;
    for (int col = 0; col < m.cols; col++)
        for (int row = 0; row < m.rows; row++)
            out[at++] =
                round_number(load(m, start + static_cast<size_t>(col) * static_cast<size_t>(m.ld) +
                                         static_cast<size_t>(row)),
                             how);
    return out;
}

#ifdef EMU_TSAN
extern "C" void openblas_set_num_threads(int threads);

/* At every product: the number belongs to the thread that calls, and others may have changed it. */
void emu_product_begins()
{
    openblas_set_num_threads(1);
}
#else
void emu_product_begins() {}
#endif

static void multiply(const product &p, const float *a, int lda, const float *b, int ldb, float *c,
                     int ldc)
{
    int m = p.c.rows, n = p.c.cols;
    emu_product_begins();
    sgemm_(p.trans_a ? "T" : "N", p.trans_b ? "T" : "N", &m, &n, &p.k, &p.alpha, a, &lda, b, &ldb,
           &p.beta, c, &ldc);
}

static void run_one(const product &p, int which)
{
    bool plain_c = p.c.type == CUDA_R_32F;
    size_t start = static_cast<size_t>(p.c.stride * which);
    if (p.round == AS_IS && p.a.type == CUDA_R_32F && p.b.type == CUDA_R_32F && plain_c) {
        multiply(p, static_cast<const float *>(p.a.p) + p.a.stride * which, p.a.ld,
                 static_cast<const float *>(p.b.p) + p.b.stride * which, p.b.ld,
                 static_cast<float *>(const_cast<void *>(p.c.p)) + start, p.c.ld);
        return;
    }
    std::vector<float> a = pack(p.a, which, p.round), b = pack(p.b, which, p.round);
    int lda = p.a.rows > 0 ? p.a.rows : 1, ldb = p.b.rows > 0 ? p.b.rows : 1;
    if (plain_c) {
        multiply(p, a.data(), lda, b.data(), ldb,
                 static_cast<float *>(const_cast<void *>(p.c.p)) + start, p.c.ld);
        return;
    }
    std::vector<float> c = pack(p.c, which, AS_IS);
    multiply(p, a.data(), lda, b.data(), ldb, c.data(), p.c.rows);
    auto *out = static_cast<__nv_bfloat16 *>(const_cast<void *>(p.c.p)) + start;
    for (int col = 0; col < p.c.cols; col++)
        for (int row = 0; row < p.c.rows; row++)
            out[static_cast<size_t>(col) * static_cast<size_t>(p.c.ld) + static_cast<size_t>(row)] =
                __float2bfloat16(c[static_cast<size_t>(col) * static_cast<size_t>(p.c.rows) +
                                   static_cast<size_t>(row)]);
}

/* ---- Checks -----------------------------------------------------------------------------------
 */
static cublasStatus_t refuse(cublasStatus_t status, const char *why, const char *which)
{
    emu_refuse(cudaSuccess, "%s: matrix %s %s", cublasGetStatusName(status), which, why);
    return status;
}

static cublasStatus_t check_matrix(const matrix &m, int count, const char *name)
{
    if (m.type != CUDA_R_32F && m.type != CUDA_R_16BF)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "has a type that is not emulated", name);
    if (m.ld < m.rows || m.ld < 1)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "has a leading dimension below its rows", name);
    if (count > 1 && m.stride < 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "has a negative stride", name);
    if (m.rows == 0 || m.cols == 0 || count == 0)
        return CUBLAS_STATUS_SUCCESS;
    size_t last = static_cast<size_t>(m.stride) * static_cast<size_t>(count - 1) +
                  static_cast<size_t>(m.ld) * static_cast<size_t>(m.cols - 1) +
                  static_cast<size_t>(m.rows);
    if (reinterpret_cast<uintptr_t>(m.p) % m.size() != 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "is not aligned for its type", name);
    if (!emu_on_device(m.p, last * m.size()))
        emu_die("cuBLAS: matrix %s (%d x %d, leading dimension %d, %d of them %lld apart) at %p "
                "does not lie in one allocation of the device",
                name, m.rows, m.cols, m.ld, count, m.stride, m.p);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_batch(const product &p)
{
    long long whole = static_cast<long long>(p.c.ld) * (p.c.cols - 1) + p.c.rows;
    if (p.count > 1 && p.c.stride < whole && p.c.rows > 0 && p.c.cols > 0 &&
        !(p.c.stride >= p.c.rows && p.c.stride * p.count <= p.c.ld))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "overlaps the next of its batch", "c");
    if (p.k > 0 && p.count > 0 && (p.c.p == p.a.p || p.c.p == p.b.p))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "is also an input", "c");
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t enqueue(cublasHandle_t handle, const product &p)
{
    if (handle == nullptr)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (emu_health() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (p.c.rows < 0 || p.c.cols < 0 || p.k < 0 || p.count < 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "has a negative size", "c");
    if (p.a.type != p.b.type)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "and b differ in type", "a");
    if (p.a.type == CUDA_R_32F && p.c.type != CUDA_R_32F)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "is narrower than a and b", "c");
    cublasStatus_t status = check_matrix(p.a, p.count, "a");
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_matrix(p.b, p.count, "b");
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_matrix(p.c, p.count, "c");
    if (status == CUBLAS_STATUS_SUCCESS)
        status = check_batch(p);
    if (status != CUBLAS_STATUS_SUCCESS || p.c.rows == 0 || p.c.cols == 0 || p.count == 0)
        return status;
    product real = p;
    real.a.p = emu_real(p.a.p);
    real.b.p = emu_real(p.b.p);
    real.c.p = emu_real(p.c.p);
    cudaError_t queued = emu_enqueue(handle->stream, "a cuBLAS product", [p = real] {
        emu_conf().counts.launches++;
        for (int i = 0; i < p.count; i++)
            run_one(p, i);
    });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

static bool rounding_of(const cublasContext *handle, cublasComputeType_t compute,
                        cudaDataType input, rounding *out)
{
    *out = AS_IS;
    if (input != CUDA_R_32F)
        return compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC;
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
        (compute == CUBLAS_COMPUTE_32F && handle->math == CUBLAS_TF32_TENSOR_OP_MATH))
        *out = TO_TF32;
    else if (compute == CUBLAS_COMPUTE_32F_FAST_16BF)
        *out = TO_BF16;
    else
        return compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC;
    return true;
}

extern "C" {

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa,
                                          cublasOperation_t transb, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType a_type,
                                          int lda, long long stride_a, const void *b,
                                          cudaDataType b_type, int ldb, long long stride_b,
                                          const void *beta, void *c, cudaDataType c_type, int ldc,
                                          long long stride_c, int count,
                                          cublasComputeType_t compute, cublasGemmAlgo_t)
{
    product p = {};
    p.trans_a = transa != CUBLAS_OP_N;
    p.trans_b = transb != CUBLAS_OP_N;
    p.k = k;
    p.count = count;
    p.a = {a, a_type, p.trans_a ? k : m, p.trans_a ? m : k, lda, stride_a};
    p.b = {b, b_type, p.trans_b ? n : k, p.trans_b ? k : n, ldb, stride_b};
    p.c = {c, c_type, m, n, ldc, stride_c};
    p.alpha = *static_cast<const float *>(alpha);
    p.beta = *static_cast<const float *>(beta);
    if (handle == nullptr)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!rounding_of(handle, compute, a_type, &p.round))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "has a type that this arithmetic lacks", "a");
    return enqueue(handle, p);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, a, a_type, lda, 0, b,
                                      b_type, ldb, 0, beta, c, c_type, ldc, 0, 1, compute, algo);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa,
                                         cublasOperation_t transb, int m, int n, int k,
                                         const float *alpha, const float *a, int lda,
                                         long long stride_a, const float *b, int ldb,
                                         long long stride_b, const float *beta, float *c, int ldc,
                                         long long stride_c, int count)
{
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, a, CUDA_R_32F, lda,
                                      stride_a, b, CUDA_R_32F, ldb, stride_b, beta, c, CUDA_R_32F,
                                      ldc, stride_c, count, CUBLAS_COMPUTE_32F,
                                      CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transa,
                           cublasOperation_t transb, int m, int n, int k, const float *alpha,
                           const float *a, int lda, const float *b, int ldb, const float *beta,
                           float *c, int ldc)
{
    return cublasSgemmStridedBatched(handle, transa, transb, m, n, k, alpha, a, lda, 0, b, ldb, 0,
                                     beta, c, ldc, 0, 1);
}

/* ---- Handles ----------------------------------------------------------------------------------
 */
bool cublas_load(char *tried, size_t size)
{
    snprintf(tried, size, "libcublas.so: left out by DEQ_EMU_CUBLAS");
    return emu_conf().cublas;
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = nullptr;
    if (emu_health() != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext{nullptr, CUBLAS_DEFAULT_MATH};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version)
{
    *version = CUDART_VERSION / 1000 * 10000;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream)
{
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

/* Factors are read on the host, at the call. */
cublasStatus_t cublasSetPointerMode(cublasHandle_t, cublasPointerMode_t mode)
{
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *p, size_t bytes)
{
    if (bytes > 0 && (!emu_on_device(p, bytes) || reinterpret_cast<uintptr_t>(p) % 256 != 0))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return cublasGetStatusName(status);
}
}
