/* The scratch memory that attention on tensor cores takes for its operands, which it rounds to bf16
 * (cuda/attention_mma.h), in numbers of bf16. */
#ifndef DEQ_BACKEND_ATTENTION_OPERANDS_H
#define DEQ_BACKEND_ATTENTION_OPERANDS_H

#include "backend/ops.h"

enum { ATTENTION_MOST_HEAD = 128 };

/* The width that heads of `head` columns are padded to, or 0 if they are too wide. */
static inline int attention_padded_head(int64_t head)
{
    return head <= 32    ? 32
           : head <= 64  ? 64
           : head <= 80  ? 80
           : head <= 96  ? 96
           : head <= 128 ? ATTENTION_MOST_HEAD
                         : 0;
}

/* Numbers of one operand with so many rows of a head. Each begins at a multiple of 128 bytes. */
static inline int64_t attention_operand(int64_t rows, int64_t head)
{
    const int64_t align = 64;
    return (rows * attention_padded_head(head) + align - 1) / align * align;
}

/* Numbers of all operands of a call. Forward they are keys, values and positions, and backward also
 * queries with each bias and dout. */
static inline int64_t attention_operands(const struct attention *f, bool vjp)
{
    int64_t batch = f->qkv.dim[0], length = f->qkv.dim[1], head = f->qkv.dim[2] / 3 / f->heads;
    int64_t keys = length + (f->mem.data == NULL ? 0 : f->mem.dim[1]), heads = f->heads;
    int64_t span = f->span > 0 && f->span < keys ? f->span : keys;
    bool place = f->rk.data != NULL;
    int64_t queries = attention_operand(batch * heads * length, head);
    return 2 * attention_operand(batch * heads * keys, head) +
           (place ? attention_operand(heads * span, head) : 0) +
           (vjp ? (place ? 3 : 2) * queries : 0);
}

#endif
