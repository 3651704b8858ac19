/* cuBLAS, with its column-major meaning, its checks of the arguments, and inputs rounded as the
 * chosen arithmetic rounds them. Sums are float32, as on the device, in another order. */
#include "emu/product.h"

extern "C" {
#include "cuda/cublas_load.h"
}

#include <stdio.h>

struct cublasContext {
    cudaStream_t stream;
};

static cublasStatus_t refuse(cublasStatus_t status, char matrix, const char *why)
{
    emu_refuse(cudaSuccess, "cuBLAS: matrix %c %s", matrix, why);
    return status;
}

static cublasStatus_t check_matrix(char name, const emu_matrix &m)
{
    if (!emu_is_number(m.type))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, name, "has a type that is not emulated");
    if (m.rows < 0 || m.cols < 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "has a negative size");
    if (m.ld < m.rows || m.ld < 1)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "has a leading dimension below its rows");
    if (reinterpret_cast<uintptr_t>(m.p) % m.size() != 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, name, "is not aligned for its type");
    if (m.bytes() > 0)
        emu_check_matrix("cuBLAS", name, m);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_product(const emu_product &p, cublasComputeType_t compute)
{
    const emu_matrix *all[] = {&p.a, &p.b, &p.c};
    for (int i = 0; i < 3; i++) {
        cublasStatus_t status = check_matrix("abc"[i], *all[i]);
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
    }
    if (p.a.type != p.b.type)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, 'a', "and b differ in type");
    if (p.a.type == CUDA_R_32F && p.c.type != CUDA_R_32F)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, 'c', "is narrower than a and b");
    if (compute != CUBLAS_COMPUTE_32F && !(p.tf32 && p.a.type == CUDA_R_32F))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, 'a', "has a type that this arithmetic lacks");
    if (p.a.bytes() > 0 && (p.c.p == p.a.p || p.c.p == p.b.p))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, 'c', "is also an input");
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" {

/* The factors alpha and beta are read on the host, at the call. */
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t)
{
    emu_product p = {};
    p.trans_a = transa != CUBLAS_OP_N;
    p.trans_b = transb != CUBLAS_OP_N;
    p.tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    p.a = {a, a_type, p.trans_a ? k : m, p.trans_a ? m : k, lda};
    p.b = {b, b_type, p.trans_b ? n : k, p.trans_b ? k : n, ldb};
    p.c = {c, c_type, m, n, ldc};
    p.alpha = *static_cast<const float *>(alpha);
    p.beta = *static_cast<const float *>(beta);
    if (handle == nullptr)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (emu_health() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    cublasStatus_t status = check_product(p, compute);
    if (status != CUBLAS_STATUS_SUCCESS || p.c.bytes() == 0)
        return status;
    for (emu_matrix *x : {&p.a, &p.b, &p.c})
        x->p = emu_real(x->p);
    p.d = p.c;
    cudaError_t queued = emu_enqueue(handle->stream, "a cuBLAS product", [p] {
        emu_conf().counts.launches++;
        emu_conf().counts.device_ms += 1;
        emu_conf().counts.uneven += emu_uneven(p);
        emu_multiply(p, [](float x, int64_t, int64_t) { return x; });
    });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

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
    *handle = new cublasContext{};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *p, size_t bytes)
{
    if (bytes > 0 && (!emu_on_device(p, bytes) || reinterpret_cast<uintptr_t>(p) % 256 != 0))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}
}
