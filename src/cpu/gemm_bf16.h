/* Products in bfloat16 with sums in float32, where the processor has them. */
#ifndef DEQ_CPU_GEMM_BF16_H
#define DEQ_CPU_GEMM_BF16_H

#include "cpu/cpu_impl.h"

struct bf16;

/* Whether this processor multiplies bfloat16 in hardware, and the library can be told to. */
bool bf16_supported(void);
enum status bf16_create(struct bf16 **out, struct error *err);
void bf16_free(struct bf16 *g);

/* gemm with both factors rounded, or false, and nothing done, for a product too small to gain (by
 * its sizes alone: the same call always takes the same way). Distances between rows as stored. A
 * failure is latched. */
bool bf16_product(struct backend *be, struct bf16 *g, const struct gemm *p, int64_t inner,
                  int64_t a_stride, int64_t b_stride, int64_t c_stride);

#endif
