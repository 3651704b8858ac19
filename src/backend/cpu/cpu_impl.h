/* What the files of the CPU backend share, its state and small helpers. */
#ifndef DEQ_BACKEND_CPU_CPU_IMPL_H
#define DEQ_BACKEND_CPU_CPU_IMPL_H

#include "backend/backend.h"
#include <cblas.h>
#include <omp.h>

/* One thread's scratch. It grows on demand and is kept, so that a steady state allocates
 * nothing. */
struct cpu_scratch {
    float *data; /* owned */
    size_t count;
    char pad[48]; /* one cache line each */
};

struct matmul; /* matmul.h */

struct cpu {
    int threads;
    struct matmul *matmul;          /* owned */
    __typeof__(cblas_sgemm) *sgemm; /* OpenBLAS's, or NULL */
    struct cpu_scratch *scratch; /* owned, [threads + 1], the last one shared within an operation */
};

static inline float *cpu_f32(const struct tensor *t)
{
    return t->data;
}

static inline int32_t *cpu_i32(const struct tensor *t)
{
    return t->data;
}

/* Returns `count` floats of scratch. They belong to the calling thread or, with `shared`, to the
 * operation, which asks for them outside the parallel region. Returns NULL and latches a fault of
 * operation `id` if there is no memory. */
float *cpu_scratch(struct backend *be, size_t count, bool shared, enum op_id id);

/* Whether an operation on so many numbers is worth a parallel region (some microseconds). */
static inline bool cpu_worth(int64_t numbers)
{
    return numbers >= 1 << 14;
}

/* Returns the mask row that belongs to row n, or NULL. */
static inline const float *cpu_mask_row(const struct tensor *mask, int64_t n, int64_t width,
                                        int64_t rows_per_mask)
{
    return mask->data == NULL ? NULL : cpu_f32(mask) + n / rows_per_mask * width;
}

/* cpu_gemm, cpu_axpby, ... are the operations. */
#define OP(name, args, ...) void cpu_##name(struct backend *be, __VA_ARGS__);
OP_LIST(OP)
#undef OP

#endif
