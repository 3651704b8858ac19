/* The controls of the host emulator, for tests. Everything can also be asked for through the
 * environment, which is read at the first CUDA call.
 *
 *   DEQ_EMU_ORDER         ascending (default), descending or shuffled, the order in which blocks
 * and threads run, and how eagerly streams do (see stream.cpp) DEQ_EMU_SEED          of the
 * shuffled order, default 1 DEQ_EMU_DEVICES       devices of this machine, default 1
 * (CUDA_VISIBLE_DEVICES chooses) DEQ_EMU_DRIVER        version the driver claims, such as 12040, or
 * 0 for no driver DEQ_EMU_CUBLAS        0 if cuBLAS is not to be found DEQ_EMU_CC compute
 * capability, default 9.0 DEQ_EMU_MEMORY        bytes of device memory, default 16 GiB
 *   DEQ_EMU_FAIL_MALLOC   n if the n-th allocation of device memory is to fail
 *   DEQ_EMU_FAIL_CAPTURE  n if every n-th call that records or launches a graph is to be refused
 *   DEQ_EMU_LOSE_AT       n if the device is to be lost while the n-th kernel runs
 *   DEQ_EMU_NO_LT         1 if cuBLASLt has no kernel for any product
 *   DEQ_EMU_LT_SLOW       1 if its products with an epilogue take long by the device's clock
 *   DEQ_EMU_NCCL          0 if NCCL is not to be found
 *   DEQ_EMU_NCCL_FAIL     n if the n-th call of NCCL to other processes is to fail, joining them
 *                         being the first
 *   DEQ_EMU_NCCL_LOSE     n if the n-th that runs is not to end, which NCCL tells when asked
 *   DEQ_EMU_NCCL_DIR      folder of the file in which processes meet, default /dev/shm
 *   DEQ_EMU_NCCL_WAIT     seconds after which a call that waits for others dies, default 60
 *   DEQ_EMU_QUIET         1 if refused calls are not to be explained on stderr
 *
 * The emulator serves one host thread at a time. A fault that no correct program can cause
 * (divergent barrier, access out of bounds, host access to device memory) is explained on stderr,
 * with the kernel, block and thread, and ends the program by abort(). What CUDA reports, the
 * emulator reports the same way. */
#ifndef DEQ_TESTS_EMU_EMU_H
#define DEQ_TESTS_EMU_EMU_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum emu_order { EMU_ASCENDING, EMU_DESCENDING, EMU_SHUFFLED, EMU_ORDERS };

const char *emu_order_name(enum emu_order order);
void emu_set_order(enum emu_order order, uint64_t seed);

/* How factors are rounded to TF32, which NVIDIA leaves open: to nearest with ties away from zero or
 * to even, or cut off. */
enum emu_tf32 { EMU_TF32_AWAY, EMU_TF32_EVEN, EMU_TF32_ZERO, EMU_TF32_ROUNDINGS };
void emu_set_tf32(enum emu_tf32 rounding);

/* Counted from this call on, 0 for never. */
void emu_fail_malloc(long nth);
void emu_fail_capture(long every);
void emu_lose_device(long nth_kernel);
/* With true, cuBLASLt has no kernels from now on. */
void emu_refuse_lt(bool refuses);
/* With true, its products with an epilogue take four milliseconds more. */
void emu_slow_lt(bool slow);
/* Brings a lost device back, as in a new process. Memory allocated before is gone. */
void emu_restart(void);

/* Ranges for profilers (cuda/ranges.h), which lie inside one another. */
void emu_range_begins(const char *name);
void emu_range_ends(void);

/* What ran so far. */
struct emu_counts {
    int64_t launches;             /* kernels and products that ran, those inside graphs too */
    int64_t graph_launches;       /* those inside graphs */
    int64_t graphs, instantiated; /* graphs that ran, and those that were made */
    int64_t copies, syncs, mallocs;
    /* Products in bfloat16 with a factor whose rows run along an inner dimension that is not whole
     * pieces of 16 bytes. */
    int64_t uneven;
    int64_t ranges; /* for profilers, that ended */
    /* The device's clock, as events read it. A kernel, a product and a copy take a millisecond
     * each, so that what is timed does not depend on the machine. */
    double device_ms;
    int64_t matrix_products; /* matrix instructions of warps */
};
struct emu_counts emu_count(void);

#ifdef __cplusplus
}
#endif

#endif
