/* What a kernel compiled by g++ sees of the emulator, which is CUDA's names for threads, barriers,
 * warp operations and atomics. Included by cuda/shim.h, which says where the emulator is harsher
 * than CUDA. The machinery behind it is block.cpp. */
#ifndef DEQ_TESTS_EMU_DEVICE_H
#define DEQ_TESTS_EMU_DEVICE_H

#include "emu/toolkit.h"
#include <functional>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

/* ---- Where a thread is ----------------------------------------------------------------------- */
/* Of the CUDA thread that runs now. The names are the toolkit's, so that kernels read the same. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

#undef __launch_bounds__
#define __launch_bounds__(...)

/* ---- Launches -------------------------------------------------------------------------------- */
struct emu_kernel {
    const char *name; /* as written at the launch */
    const void *entry;
    dim3 grid, block;
    size_t dynamic;             /* bytes of dynamic shared memory */
    std::function<void()> body; /* the kernel with its arguments, for one thread */
};

/* Checks the shape against the device's limits and queues the kernel. */
void emu_launch(emu_kernel kernel, cudaStream_t stream);

/* An argument as the kernel will see it, since the emulator keeps device memory elsewhere
 * (memory.cpp). Aborts unless a pointer is NULL, or in memory of the device or pinned by it. */
void *emu_pointer_argument(const void *p);
void emu_translate(void *object, size_t bytes);
template <class T> T *emu_argument(T *p)
{
    return static_cast<T *>(emu_pointer_argument(p));
}
template <class T> T emu_argument(T x)
{
    if constexpr (std::is_class<T>::value) {
        static_assert(std::is_trivially_copyable<T>::value, "a kernel's arguments are plain data");
        emu_translate(&x, sizeof x);
    }
    return x;
}

template <class... P> struct emu_bound {
    emu_kernel kernel;
    cudaStream_t stream;
    void (*entry)(P...);

    void operator()(P... args)
    {
        void (*call)(P...) = entry;
        kernel.body = [call, ... real = emu_argument(args)] { call(real...); };
        emu_launch(std::move(kernel), stream);
    }
};

struct emu_launcher {
    emu_kernel kernel;
    cudaStream_t stream;

    emu_launcher(const char *name, dim3 grid, dim3 block, size_t bytes, cudaStream_t on)
        : kernel{name, nullptr, grid, block, bytes, nullptr}, stream(on)
    {
    }

    template <class... P> emu_bound<P...> bind(void (*entry)(P...))
    {
        kernel.entry = reinterpret_cast<const void *>(entry);
        return {kernel, stream, entry};
    }
};

/* ---- Shared memory --------------------------------------------------------------------------- */
/* The storage of one static shared variable of the running block. `site` tells variables apart. */
void *emu_static_shared(const char *site, size_t bytes, const char *name);
void *emu_dynamic_shared();

#define EMU_SHARED(type, name, dims)                         \
    typedef type emu_type_##name dims;                       \
    static char emu_site_##name;                             \
    emu_type_##name &name = *static_cast<emu_type_##name *>( \
        emu_static_shared(&emu_site_##name, sizeof(emu_type_##name), #name))

/* Ends the program, naming kernel, block and thread, if p is not a multiple of `bytes`. */
void emu_check_aligned(const void *p, size_t bytes);

/* ---- Barriers and warp operations ------------------------------------------------------------ */
struct emu_site {
    const char *op, *file;
    int line;
};

/* What the lanes of a warp handed in, up to EMU_WORDS words each. Word k of lane i is
 * word[32 * k + i]. The words of absent lanes are all ones (a NaN). */
enum { EMU_WORDS = 3 };
struct emu_warp {
    const uint64_t *word;
    unsigned present; /* lanes that took part */
    int lane;         /* the caller's */
};

void emu_block_barrier(emu_site site);
void emu_warp_barrier(emu_site site, unsigned mask);
emu_warp emu_warp_exchange(emu_site site, unsigned mask, const uint64_t *words, int count);
void emu_fence();

#define EMU_SITE(op) (emu_site{op, __FILE__, __LINE__})
#define __syncthreads() emu_block_barrier(EMU_SITE("__syncthreads"))
#define __syncwarp(...) (emu_syncwarp{EMU_SITE("__syncwarp")}(__VA_ARGS__))
#define __threadfence() emu_fence()
#define __shfl_sync(...) emu_shfl(EMU_SITE("__shfl_sync"), __VA_ARGS__)
#define __shfl_xor_sync(...) emu_shfl_xor(EMU_SITE("__shfl_xor_sync"), __VA_ARGS__)
#define __ballot_sync(mask, x) emu_ballot(EMU_SITE("__ballot_sync"), mask, x)
#define __all_sync(mask, x) (emu_ballot(EMU_SITE("__all_sync"), mask, !(x)) == 0)

struct emu_syncwarp {
    emu_site site;
    void operator()(unsigned mask = 0xffffffffu) const
    {
        emu_warp_barrier(site, mask);
    }
};

/* Lane `from` of the caller's group of `width` lanes, or the caller's own number if that lies
 * outside the group. */
template <class T> T emu_pick(emu_warp w, T own, int from, int width)
{
    int first = w.lane / width * width;
    if (from < first || from >= first + width)
        return own;
    T x;
    memcpy(&x, &w.word[from], sizeof x);
    return x;
}

template <class T> emu_warp emu_offer(emu_site site, unsigned mask, T x)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4- and 8-byte numbers");
    uint64_t word = 0;
    memcpy(&word, &x, sizeof x);
    return emu_warp_exchange(site, mask, &word, 1);
}

template <class T> T emu_shfl(emu_site site, unsigned mask, T x, int from, int width = 32)
{
    emu_warp w = emu_offer(site, mask, x);
    return emu_pick(w, x, w.lane / width * width + (from & (width - 1)), width);
}

template <class T> T emu_shfl_xor(emu_site site, unsigned mask, T x, int with, int width = 32)
{
    emu_warp w = emu_offer(site, mask, x);
    return emu_pick(w, x, w.lane ^ with, width);
}

static inline unsigned emu_ballot(emu_site site, unsigned mask, int x)
{
    uint64_t word = x != 0;
    emu_warp w = emu_warp_exchange(site, mask, &word, 1);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if (w.present >> lane & 1u)
            votes |= static_cast<unsigned>(w.word[lane] & 1u) << lane;
    return votes;
}

/* ---- Atomics, relaxed as on the device ------------------------------------------------------- */
/* Replaces *p by f(*p) and returns the old value. */
template <class T, class F> T emu_atomic(T *p, F f)
{
    T old, next;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do
        next = f(old);
    while (!__atomic_compare_exchange(p, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

#define EMU_ATOMIC_ADD(T)                                                     \
    static inline T atomicAdd(T *p, T x)                                      \
    {                                                                         \
        return emu_atomic(p, [x](T old) { return static_cast<T>(old + x); }); \
    }
EMU_ATOMIC_ADD(unsigned)
EMU_ATOMIC_ADD(float)
#undef EMU_ATOMIC_ADD

/* ---- Arithmetic ------------------------------------------------------------------------------ */
/* Same-sized numbers of another type. */
template <class To, class From> To emu_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}

#define EMU_INLINE static inline __attribute__((unused))
EMU_INLINE int __ffs(int x)
{
    return __builtin_ffs(x);
}

#include "emu/matrix.h"

#endif
