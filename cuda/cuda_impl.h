/* The state of the CUDA backend, and what its files share on the host side.
 *
 * Everything runs on one stream in the order of the calls, so an operation need not be synchronised
 * with the next. The host runs ahead until a download. Calls are noted and started later (queue.h).
 * Blocks are multiples of 32 threads. Grids depend on shapes alone and never on the device, so that
 * sums have the same order everywhere. */
#ifndef DEQ_CUDA_CUDA_IMPL_H
#define DEQ_CUDA_CUDA_IMPL_H

#include "shim.h"

#define RNG_FN static inline __host__ __device__
extern "C" {
#include "backend/backend.h"
#include "backend/device_scratch.h"
}

enum { STAGE_SLOTS = 2, STAGE_BYTES = 4 << 20, MAX_THREADS = 256 };

/* A pinned piece of host memory that uploads pass through. It is free for reuse once `done` has
 * come. */
struct stage {
    void *host; /* owns */
    cudaEvent_t done;
    bool used;
};

struct cuda {
    cudaStream_t stream;
    cublasHandle_t blas;
    void *blas_work; /* owns */
    struct lt *lt;   /* owns, for products with epilogues (gemm.h), NULL if there are none */
    void *work;      /* owns, scratch of one operation */
    size_t work_bytes;
    int64_t work_moves; /* reallocations, since a recorded graph holds its address */
    struct stage stage[STAGE_SLOTS];
    int next_stage;
    struct queue *queue;      /* owns */
    struct call_times *times; /* owns, NULL unless calls are timed (call_times.h) */
    struct group *group;      /* owns (collectives.cu), NULL for a process that is alone */
    size_t shared_limit;      /* bytes of shared memory that a block may ask for */
    bool recording;           /* kernels go into a graph instead of running */
    bool attention_ready, attention_vjp_ready; /* their kernels may use more than 48 KiB */
    bool attention_bf16_ready;
};

static inline struct cuda *cuda_of(struct backend *be)
{
    return static_cast<struct cuda *>(be->impl);
}

static inline float *f32(const struct tensor *t)
{
    return t == NULL ? NULL : static_cast<float *>(t->data);
}

static inline int32_t *i32(const struct tensor *t)
{
    return static_cast<int32_t *>(t->data);
}

static inline int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline __host__ __device__ int64_t at_most(int64_t a, int64_t limit)
{
    return a < limit ? a : limit;
}

/* Latches a fault of operation `id` if `error` is one. */
void cuda_note(struct backend *be, enum op_id id, cudaError_t error);
/* Latches a launch that was refused. To be called behind the launches of an operation. */
static inline void cuda_launched(struct backend *be, enum op_id id)
{
    cuda_note(be, id, cudaGetLastError());
}

/* Sets be->device_free to what is free on the device now. STATUS_DEVICE if it does not tell. */
enum status cuda_ask_memory(struct backend *be, struct error *err);

/* Allocates and frees all slots, pinned pieces of `bytes` each. stage_open returns STATUS_DEVICE if
 * there is no such memory. */
enum status stage_open(struct stage stage[STAGE_SLOTS], size_t bytes, struct error *err);
void stage_close(struct stage stage[STAGE_SLOTS]);
/* Waits until the device has fetched what was sent from it. The host may then write there. */
void stage_wait(struct backend *be, struct stage *s, enum op_id id);
/* Notes that a copy from it has been queued. */
void stage_sent(struct backend *be, struct stage *s, enum op_id id);

/* `bytes` of device scratch, aligned to 256, valid until the next operation. NULL, and a latched
 * fault, if there is no memory. Grows at most a few times, in the first step. */
void *cuda_work(struct backend *be, size_t bytes, enum op_id id);

/* The shape of a launch over tiles, blocks (row, tile of threads * vec columns) whose threads have
 * `vec` numbers at a time. Over whole rows there is one block a row, with row_threads threads. */
struct row_launch {
    dim3 grid;
    int threads;
};

static inline int row_threads(int64_t width, int vec)
{
    int64_t threads = at_most(div_up(div_up(width, vec), 32) * 32, MAX_THREADS);
    return threads < 32 ? 32 : (int)threads;
}

static inline struct row_launch launch_tiles(int64_t rows, int64_t width, int vec)
{
    struct row_launch l;
    l.threads = row_threads(width, vec);
    l.grid = dim3((unsigned)rows, (unsigned)div_up(width, (int64_t)l.threads * vec), 1);
    return l;
}

/* Blocks for a flat array that is walked in strides, enough to fill any device and no more. */
static inline unsigned flat_blocks(int64_t count, int vec)
{
    return (unsigned)at_most(div_up(count, (int64_t)MAX_THREADS * vec), 4096);
}

/* 4 if rows of `width` numbers at all of these addresses may be read as float4, otherwise 1. A NULL
 * is left out. */
int cuda_vec(int64_t width, const void *const *pointers, int count);
#define VEC_OF(width, ...)                                                       \
    ([&] {                                                                       \
        const void *pointers_[] = {__VA_ARGS__};                                 \
        return cuda_vec(width, pointers_, sizeof pointers_ / sizeof *pointers_); \
    }())

/* acc[d] += sum_n x[n,d] (* y[n,d], if y is not NULL), in an order that rows and width fix. The
 * second form is for an operation that has scratch of its own, where `part` holds columns_scratch
 * floats. */
void cuda_columns(struct backend *be, enum op_id id, float *acc, const float *x, const float *y,
                  int64_t rows, int64_t width);
void cuda_columns_in(struct backend *be, float *part, float *acc, const float *x, const float *y,
                     int64_t rows, int64_t width);

/* cuda_copy, cuda_fill, ...: the operations. Those that note their calls themselves, since they
 * bring changing numbers or synchronise: upload, download, dropout_mask, fill_normal, fill_uniform,
 * adam, descend. All others start at once, and are noted by what fills the table. */
#define OP(name, args, ...) void cuda_##name(struct backend *be, __VA_ARGS__);
OP_LIST(OP)
#undef OP

#endif
