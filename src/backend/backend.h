/* An open backend, with its table of operations, its private state, and what was counted on it.
 * Callers use the op_* functions, which check arguments, call the table and keep the statistics. */
#ifndef DEQ_BACKEND_BACKEND_H
#define DEQ_BACKEND_BACKEND_H

#include "backend/ops.h"
#include "backend/timeline.h"

/* OP_gemm, OP_axpby, ... */
enum op_id {
#define OP(name, ...) OP_##name,
    OP_LIST(OP)
#undef OP
        OP_COUNT
};

/* What was counted of one operation. */
struct op_stat {
    int64_t calls;
    double seconds;
    double flops; /* floating-point operations of products, 0 for memory-bound operations */
    double bytes; /* read and written once each, if everything lay in slow memory */
};

/* X(name, text) lists what memory is for. op_alloc counts bytes under the part that op_part has
 * set. */
#define PART_LIST(X)                                 \
    X(WORK, "work")                                  \
    X(PARAMETERS, "parameters")                      \
    X(GRADIENTS, "gradients")                        \
    X(OPTIMIZER, "optimizer")                        \
    X(SOLVER, "solver history and state")            \
    X(ACTIVATIONS, "activations kept for gradients") \
    X(MEMORY, "segment memory")                      \
    X(LOGITS, "logits")

enum memory_part {
#define X(name, text) PART_##name,
    PART_LIST(X)
#undef X
        PART_COUNT
};

enum { BATCH_INVARIANT_ROWS = 16 };

struct backend {
    const struct ops *ops; /* borrowed, a const table */
    void *impl;            /* owned, the backend's private state, freed by ops->close */
    int threads;
    enum precision precision; /* of products, changed by backend_set_precision */
    char device_name[128];    /* for people, empty for the processor */
    char device_id[40];       /* unique among devices of all machines, or empty */
    size_t device_free; /* bytes of the device's own memory left at opening, 0 if it has none */
    bool poison;        /* for tests, memory out of use holds NaN (backend/workspace.h) */
    /* With at least BATCH_INVARIANT_ROWS rows, the bits of a row of a product in fp32 depend
     * neither on the number of rows nor on the row's place among them. */
    bool batch_invariant;
    size_t bytes, peak_bytes;   /* memory given out by op_alloc now, and at most */
    int64_t syncs;              /* downloads so far */
    enum memory_part part;      /* what is being allocated for, see op_part */
    size_t planned[PART_COUNT]; /* bytes asked of op_alloc so far, released or not */
    /* If not NULL, gives the seconds of a call in place of the clock. For a backend that counts and
     * computes nothing (count/count.h). */
    double (*seconds_of)(struct backend *be, enum op_id id, double flops, double bytes);
    struct op_stat stat[OP_COUNT];
    enum op_id op;             /* called last */
    struct timeline *timeline; /* borrows; what shows operations, phases and steps, or NULL */
    bool timed;                /* the seconds in `stat` are the device's, see backend_time_calls */
    enum op_id fault_op;       /* where the latched fault happened */
    enum status fault_status;  /* STATUS_DEVICE or STATUS_NOMEM */
    char fault[256];           /* its text, empty without a fault */
};

/* Fills the common part of *be. STATUS_INTERNAL if the table lacks a function. For the openers of
 * backends, such as ref_open (ref/ref.h) and cpu_open (cpu/cpu.h). */
enum status backend_init(struct backend *be, const struct ops *ops, void *impl, int threads,
                         struct error *err);
/* Releases the backend's own state. Memory from op_alloc must have been released before. */
void backend_close(struct backend *be);

/* Changes the number format of products, which is PRECISION_FP32 at first. STATUS_DEVICE, and
 * nothing has changed, if the device has no such products. */
enum status backend_set_precision(struct backend *be, enum precision precision, struct error *err);
const char *precision_name(enum precision precision);
/* The relative residual of a fixed point below which the rounding of f hides what is left. Measured
 * on a transformer of width 64, whose solves with tol 0 end at a mean of 1.4e-6 in fp32, 5e-5 in
 * tf32 and 4e-4 in bf16 (emulated products). That is a tenth of the unit roundoff, since errors of
 * many products average out. */
double precision_floor(enum precision precision);

/* The type of low-precision tensors now, real or BF16. */
enum dtype op_low_precision(const struct backend *be);

/* A BF16 ffn_up can bring bias and mask into its product as further columns. There is one column
 * for each row of the mask (one of ones without a mask). It holds the bias where the mask is not 0,
 * and a number below all others where it is. One more column holds what rounding took from the
 * bias. A column costs 2 floating-point operations for each number of h, and a pass of its own over
 * h costs 4 bytes a number. The pass is as dear as 306 columns on an A100, and as 590 on an H100.
 */
enum { FFN_UP_MOST_ROWS = 256, LOW_PRECISION_ALIGN = 8 };
/* The number of those columns, or 0 if bias and mask come in a pass of their own. */
static inline int64_t ffn_up_columns(int64_t width, int64_t mask_rows)
{
    if (width % LOW_PRECISION_ALIGN != 0 || mask_rows > FFN_UP_MOST_ROWS)
        return 0;
    return (mask_rows > 0 ? mask_rows : 1) + 1;
}
/* Numbers of padding behind a row of ffn_up's weight, enough for masks of at most `mask_rows` rows.
 * 0 unless the weight is BF16. */
int64_t op_ffn_up_padding(const struct backend *be, int64_t mask_rows);
/* Bytes of a row of ffn_up's relu_mask, or 0 if the backend has none. */
int64_t op_relu_mask_width(const struct backend *be, int64_t width);
/* Rounds count up to where a row of low-precision numbers may end. */
static inline int64_t low_precision_up(int64_t count)
{
    return (count + LOW_PRECISION_ALIGN - 1) / LOW_PRECISION_ALIGN * LOW_PRECISION_ALIGN;
}

const char *op_name(enum op_id id);

/* Latches the first fault of a device. Later ones are dropped. For backends. */
void backend_fault(struct backend *be, enum op_id id, const char *text);
/* Latches a fault in the same way for memory that an operation needed and did not get. */
void backend_fault_memory(struct backend *be, enum op_id id, const char *text);
/* STATUS_DEVICE, or STATUS_NOMEM, with the latched fault, if there is one. */
enum status backend_check(const struct backend *be, struct error *err);
/* A device works beside the host, so that a call returns long before its operation has ended. With
 * `time` each operation is started by itself between two readings of the device's own clock, and
 * the seconds in be->stat are those. They are complete once backend_settle has waited for the
 * device. Where an operation has ended when its call returns, the host's clock is always right, and
 * neither function does anything. STATUS_DEVICE, and nothing has changed, if the device has no
 * clock to spare. */
enum status backend_time_calls(struct backend *be, bool time, struct error *err);
void backend_settle(struct backend *be);
/* Sets the statistics of all operations and the count of downloads to zero. */
void backend_reset_stats(struct backend *be);

/* Allocates a tensor of the given type and sizes, filled with zeros. op_release frees it.
 * STATUS_NOMEM, or STATUS_DEVICE if the memory of a device is exhausted. */
enum status op_alloc(struct backend *be, struct tensor *t, enum dtype dtype, int ndim, int64_t d0,
                     int64_t d1, int64_t d2, int64_t d3, struct error *err);
/* Tells what the allocations that follow are for, and returns what they were for before. The caller
 * restores that. After an error it need not, since no more is planned. */
enum memory_part op_part(struct backend *be, enum memory_part part);
const char *memory_part_text(enum memory_part part);
/* Frees and clears *t. A tensor with data NULL is allowed. */
void op_release(struct backend *be, struct tensor *t);
/* Ends what the backend may start together, see struct ops. */
void op_graph_break(struct backend *be);
/* The graph_break of a backend that starts every operation at once. */
void graph_break_none(struct backend *be);

/* op_gemm, op_axpby, ... are made in ops/<family>.c, one for each operation. Each asserts what the
 * operation's contract demands, calls the table and adds to the statistics. */
#define OP(name, args, ...) void op_##name(struct backend *be, __VA_ARGS__);
OP_LIST(OP)
#undef OP

#endif
