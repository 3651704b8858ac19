/* The types and functions of the CUDA runtime and of cuBLAS that the emulator implements.
 *
 * Where the CUDA Toolkit is installed (and EMU_NO_TOOLKIT is not defined) its own headers declare
 * them, so that our calls are checked against the real signatures. Where it is absent,
 * toolkit_own.h declares those few that are used, with the values of the real ones. Either way
 * runtime.cpp, stream.cpp, graph.cpp, memory.cpp, cublas.cpp and cublas_lt.cpp define these and no
 * others (a call to anything else does not link):
 *
 *   device   cudaGetDeviceCount cudaSetDevice cudaGetDevice cudaGetDeviceProperties
 *            cudaDeviceGetAttribute cudaDriverGetVersion cudaRuntimeGetVersion cudaMemGetInfo
 *            cudaDeviceSynchronize cudaDeviceReset
 *   errors   cudaGetLastError cudaPeekAtLastError cudaGetErrorName cudaGetErrorString
 *   memory   cudaMalloc cudaFree cudaMallocAsync cudaFreeAsync cudaMallocHost cudaHostAlloc
 *            cudaFreeHost cudaHostRegister cudaHostUnregister cudaMemcpy cudaMemcpyAsync
 *            cudaMemcpy2DAsync cudaMemset cudaMemsetAsync cudaPointerGetAttributes
 *   streams  cudaStreamCreate cudaStreamCreateWithFlags cudaStreamCreateWithPriority
 *            cudaDeviceGetStreamPriorityRange cudaStreamDestroy cudaStreamSynchronize
 *            cudaStreamQuery cudaStreamWaitEvent cudaLaunchHostFunc cudaEventCreate
 *            cudaEventCreateWithFlags cudaEventDestroy cudaEventRecord cudaEventSynchronize
 *            cudaEventQuery cudaEventElapsedTime
 *   graphs   cudaStreamBeginCapture cudaStreamEndCapture cudaStreamIsCapturing
 *            cudaGraphInstantiate cudaGraphLaunch cudaGraphGetNodes cudaGraphDestroy
 *            cudaGraphExecDestroy
 *   kernels  cudaFuncSetAttribute cudaFuncGetAttributes
 *            cudaOccupancyMaxActiveBlocksPerMultiprocessor
 *   cuBLAS   cublasCreate cublasDestroy cublasSetStream cublasGetStream cublasSetMathMode
 *            cublasSetPointerMode (host only) cublasSetWorkspace cublasGetVersion
 *            cublasGetStatusName cublasGetStatusString cublasSgemm cublasSgemmStridedBatched
 *            cublasGemmEx cublasGemmStridedBatchedEx
 *   Lt       cublasLtCreate cublasLtDestroy; cublasLtMatmulDesc and MatmulPreference: Create,
 * Destroy, SetAttribute; cublasLtMatrixLayout: Create, Destroy; cublasLtMatmulAlgoGetHeuristic
 *            cublasLtMatmul
 *
 * NCCL is declared in cuda/nccl_load.h, and all that is declared there is implemented in nccl.cpp.
 */
#ifndef DEQ_TESTS_EMU_TOOLKIT_H
#define DEQ_TESTS_EMU_TOOLKIT_H

#if __has_include(<cuda_runtime_api.h>) && !defined(EMU_NO_TOOLKIT)
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#else
#include "emu/toolkit_lt_own.h"
#endif

/* nvcc brings these typed forms itself. */
template <class T> cudaError_t cudaMalloc(T **p, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(p), bytes);
}

template <class T> cudaError_t cudaMallocAsync(T **p, size_t bytes, cudaStream_t stream)
{
    return cudaMallocAsync(reinterpret_cast<void **>(p), bytes, stream);
}

template <class T> cudaError_t cudaMallocHost(T **p, size_t bytes, unsigned flags = 0)
{
    return cudaHostAlloc(reinterpret_cast<void **>(p), bytes, flags);
}

template <class T> cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(p), bytes, flags);
}

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

template <class... P>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*kernel)(P...))
{
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void (*kernel)(P...),
                                                          int threads, size_t bytes)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks, reinterpret_cast<const void *>(kernel), threads, bytes);
}

#endif
