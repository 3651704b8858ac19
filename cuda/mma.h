/* The matrix instructions of a warp, for devices from sm_80 on, behind plain functions.
 *
 *   mma_bf16(sum, a, b)       sum += a b, for a [16,16] and b [16,8] in bf16 and sums in float32
 *   load_matrices(to, row)    four 8 x 8 matrices of bf16 from shared memory, one to a register.
 *                             Lane i names row i % 8 of matrix i / 8, 16 bytes at a multiple of 16
 *   load_transposed(to, row)  the same, and each matrix is transposed
 *   copy_async(to, from, valid)  starts to copy 16 bytes into shared memory, or to clear them if
 *                             `valid` is false. Both lie at a multiple of 16
 *   copy_commit()             ends a group of such copies
 *   copy_wait<N>()            waits for all groups of this thread but the last N. Other threads see
 *                             what was copied behind the next barrier
 *   pack_bf16(low, high)      two numbers rounded to the nearest bf16, the first in the lower half
 *   exp2_fast(x)              2^x, to 2^-22 of it. What is below the smallest normal number is 0
 *
 * Each lane holds a few numbers of every matrix, in registers of two bf16 or of one float32. With g
 * = lane / 4 and q = lane % 4 they are, by the PTX ISA (mma.m16n8k16, ldmatrix),
 *   a      [0] row g, columns 2q, 2q + 1; [1] row g + 8; [2], [3] the same, 8 columns further
 *   b      [0] rows 2q, 2q + 1 of column g; [1] the same, 8 rows further
 *   sum    [0], [1] row g, columns 2q, 2q + 1; [2], [3] row g + 8
 *   8 x 8  row g, columns 2q, 2q + 1
 * So the sums of two products side by side, rounded, are an operand a of the next product.
 *
 * All lanes of a warp call the first three together, and the rest is a thread's own. On the host
 * the emulator takes the place of the instructions (tests/emu/matrix.h). */
#ifndef DEQ_CUDA_MMA_H
#define DEQ_CUDA_MMA_H

#include "shim.h"

#if defined(DEQ_EMULATE)

#define mma_bf16(sum, a, b) emu_mma(EMU_SITE("mma_bf16"), sum, a, b)
#define load_matrices(to, row) emu_ldmatrix(EMU_SITE("load_matrices"), to, row, false)
#define load_transposed(to, row) emu_ldmatrix(EMU_SITE("load_transposed"), to, row, true)

static inline void copy_async(void *to, const void *from, bool valid)
{
    emu_copy_async(to, from, valid);
}

static inline void copy_commit()
{
    emu_copy_commit();
}

template <int N> static inline void copy_wait()
{
    emu_copy_wait(N);
}

static inline uint32_t pack_bf16(float low, float high)
{
    uint32_t lower = emu_bits<uint16_t>(__float2bfloat16(low));
    return lower | static_cast<uint32_t>(emu_bits<uint16_t>(__float2bfloat16(high))) << 16;
}

static inline float exp2_fast(float x)
{
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}

#else

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void mma_bf16(float sum[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void load_matrices(uint32_t to[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void load_transposed(uint32_t to[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void copy_async(void *to, const void *from, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
#endif
