/* The list of operations, and the table of functions that a backend fills.
 *
 * A model, solver or trainer is written once against these operations. Where memory lies and how a
 * product is computed is up to the backend.
 *
 * An operation is one entry OP(name, arguments, parameters...) in the list of its family
 * (ops/<family>.h), beside its contract. From the entry are made the slot of struct ops, the number
 * OP_name, the caller's function op_name, its statistics, the prototypes of ref_name, cpu_name and
 * cuda_name, and a function of the counting backend that computes nothing. What must be written
 * besides is check_name (ops/<family>.c) and the function of each backend. src/README.md has an
 * example.
 *
 * Rules for every operation, unless its contract says otherwise:
 *  - `real` tensors have the backend's own floating type (F32, or F64 in `ref`). Indices are I32.
 *  - `low-precision` tensors have the type that op_low_precision (backend.h) tells. It is real, or
 *    BF16 where factors of products are rounded to that anyway. Only weights and the wide layers of
 *    feed-forward networks are low-precision.
 *  - An optional tensor is absent if its data is NULL. Contracts say "or NULL".
 *  - Tensors are contiguous. Outputs do not overlap inputs.
 *  - Row sums, norms, softmax statistics and dot products are accumulated at least in F32, in an
 *    order that is fixed for a given number of threads. The same inputs give the same bits.
 *  - NaN and infinity propagate. No operation hides them.
 *  - Operations do not fail one by one. A fault of the device is latched with the operation's name,
 *    and backend_check reports it. */
#ifndef DEQ_BACKEND_OPS_H
#define DEQ_BACKEND_OPS_H

#include "backend/ops/activation.h"
#include "backend/ops/attention.h"
#include "backend/ops/elementwise.h"
#include "backend/ops/heads.h"
#include "backend/ops/norm.h"
#include "backend/ops/optimizer.h"
#include "backend/ops/product.h"
#include "backend/ops/random.h"
#include "backend/ops/recurrent.h"
#include "backend/ops/softmax.h"
#include "backend/ops/solver.h"
#include "backend/ops/transfer.h"
#include "base/status.h"

struct backend;
struct collectives;

/* Every operation: OP(name, (be, argument names...), parameters after the backend...). */
#define OP_LIST(OP)     \
    TRANSFER_OPS(OP)    \
    PRODUCT_OPS(OP)     \
    ELEMENTWISE_OPS(OP) \
    NORM_OPS(OP)        \
    ATTENTION_OPS(OP)   \
    HEADS_OPS(OP)       \
    ACTIVATION_OPS(OP)  \
    RECURRENT_OPS(OP)   \
    SOFTMAX_OPS(OP)     \
    RANDOM_OPS(OP)      \
    SOLVER_OPS(OP)      \
    OPTIMIZER_OPS(OP)

/* What the factors of products are rounded to before they are multiplied. Sums stay in the real
 * type, and so may products too small to gain by rounding. Nothing else is rounded. TF32 has 10
 * bits of mantissa and BF16 has 7 (units of 2^-11 and 2^-8). A residual of a solve cannot fall much
 * below that unit. */
enum precision { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16, PRECISION_COUNT };

/* The clock of a device that works beside the host. Callers use backend_time_calls and
 * backend_settle (backend.h). */
struct device_clock {
    enum status (*time_calls)(struct backend *be, bool time, struct error *err);
    void (*settle)(struct backend *be);
};

/* The table of a backend. Every function must be there, since memory may be on a device and nothing
 * could stand in for a missing operation. backend_init refuses a table with a NULL. Callers use the
 * op_* functions (backend.h), which check shapes and keep the statistics. */
struct ops {
    const char *name;
    enum dtype real;
    /* Numbers in a temporary that is processed piece by piece: enough to keep the device busy, and
     * small beside the memory of a step. */
    int64_t chunk_numbers;
    /* Rows of a wide feed-forward layer that keep the device busy, so that no more need to exist at
     * once. 0 means all rows, and that ffn_up_vjp needs h. */
    int64_t ffn_rows;
    bool low_precision_bf16; /* low-precision tensors are BF16 while products are in bfloat16 */
    const struct collectives *collectives; /* NULL if memory is the host's (collectives.h) */
    const struct device_clock *clock; /* NULL if an operation has ended when its call returns */

    /* Allocates memory aligned to 64 bytes whose content is unspecified. STATUS_NOMEM, or
     * STATUS_DEVICE if the memory of a device is exhausted. */
    enum status (*alloc)(struct backend *be, void **out, size_t bytes, struct error *err);
    void (*release)(struct backend *be, void *ptr);
    void (*close)(struct backend *be);
    /* Sets the number format of products. STATUS_DEVICE, and nothing has changed, if the device has
     * no such products. Callers use backend_set_precision. */
    enum status (*set_precision)(struct backend *be, enum precision precision, struct error *err);
    /* A backend may start operations later, several at a time, and faster if the same ones come
     * again (cuda/queue.h). A break tells it that the operations after it need not recur together
     * with those before it. Callers set breaks around operations whose sizes change from batch to
     * batch. */
    void (*graph_break)(struct backend *be);

#define OP(name, args, ...) void (*name)(struct backend * be, __VA_ARGS__);
    OP_LIST(OP)
#undef OP
};

#endif
