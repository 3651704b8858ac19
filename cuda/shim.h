/* How kernel files (*.cu) and the CUDA backend reach the device.
 *
 * The same text is compiled by nvcc for a GPU, and by g++ with DEQ_EMULATE defined for the host
 * emulator (tests/emu), which runs every kernel on the processor and is harsher than a GPU. Most of
 * CUDA keeps its own name in both worlds. Only what g++ cannot parse or what the emulator must see
 * goes through a macro of this file. A .cu file includes this header and no header of the toolkit.
 *
 * Plain CUDA is usable as it is, as far as the emulator has it.
 *   device   __global__ __device__ __restrict__ __launch_bounds__(n)
 *            threadIdx blockIdx blockDim gridDim
 *            __syncthreads() __syncwarp(mask) __threadfence()
 *            __shfl_sync __shfl_xor_sync (4- and 8-byte types, full warps of 32)
 *            __ballot_sync __all_sync, atomicAdd (unsigned, float), __ffs
 *            float2 float4 make_float2 make_float4
 *            __nv_bfloat16 with __float2bfloat16 and __bfloat162float
 *   host     the runtime API, cuBLAS v2 and cuBLASLt by their own names
 * More of it is a few lines in tests/emu/device.h, or in the file of the function's kin there.
 *
 * What needs a macro
 *   LAUNCH(kernel, grid, block, bytes, stream, args...)
 *            kernel<<<grid, block, bytes, stream>>>(args...). A template instance with a comma in
 *            it goes in parentheses, as in LAUNCH((k_norm<float, 4>), ...). Arguments are copied
 *            now and the kernel runs later. cudaGetLastError reports a bad shape. More than
 *            48 KiB of dynamic shared memory must first be allowed by cudaFuncSetAttribute.
 *   SHARED(type, name, [n][m]...)
 *            a static shared array, __shared__ type name[n][m]. SHARED(float, x, ) is one number.
 *   DYNAMIC_SHARED(type, name)
 *            type *name = start of the launch's dynamic shared memory, 16-byte aligned. Carve
 *            several arrays out of one by hand.
 * Matrix instructions and copies into shared memory that go on beside the arithmetic have functions
 * in mma.h. Asynchronous barriers, cooperative groups and textures are not supported.
 *
 * Vector loads go through load_vec and store_vec below, which state the alignment that the emulator
 * checks. Warp reductions are the functions warp_sum and warp_max. Every lane of a full warp must
 * call them, and every lane gets the result (the same bits on all lanes).
 *
 * The emulator enforces these rules. All threads of a block reach the same __syncthreads, none
 * having returned before. The lanes named in a mask reach the same warp operation. Blocks have at
 * most 1024 threads. A shared array is not read before it is written (it starts as NaN, and so does
 * memory from cudaMalloc). No thread returns before it has waited for its copies. Host code never
 * dereferences a device pointer. Nothing relies on a stream running before it is synchronised. */
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

/* Sum and maximum over a full warp, the same on every lane. A NaN in the sum propagates, while
 * warp_max drops NaNs, as fmaxf does. */
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
