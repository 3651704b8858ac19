/* The functions of cuBLAS and cuBLASLt that the backend calls, passed on to a library that is
 * loaded when a device is opened. Linked directly, it would cost every command 0.35 s and 220 MB at
 * its start, those that never see a GPU too, and the program would not run without it. */
#include "cuda/cublas_load.h"

#include "base/library.h"
#include <cublasLt.h>
#include <cublas_v2.h>

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#define CUBLAS "libcublas.so."
#define OWN TEXT_OF(CUBLAS_VER_MAJOR) /* of the Toolkit that this was compiled with */
#if CUBLAS_VER_MAJOR == 12
#define OTHER "13"
#else
#define OTHER "12"
#endif

/* A bare name is looked for in the Toolkit's folder at the time of the build and where the loader
 * looks. The functions below are the same in versions 12 and 13. Those of cuBLASLt are found too,
 * since cuBLAS brings it. */
static const char *const libraries[] = {CUBLAS OWN,
                                        "/usr/local/cuda/lib64/" CUBLAS OWN,
                                        "/usr/local/cuda-" OWN "/lib64/" CUBLAS OWN,
                                        CUBLAS OTHER,
                                        "/usr/local/cuda/lib64/" CUBLAS OTHER,
                                        "/usr/local/cuda-" OTHER "/lib64/" CUBLAS OTHER,
                                        NULL};

bool cublas_load(char *tried, size_t size)
{
    return library_open(libraries, tried, size) != NULL;
}

#define FORWARD(name, parameters, arguments)                                \
    LIBRARY_FORWARD(libraries, cublasStatus_t, name, parameters, arguments, \
                    CUBLAS_STATUS_NOT_INITIALIZED)

FORWARD(cublasCreate_v2, (cublasHandle_t * handle), (handle))
FORWARD(cublasDestroy_v2, (cublasHandle_t handle), (handle))
FORWARD(cublasSetStream_v2, (cublasHandle_t handle, cudaStream_t stream), (handle, stream))
FORWARD(cublasSetWorkspace_v2, (cublasHandle_t handle, void *work, size_t bytes),
        (handle, work, bytes))
FORWARD(cublasGemmEx,
        (cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
         const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
         cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
         cublasComputeType_t compute, cublasGemmAlgo_t algorithm),
        (handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc,
         compute, algorithm))

FORWARD(cublasLtCreate, (cublasLtHandle_t * handle), (handle))
FORWARD(cublasLtDestroy, (cublasLtHandle_t handle), (handle))
FORWARD(cublasLtMatmulDescCreate,
        (cublasLtMatmulDesc_t * desc, cublasComputeType_t compute, cudaDataType_t scale),
        (desc, compute, scale))
FORWARD(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc), (desc))
FORWARD(cublasLtMatmulDescSetAttribute,
        (cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what, const void *value,
         size_t size),
        (desc, what, value, size))
FORWARD(cublasLtMatrixLayoutCreate,
        (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t cols,
         int64_t ld),
        (layout, type, rows, cols, ld))
FORWARD(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), (layout))
FORWARD(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * wanted), (wanted))
FORWARD(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t wanted), (wanted))
FORWARD(cublasLtMatmulPreferenceSetAttribute,
        (cublasLtMatmulPreference_t wanted, cublasLtMatmulPreferenceAttributes_t what,
         const void *value, size_t size),
        (wanted, what, value, size))
FORWARD(cublasLtMatmulAlgoGetHeuristic,
        (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
         cublasLtMatmulPreference_t wanted, int capacity, cublasLtMatmulHeuristicResult_t results[],
         int *count),
        (handle, desc, a, b, c, d, wanted, capacity, results, count))
FORWARD(cublasLtMatmul,
        (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
         cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
         const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
         cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *work,
         size_t work_bytes, cudaStream_t stream),
        (handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, work,
         work_bytes, stream))
