/* The types and functions of the CUDA runtime and of cuBLAS that the emulator implements.
 *
 * Where the CUDA Toolkit is installed (and EMU_NO_TOOLKIT is not defined) its own headers declare
 * them, so that our calls are checked against the real signatures. Where it is absent,
 * toolkit_own.h declares those few that are used, with the values of the real ones. Either way the
 * emulator defines no function that the backend or the emulator's tests do not call, and a call to
 * another one does not link.
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

template <class T> cudaError_t cudaMallocHost(T **p, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(p), bytes);
}

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

#endif
