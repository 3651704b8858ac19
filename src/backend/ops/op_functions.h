/* What the functions op_* of every family are made with. A family's file says what each operation
 * demands of its arguments and what it costs, in check_name, and then defines its functions. */
#ifndef DEQ_BACKEND_OPS_OP_FUNCTIONS_H
#define DEQ_BACKEND_OPS_OP_FUNCTIONS_H

#include "backend/backend.h"
#include "base/clock.h"

/* What a call costs, for the statistics (struct op_stat). */
struct op_cost {
    double flops, bytes;
};

static inline struct op_cost bytes_only(double bytes)
{
    return (struct op_cost){0, bytes};
}

static inline double bytes_of(const struct tensor *t)
{
    return t->data == NULL ? 0 : (double)tensor_bytes(t);
}

/* --- demands on one tensor -------------------------------------------------------------------- */

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

/* Absent, or of real type with exactly `count` numbers. */
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

static inline void check_optional_index(const struct tensor *t, int64_t count)
{
    if (t->data != NULL)
        check_index(t, count);
}

/* A mask [rows / rows_per_mask, cols], or absent. */
static inline void check_row_mask(const struct backend *be, const struct tensor *mask, int64_t rows,
                                  int64_t cols, int64_t rows_per_mask)
{
    if (mask->data == NULL)
        return;
    assert(rows_per_mask > 0 && rows % rows_per_mask == 0);
    check_count(be, mask, rows / rows_per_mask * cols);
}

/* --- the functions ---------------------------------------------------------------------------- */

/* Says which operation is called from here on. Returns the time of its beginning. */
double op_begin_call(struct backend *be, enum op_id id);
/* Books a call that began at `start`. */
void op_count_call(struct backend *be, enum op_id id, double start, struct op_cost cost);

/* Defines op_name, which checks, calls the table between two readings of the clock, and books. */
#define DEFINE_OP(name, args, ...)                   \
    void op_##name(struct backend *be, __VA_ARGS__)  \
    {                                                \
        struct op_cost cost = check_##name args;     \
        double start = op_begin_call(be, OP_##name); \
        be->ops->name args;                          \
        op_count_call(be, OP_##name, start, cost);   \
    }

#endif
