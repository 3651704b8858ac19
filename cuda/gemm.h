/* Factors of products, and products that do more at their end. */
#ifndef DEQ_CUDA_GEMM_H
#define DEQ_CUDA_GEMM_H

#include "cuda_impl.h"

/* A row-major matrix as a product gets it. */
struct operand {
    const void *data;
    int64_t rows, width, stride;
    cudaDataType_t type;
};

struct operand operand_of(const struct tensor *t, int64_t stride);
/* Rounds a float32 operand to bfloat16. rounded_bytes is the scratch for rows of `stride` numbers,
 * and round_operand launches the kernel that writes it there, with zeros behind its rows and up to
 * a multiple of LOW_PRECISION_ALIGN of them. The operand is then the rounded one. */
int64_t rounded_stride(const struct operand *o);
size_t rounded_bytes(const struct operand *o, int64_t stride);
void round_operand(struct backend *be, struct operand *o, void *scratch, int64_t stride);

/* d = alpha op(a) op(b) + beta c, all row-major, d [m,n], where c may be d. Factors have one
 * type. */
struct product {
    bool trans_a, trans_b;
    int64_t inner;
    float alpha, beta;
    struct operand a, b, c, d;
};

/* Makes the inner dimension of op(a) = a a multiple of LOW_PRECISION_ALIGN. The library's best
 * kernels read 16 bytes of a row at a time, and only where all of them belong to the product. `a`
 * must have zeros behind its rows, and b finite numbers where it is read beyond its end. */
void pad_inner(struct product *p);

/* Computes it by cublasGemmEx, for which c must be d. */
void cuda_multiply(struct backend *be, const struct product *p, enum op_id id);

/* What cuBLASLt does to a number of a product before it writes it. */
enum epilogue {
    EPILOGUE_NONE,
    EPILOGUE_RELU,      /* the larger of it and 0 */
    EPILOGUE_RELU_MASK, /* and a bit of `relu_mask` says whether it was above 0 */
    EPILOGUE_MASK,      /* 0 where the bit of `relu_mask` is 0 */
    EPILOGUES
};

/* `relu_mask` has for every row of d bits in cuBLASLt's order, 8 a byte. Its rows are
 * lt_mask_bytes(n) apart, and it is aligned to 16. */
struct lt_product {
    struct product p;
    enum epilogue epilogue;
    void *relu_mask;
};

int64_t lt_mask_bytes(int64_t width);
/* Whether the library has a kernel for it, which is asked once for a shape and remembered. False
 * unless everything, rows too, is aligned to 16. */
bool lt_supports(struct backend *be, const struct lt_product *p);
/* Which of two ways of doing the same is faster. On some devices the library has an epilogue that
 * takes longer than a product and a pass of ours. Callers time both once and note it. */
enum lt_way { LT_UNTIMED, LT_FUSED, LT_IN_TWO };
/* What is noted of such a product with about so many rows, for the caller to change. A note never
 * goes back to LT_UNTIMED. */
enum lt_way *lt_way_of(struct backend *be, const struct lt_product *p);
/* Runs one that is supported. */
void lt_multiply(struct backend *be, const struct lt_product *p, enum op_id id);

struct lt;
/* NULL if the library is not there. */
struct lt *lt_open(void *work, size_t work_bytes);
void lt_close(struct lt *lt);

#endif
