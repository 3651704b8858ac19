/* Products by oneDNN's matmul. The factors are float32, or rounded to bfloat16 where the processor
 * multiplies that. Sums are in float32. */
#ifndef DEQ_BACKEND_CPU_MATMUL_H
#define DEQ_BACKEND_CPU_MATMUL_H

#include "backend/cpu/cpu_impl.h"

/* Compiled products, and memory for rounded factors. */
struct matmul;

/* Whether products of float32 factors gain by matmul here. If so, the bits of a row, by matmul or
 * by SGEMM, depend neither on the number of rows nor on its place among them, from
 * BATCH_INVARIANT_ROWS rows on. */
bool matmul_for_fp32(void);
/* Whether this processor multiplies bfloat16 in hardware. */
bool matmul_for_bf16(void);

/* STATUS_NOMEM. STATUS_DEVICE if oneDNN cannot open the processor. */
enum status matmul_create(struct matmul **out, struct error *err);
void matmul_free(struct matmul *g);

/* The inner length of a product, and the distances between rows of its factors and result as
 * stored. */
struct matmul_sizes {
    int64_t inner, a_stride, b_stride, c_stride;
};

/* Computes gemm (without `add`) in the backend's precision with oneDNN. Returns false, having done
 * nothing, if another routine is faster for these sizes. The choice depends on the sizes only. A
 * failure is latched. */
bool matmul_run(struct backend *be, struct matmul *g, const struct gemm *p,
                const struct matmul_sizes *sizes);

#endif
