/* Products by oneDNN's matmul: of float32 factors, or of such rounded to bfloat16 where the
 * processor multiplies them, with sums in float32. */
#ifndef DEQ_BACKEND_CPU_MATMUL_H
#define DEQ_BACKEND_CPU_MATMUL_H

#include "backend/cpu/cpu_impl.h"

/* Compiled products, and memory for rounded factors. */
struct matmul;

/* Whether products of float32 factors gain by it here; then the bits of a row of theirs, by it or
 * by SGEMM, depend neither on the number of rows nor on its place among them, from
 * BATCH_INVARIANT_ROWS on.
 */
bool matmul_for_fp32(void);
/* Whether this processor multiplies bfloat16 in hardware. */
bool matmul_for_bf16(void);

/* STATUS_NOMEM, STATUS_DEVICE. */
enum status matmul_create(struct matmul **out, struct error *err);
void matmul_free(struct matmul *g);

/* A product's inner length, and the distances between rows of its factors and result as stored. */
struct matmul_sizes {
    int64_t inner, a_stride, b_stride, c_stride;
};

/* gemm (without `add`) in the backend's precision, or false, and nothing done, for one that gains
 * nothing by it; by its sizes alone: the same call always takes the same way. A failure is
 * latched. */
bool matmul_run(struct backend *be, struct matmul *g, const struct gemm *p,
                const struct matmul_sizes *sizes);

#endif
