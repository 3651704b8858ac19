/* A backend that is open: the table, its private state, its books. The op_* functions are the
 * doors to the table: they check shapes, keep time and count. */
#ifndef DEQ_BACKEND_BACKEND_H
#define DEQ_BACKEND_BACKEND_H

#include "backend/ops.h"

/* X(name): the operations that are timed. */
#define OP_LIST(X)       \
    X(upload)            \
    X(download)          \
    X(copy)              \
    X(fill)              \
    X(gemm)              \
    X(ffn_up)            \
    X(ffn_up_vjp)        \
    X(axpby)             \
    X(mul_bcast)         \
    X(col_sum)           \
    X(copy_block)        \
    X(residual_norm)     \
    X(residual_norm_vjp) \
    X(attention)         \
    X(attention_vjp)     \
    X(norm_vjp_tangent)  \
    X(attention_tangent) \
    X(lstm_cell)         \
    X(lstm_cell_vjp)     \
    X(gather_rows)       \
    X(scatter_add_rows)  \
    X(scatter_rows)      \
    X(softmax_xent)      \
    X(log_softmax)       \
    X(dropout_mask)      \
    X(fill_normal)       \
    X(fill_uniform)      \
    X(weight_norm)       \
    X(weight_norm_vjp)   \
    X(solve_residual)    \
    X(row_dots)          \
    X(scope_sum)         \
    X(convergence_check) \
    X(anderson_weights)  \
    X(broyden_weights)   \
    X(row_combine)       \
    X(sum_squares)       \
    X(adam)

enum op_id {
#define X(name) OP_##name,
    OP_LIST(X)
#undef X
        OP_COUNT
};

/* Declares the function of a backend for an operation, with the type of its slot in the table: for
 * OP_DECLARE(cpu, gemm), void cpu_gemm(struct backend *be, const struct gemm *p). */
#define OP_DECLARE(backend, op) __typeof__(*((struct ops *)0)->op) backend##_##op

struct op_stat {
    int64_t calls;
    double seconds;
    double flops; /* floating-point operations of the products; 0 for memory-bound operations */
    double bytes; /* read and written once each, were everything in slow memory */
};

/* X(name, text): what memory is for; op_alloc books under the part that op_part has set. */
#define PART_LIST(X)                           \
    X(WORK, "work")                            \
    X(PARAMETERS, "parameters")                \
    X(GRADIENTS, "gradients")                  \
    X(OPTIMIZER, "optimizer")                  \
    X(SOLVER, "solver history and state")      \
    X(ACTIVATIONS, "activations kept for gradients") \
    X(MEMORY, "segment memory")                \
    X(LOGITS, "logits")

enum memory_part {
#define X(name, text) PART_##name,
    PART_LIST(X)
#undef X
        PART_COUNT
};

enum { BATCH_INVARIANT_ROWS = 16 };

struct backend {
    const struct ops *ops; /* borrows: a const table */
    void *impl;            /* owns: the backend's private state, freed by ops->close */
    int threads;
    enum precision precision; /* of products: backend_set_precision */
    char device_name[128];    /* for people; empty: the processor */
    char device_id[40];       /* that no other device has, on other machines either; empty: none */
    size_t device_free;       /* bytes of the device's own memory left at opening; 0: it has none */
    bool poison;              /* for tests: memory out of use holds NaN (backend/workspace.h) */
    bool batch_invariant;     /* the bits of a product's row in fp32 do not depend on the number of
                            rows and its place among them, from BATCH_INVARIANT_ROWS rows on */
    size_t bytes, peak_bytes; /* memory given out by op_alloc now, and at most */
    int64_t syncs;            /* downloads so far */
    enum memory_part part;    /* what is being allocated for, see op_part */
    size_t planned[PART_COUNT]; /* bytes asked of op_alloc so far, given back or not */
    /* In place of the clock, where not NULL: the seconds that a call takes. For a backend that
     * counts and computes nothing (backend/count/count.h). */
    double (*seconds_of)(struct backend *be, enum op_id id, double flops, double bytes);
    struct op_stat stat[OP_COUNT];
    enum op_id fault_op;      /* where the latched fault happened */
    enum status fault_status; /* STATUS_DEVICE or STATUS_NOMEM */
    char fault[256];          /* its text; empty: none */
};

/* Refuses a table with an empty slot; fills the common part of *be. Called by the openers:
 * ref_open (backend/ref/ref.h), cpu_open (backend/cpu/cpu.h). */
enum status backend_init(struct backend *be, const struct ops *ops, void *impl, int threads,
                         struct error *err);
/* Releases the backend's own state. Memory from op_alloc must have been released before. */
void backend_close(struct backend *be);

/* Changes the number format of products; it starts as PRECISION_FP32. STATUS_DEVICE if the device
 * has no such products. */
enum status backend_set_precision(struct backend *be, enum precision precision, struct error *err);
const char *precision_name(enum precision precision);
/* The relative residual of a fixed point below which rounding in f hides what is left: solves of a
 * transformer of width 64 with tol 0 come to a mean of 1.4e-6 in fp32, 5e-5 in tf32, 4e-4 in bf16
 * (emulated products). Tenths of the unit roundoff, since errors of many products average. */
double precision_floor(enum precision precision);

/* The type of low-precision tensors now: real, or BF16. */
enum dtype op_low_precision(const struct backend *be);
/* Numbers behind a row of `hidden`'s weight that BF16 needs, for masks of `mask_rows` rows at most;
 * 0 without it. */
int64_t op_ffn_up_padding(const struct backend *be, int64_t mask_rows);
/* Bytes of a row of its gates; 0: there are none. */
int64_t op_relu_mask_width(const struct backend *be, int64_t width);
/* Columns that bring bias and mask into hidden's product where it is BF16: one for each row of the
 * mask (a one where there is none), which holds the bias, or a number below all others where the
 * mask is 0; and one with what rounding took from the bias. 0: bias and mask come in a pass of
 * their own. A column costs a product of 2 operations a number of h, the pass 4 bytes of it: on an
 * A100 as much as 306 columns, on an H100 as 590. */
enum { FFN_UP_MOST_ROWS = 256, LOW_PRECISION_ALIGN = 8 };
static inline int64_t ffn_up_columns(int64_t width, int64_t mask_rows)
{
    if (width % LOW_PRECISION_ALIGN != 0 || mask_rows > FFN_UP_MOST_ROWS)
        return 0;
    return (mask_rows > 0 ? mask_rows : 1) + 1;
}
/* To the next multiple: where a row of low-precision numbers may end. */
static inline int64_t low_precision_up(int64_t count)
{
    return (count + LOW_PRECISION_ALIGN - 1) / LOW_PRECISION_ALIGN * LOW_PRECISION_ALIGN;
}

const char *op_name(enum op_id id);

/* Latches the first fault of a device; later ones are dropped. For backends. */
void backend_fault(struct backend *be, enum op_id id, const char *text);
/* The same for memory that an operation needed and did not get. */
void backend_fault_memory(struct backend *be, enum op_id id, const char *text);
/* STATUS_DEVICE, or STATUS_NOMEM, with the latched fault, if there is one. */
enum status backend_check(const struct backend *be, struct error *err);
void backend_reset_stats(struct backend *be);

/* Allocates a tensor of the given type and sizes; op_release frees it. Contents are zero. */
enum status op_alloc(struct backend *be, struct tensor *t, enum dtype dtype, int ndim, int64_t d0,
                     int64_t d1, int64_t d2, int64_t d3, struct error *err);
/* What the allocations that follow are for; returns what they were for before, which the caller
 * restores (an error ends all planning, and need not). */
enum memory_part op_part(struct backend *be, enum memory_part part);
const char *memory_part_text(enum memory_part part);
/* Frees and clears *t; a tensor with data NULL is allowed. */
void op_release(struct backend *be, struct tensor *t);

/* The entries of the table, see struct ops for their contracts. */
void op_graph_break(struct backend *be);
/* For backends that start every operation at once: nothing to do. */
void graph_break_none(struct backend *be);
void op_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type);
void op_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src);
void op_copy(struct backend *be, const struct tensor *dst, const struct tensor *src);
void op_fill(struct backend *be, const struct tensor *t, double value);
void op_gemm(struct backend *be, bool trans_a, bool trans_b, double alpha, const struct tensor *a,
             const struct tensor *b, double beta, const struct tensor *c);
/* The general form, with column blocks. */
void op_gemm_block(struct backend *be, const struct gemm *p);
void op_ffn_up(struct backend *be, const struct ffn_up *p);
void op_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p);
void op_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
              double b);
void op_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                  const struct tensor *mask);
void op_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x);
void op_copy_block(struct backend *be, const struct copy_block *p);
void op_residual_norm(struct backend *be, const struct residual_norm *p);
void op_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p);
void op_attention(struct backend *be, const struct attention *p);
void op_attention_vjp(struct backend *be, const struct attention_vjp *p);
void op_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *p);
void op_attention_tangent(struct backend *be, const struct attention_tangent *p);
void op_lstm_cell(struct backend *be, const struct lstm_cell *p);
void op_lstm_cell_vjp(struct backend *be, const struct lstm_cell_vjp *p);
void op_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                    const struct tensor *idx, double scale);
void op_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                         const struct tensor *idx, double scale);
void op_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                     const struct tensor *idx);
void op_softmax_xent(struct backend *be, const struct softmax_xent *p);
void op_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias);
void op_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                     uint64_t first);
void op_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key);
void op_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                     struct rng_key key);
void op_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                    const struct tensor *v, const struct tensor *g);
void op_weight_norm_vjp(struct backend *be, const struct tensor *dv, const struct tensor *dg,
                        const struct tensor *dw, const struct tensor *v, const struct tensor *g,
                        const struct tensor *inv);
void op_solve_residual(struct backend *be, const struct tensor *g, const struct tensor *f,
                       const struct tensor *z, const struct tensor *norms,
                       const struct tensor *total, const struct tensor *reason);
void op_row_dots(struct backend *be, const struct row_dots *p);
void op_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                  bool reverse);
void op_convergence_check(struct backend *be, const struct convergence_check *p);
void op_anderson_weights(struct backend *be, const struct anderson_weights *p);
void op_broyden_weights(struct backend *be, const struct broyden_weights *p);
void op_row_combine(struct backend *be, const struct row_combine *p);
void op_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x);
void op_adam(struct backend *be, const struct adam *p);

#endif
