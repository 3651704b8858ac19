/* What the kernels share, packs of numbers, launches, and sums over a block. */
#ifndef DEQ_CUDA_KERNEL_H
#define DEQ_CUDA_KERNEL_H

#include "cuda_impl.h"

/* V neighbouring numbers, where V is 1 or 4. Kernels over rows are written once for both. */
template <int V> struct pack {
    float x[V];
};

template <int V> __device__ __forceinline__ pack<V> load_pack(const float *p)
{
    pack<V> r;
    if constexpr (V == 4) {
        float4 v = load_vec<float4>(p);
        r.x[0] = v.x;
        r.x[1] = v.y;
        r.x[2] = v.z;
        r.x[3] = v.w;
    } else {
        r.x[0] = *p;
    }
    return r;
}

template <int V> __device__ __forceinline__ void store_pack(float *p, const pack<V> &v)
{
    if constexpr (V == 4)
        store_vec(p, make_float4(v.x[0], v.x[1], v.x[2], v.x[3]));
    else
        *p = v.x[0];
}

/* The same of numbers stored in bfloat16, rounded to the nearest when they are written. */
struct __align__(8) four_bf16
{
    __nv_bfloat16 x[4];
};

__device__ __forceinline__ float to_float(float x)
{
    return x;
}

__device__ __forceinline__ float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <int V> __device__ __forceinline__ pack<V> load_pack(const __nv_bfloat16 *p)
{
    pack<V> r;
    if constexpr (V == 4) {
        four_bf16 v = load_vec<four_bf16>(p);
#pragma unroll
        for (int k = 0; k < 4; k++)
            r.x[k] = __bfloat162float(v.x[k]);
    } else {
        r.x[0] = __bfloat162float(*p);
    }
    return r;
}

template <int V> __device__ __forceinline__ void store_pack(__nv_bfloat16 *p, const pack<V> &v)
{
    if constexpr (V == 4) {
        four_bf16 r = {{__float2bfloat16(v.x[0]), __float2bfloat16(v.x[1]),
                        __float2bfloat16(v.x[2]), __float2bfloat16(v.x[3])}};
        store_vec(p, r);
    } else {
        *p = __float2bfloat16(v.x[0]);
    }
}

/* A kernel for packs of four numbers and of one, as the launches below take it. PACKS_OF is for a
 * kernel with a further template argument. */
#define PACKS(kernel) kernel<4>, kernel<1>
#define PACKS_OF(kernel, argument) (kernel<4, argument>), (kernel<1, argument>)

/* Starts the kernel for packs of `vec` numbers (VEC_OF) on the backend's stream. The arguments of
 * the kernel come last. LAUNCH_ROWS has one block a row, with `bytes` of dynamic shared memory.
 * LAUNCH_TILES has a block for every tile of columns of a row (tile_column). LAUNCH_FLAT walks an
 * array of `count` numbers (flat_index). */
#define LAUNCH_ROWS(be, packs, vec, rows, width, bytes, ...)                   \
    LAUNCH_PACKS(packs, vec, (unsigned)(rows), row_threads(width, vec), bytes, \
                 cuda_of(be)->stream, __VA_ARGS__)
#define LAUNCH_TILES(be, packs, vec, rows, width, ...)                                      \
    do {                                                                                    \
        struct row_launch l_ = launch_tiles(rows, width, vec);                              \
        LAUNCH_PACKS(packs, vec, l_.grid, l_.threads, 0, cuda_of(be)->stream, __VA_ARGS__); \
    } while (0)
#define LAUNCH_FLAT(be, packs, vec, count, ...)                                            \
    LAUNCH_PACKS(packs, vec, flat_blocks(count, vec), MAX_THREADS, 0, cuda_of(be)->stream, \
                 __VA_ARGS__)
/* One step more, in which `packs` becomes two arguments. */
#define LAUNCH_PACKS(packs, vec, ...) LAUNCH_EITHER(packs, vec, __VA_ARGS__)
#define LAUNCH_EITHER(of_four, of_one, vec, ...) \
    do {                                         \
        if ((vec) == 4)                          \
            LAUNCH(of_four, __VA_ARGS__);        \
        else                                     \
            LAUNCH(of_one, __VA_ARGS__);         \
    } while (0)

/* Sum over the block, the same bits in every thread. Every thread must call it. */
template <class T> __device__ __forceinline__ T block_sum(T x)
{
    x = warp_sum(x);
    if (blockDim.x == 32)
        return x;
    SHARED(T, part, [32]);
    int warps = (int)blockDim.x / 32, lane = (int)threadIdx.x % 32;
    if (lane == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? part[lane] : T(0));
    __syncthreads(); /* the next call writes part again */
    return x;
}

/* Position in a flat array walked by the whole grid. */
__device__ __forceinline__ int64_t flat_index()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ int64_t flat_stride()
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* First column of this thread in a launch over (row, tile). */
template <int V> __device__ __forceinline__ int64_t tile_column()
{
    return ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * V;
}

#endif
