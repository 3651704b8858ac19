/* What the parts of the emulator share. */
#ifndef DEQ_TESTS_EMU_INTERNAL_H
#define DEQ_TESTS_EMU_INTERNAL_H

#include "emu/device.h"
#include "emu/emu.h"
#include <functional>
#include <stddef.h>
#include <stdint.h>

/* ---- config.cpp ------------------------------------------------------------------------------ */
struct emu_config {
    emu_order order;
    emu_tf32 tf32;
    uint64_t random; /* state of the generator */
    long fail_malloc, lose_at;
    long fail_capture, capture_calls; /* one of how many is refused, calls so far */
    int devices, driver, major, minor;
    long long visible; /* the first of the machine's devices that is seen */
    size_t memory;
    bool quiet, cublas, lt_refuses, lt_slow, nccl;
    long nccl_fail, nccl_lose;
    double nccl_wait; /* seconds */
    struct emu_counts counts;
};
emu_config &emu_conf();
/* A number below n. */
uint64_t emu_below(uint64_t n);
/* Fills at[0..n) with the order in which n things are done. */
void emu_arrange(uint32_t *at, size_t n);

/* Explains on stderr, naming the running kernel, block and thread, and aborts. */
[[noreturn]] void emu_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Explains, latches the error for cudaGetLastError and returns it. */
cudaError_t emu_refuse(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Latches it without a word, and returns it. */
cudaError_t emu_latch(cudaError_t error);
/* The error that every call gives now, because there is no device or it is lost. */
cudaError_t emu_health();
void emu_lose();

/* ---- memory.cpp ------------------------------------------------------------------------------ */
/* Explains faults from now on. */
void emu_watch_faults();
/* All bytes lie in one live allocation of the device. */
bool emu_on_device(const void *p, size_t bytes);
/* p points into memory that is, or was, the device's. */
bool emu_near_device(const void *p);
/* Where the bytes behind a device pointer are. Another pointer is returned as it is. */
void *emu_real(const void *p);
/* Aborts if bytes around allocations were overwritten. */
void emu_check_margins();
void emu_memory_reset();

/* ---- stream.cpp ------------------------------------------------------------------------------ */
/* Queues work, or captures it. It will read `bytes` of host memory at `read`. */
cudaError_t emu_enqueue(cudaStream_t stream, const char *what, std::function<void()> run,
                        const void *read = nullptr, size_t bytes = 0);
/* Runs everything that is queued. */
void emu_drain();
/* Whether a capture forbids calls that could synchronise. If so it becomes invalid. */
bool emu_capture_forbids();
void emu_streams_reset();

/* ---- launch.cpp ------------------------------------------------------------------------------ */
static const uint32_t EMU_BLOCK_THREADS = 1024;
/* Bytes of a block, unless its kernel has asked for more, and the most it may ask for. */
static const size_t EMU_SHARED_BYTES = 48 * 1024;
int emu_chip_shared();
/* Bytes of shared memory, static and dynamic, that a block of this kernel may have. */
size_t emu_shared_limit(const void *entry);

/* ---- shared.cpp ------------------------------------------------------------------------------ */
/* Gives a block that begins fresh shared memory, all NaN. Returns a page of addresses that are this
 * block's alone, to stand for its barriers. */
char *emu_shared_start(const emu_kernel &kernel);
/* To be called when a block ends. Aborts if bytes around its variables were overwritten. */
void emu_shared_check();
/* To be called when a kernel ends, since the next has other variables. */
void emu_shared_forget();

/* ---- block.cpp ------------------------------------------------------------------------------- */
void emu_run_kernel(const emu_kernel &kernel);
/* Where the device is, such as "kernel k_x, block (0,0,0), thread (1,0,0): ", or empty. */
const char *emu_where();

#endif
