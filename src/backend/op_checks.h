/* Shared by the doors to the table (ops*.c): shape checks, time, counts. */
#ifndef DEQ_BACKEND_OP_CHECKS_H
#define DEQ_BACKEND_OP_CHECKS_H

#include "backend/backend.h"
#include "base/clock.h"

static inline void profile_call(struct backend *be, enum op_id id, double start, double flops,
                                double bytes)
{
    struct op_stat *stat = &be->stat[id];
    stat->seconds +=
        be->seconds_of != NULL ? be->seconds_of(be, id, flops, bytes) : clock_seconds() - start;
    stat->calls++;
    stat->flops += flops;
    stat->bytes += bytes;
}

/* Runs one entry of the table and books it. */
#define PROFILE(id, flop, byte, call)                 \
    do {                                              \
        double start_ = clock_seconds();              \
        call;                                         \
        profile_call(be, id, start_, (flop), (byte)); \
    } while (0)

static inline double bytes_of(const struct tensor *t)
{
    return t->data == NULL ? 0 : (double)tensor_bytes(t);
}

/* Callers may pass a view without data for an optional tensor; backends then get NULL. */
static inline const struct tensor *present(const struct tensor *t)
{
    return t == NULL || t->data == NULL ? NULL : t;
}

static inline void check_real(const struct backend *be, const struct tensor *t)
{
    assert(t->data != NULL || tensor_count(t) == 0);
    assert(t->dtype == be->ops->real);
}

static inline void check_low_precision(const struct backend *be, const struct tensor *t)
{
    assert(t->data != NULL || tensor_count(t) == 0);
    assert(t->dtype == be->ops->real || t->dtype == op_low_precision(be));
}

/* NULL, or of real type with exactly `count` numbers. */
static inline void check_optional(const struct backend *be, const struct tensor *t, int64_t count)
{
    if (t->data == NULL)
        return;
    assert(t->dtype == be->ops->real && tensor_count(t) == count);
}

static inline void check_count(const struct backend *be, const struct tensor *t, int64_t count)
{
    check_real(be, t);
    assert(tensor_count(t) == count);
}

static inline void check_index(const struct tensor *t, int64_t count)
{
    assert(t->dtype == DTYPE_I32 && t->data != NULL && tensor_count(t) == count);
}

static inline void check_mask(const struct backend *be, const struct tensor *mask, int64_t rows,
                              int64_t cols, int64_t rows_per_mask)
{
    if (mask->data == NULL)
        return;
    assert(rows_per_mask > 0 && rows % rows_per_mask == 0);
    check_count(be, mask, rows / rows_per_mask * cols);
}

#endif
