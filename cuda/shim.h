/* The one door through which kernel files (*.cu) and the CUDA backend reach the device.
 *
 * The same text is compiled twice: by nvcc for a GPU, and by g++ with DEQ_EMULATE defined for the
 * host emulator (tests/emu), which runs every kernel on the processor and is harsher than a GPU.
 * Most of CUDA keeps its own name in both worlds; only what g++ cannot parse or what the emulator
 * must see goes through a macro of this file. A .cu file includes this header and no header of the
 * toolkit.
 *
 * Plain CUDA, usable as it is
 *   device   __global__ __device__ __restrict__ __launch_bounds__(n); threadIdx blockIdx blockDim
 *            gridDim warpSize; __syncthreads() __syncwarp(mask) __threadfence();
 *            __shfl_sync __shfl_up_sync __shfl_down_sync __shfl_xor_sync (4- and 8-byte types, full
 *            warps of 32) __ballot_sync __any_sync __all_sync; atomicAdd (int, unsigned, unsigned
 *            long long, float, double) atomicMax atomicMin (int, unsigned) atomicCAS atomicExch
 *            (int, unsigned); __ldg; rsqrtf rsqrt; __float_as_int and the like, __umulhi,
 *            __fmaf_rn, __popc __clz __ffs; min max; float2 float4 int4 ... make_float4;
 *            __nv_bfloat16 with __float2bfloat16 and __bfloat162float.
 *   host     the runtime API (memory, streams, events, stream capture and graphs, device
 *            properties, errors), cuBLAS v2 and cuBLASLt, by their own names: tests/emu/toolkit.h
 *            lists what the emulator has.
 *
 * What needs a macro
 *   LAUNCH(kernel, grid, block, bytes, stream, args...)
 *            kernel<<<grid, block, bytes, stream>>>(args...). A template instance with a comma in
 *            it goes in parentheses: LAUNCH((k_norm<float, 4>), ...). Arguments are copied now, the
 *            kernel runs later; a bad shape is reported by cudaGetLastError. More than 48 KiB of
 *            dynamic shared memory must first be allowed by cudaFuncSetAttribute.
 *   SHARED(type, name, [n][m]...)
 *            a static shared array: __shared__ type name[n][m]. One number: SHARED(float, total, ).
 *   DYNAMIC_SHARED(type, name)
 *            type *name = start of the launch's dynamic shared memory, 16-byte aligned. Carve
 *            several arrays out of one by hand.
 *   ASYNC barriers, cooperative groups and textures are not supported.
 *
 * Vector loads go through load_vec and store_vec below: they state the alignment, and the emulator
 * checks it. Warp reductions are the functions warp_sum and warp_max: every lane of a full warp
 * must call them, and every lane gets the result (the same bits on all lanes).
 *
 * Rules the emulator enforces: all threads of a block reach the same __syncthreads (none may have
 * returned before); the lanes named in a mask reach the same warp operation; blocks have at most
 * 1024 threads; a shared array is not read before it is written (it starts as NaN, and so does
 * memory from cudaMalloc); host code never dereferences a device pointer; nothing relies on a
 * stream running before it is synchronised. */
#ifndef DEQ_CUDA_SHIM_H
#define DEQ_CUDA_SHIM_H

#include <stddef.h>
#include <stdint.h>

#if defined(DEQ_EMULATE)

#include "emu/device.h"

#define LAUNCH(kernel, grid, block, bytes, stream, ...) \
    emu_launcher(#kernel, grid, block, bytes, stream).bind(kernel)(__VA_ARGS__)
#define SHARED(type, name, dims) EMU_SHARED(type, name, dims)
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emu_dynamic_shared())
#define SHIM_CHECK_ALIGNED(p, bytes) emu_check_aligned(p, bytes)

#elif defined(__CUDACC__)

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, bytes, stream, ...) \
    (kernel)<<<(grid), (block), (bytes), (stream)>>>(__VA_ARGS__)
#define SHARED(type, name, dims) __shared__ type name dims
#define DYNAMIC_SHARED(type, name)                                \
    extern __shared__ __align__(16) unsigned char shim_dynamic[]; \
    type *name = reinterpret_cast<type *>(shim_dynamic)
#define SHIM_CHECK_ALIGNED(p, bytes) ((void)0)

#else
#error "cuda/ is compiled by nvcc, or by g++ with -DDEQ_EMULATE"
#endif

/* All lanes of a warp. */
#define WARP_ALL 0xffffffffu

/* One vector (float4, float2, int4, ...) at p, which must be aligned to the vector's size. */
template <class V, class T> __device__ __forceinline__ V load_vec(const T *p)
{
    SHIM_CHECK_ALIGNED(p, sizeof(V));
    return *reinterpret_cast<const V *>(p);
}

template <class V, class T> __device__ __forceinline__ void store_vec(T *p, V v)
{
    SHIM_CHECK_ALIGNED(p, sizeof(V));
    *reinterpret_cast<V *>(p) = v;
}

/* Whether p may be read as vectors of `bytes` bytes (for the choice of a kernel, on either side).
 */
__host__ __device__ __forceinline__ bool is_aligned(const void *p, size_t bytes)
{
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

/* Sum and maximum over a full warp, the same on every lane. A NaN in the sum propagates; warp_max
 * drops NaNs, as fmaxf does. */
template <class T> __device__ __forceinline__ T warp_sum(T x)
{
    for (int step = 16; step > 0; step /= 2)
        x += __shfl_xor_sync(WARP_ALL, x, step);
    return x;
}

template <class T> __device__ __forceinline__ T warp_max(T x)
{
    for (int step = 16; step > 0; step /= 2)
        x = fmax(x, __shfl_xor_sync(WARP_ALL, x, step));
    return x;
}

#endif
