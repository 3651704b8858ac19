/* Inside the CPU backend: its state, and helpers of its files. */
#ifndef DEQ_CPU_CPU_IMPL_H
#define DEQ_CPU_CPU_IMPL_H

#include "ops/backend.h"
#include <omp.h>

/* One thread's scratch; grows on demand and is kept, so that a steady state allocates nothing. */
struct cpu_scratch {
    float *data; /* owns */
    size_t count;
    char pad[48]; /* one cache line each */
};

struct matmul; /* matmul.h */

struct cpu {
    int threads;
    struct matmul *matmul;       /* owns */
    struct cpu_scratch *scratch; /* owns: [threads + 1], the last one shared within an operation */
};

static inline float *cpu_f32(const struct tensor *t)
{
    return t->data;
}

static inline int32_t *cpu_i32(const struct tensor *t)
{
    return t->data;
}

/* `count` floats of the calling thread, or, with `shared`, of the operation (asked for outside the
 * parallel region). NULL, and a latched fault of operation `id`, if there is no memory. */
float *cpu_scratch(struct backend *be, size_t count, bool shared, enum op_id id);

/* Whether an operation on so many numbers is worth a parallel region (some microseconds). */
static inline bool cpu_worth(int64_t numbers)
{
    return numbers >= 1 << 14;
}

/* The mask row that belongs to row n, or NULL. */
static inline const float *cpu_mask_row(const struct tensor *mask, int64_t n, int64_t width,
                                        int64_t rows_per_mask)
{
    return mask->data == NULL ? NULL : cpu_f32(mask) + n / rows_per_mask * width;
}

void cpu_copy(struct backend *be, const struct tensor *dst, const struct tensor *src);
void cpu_gemm(struct backend *be, const struct gemm *p);
void cpu_hidden(struct backend *be, const struct hidden *p);
void cpu_hidden_vjp(struct backend *be, const struct hidden_vjp *p);
void cpu_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
               double b);
void cpu_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                   const struct tensor *mask);
void cpu_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x);
void cpu_copy_block(struct backend *be, const struct copy_block *p);
void cpu_lstm_gate(struct backend *be, const struct lstm_gate *p);
void cpu_lstm_gate_vjp(struct backend *be, const struct lstm_gate_vjp *p);
void cpu_residual_norm(struct backend *be, const struct residual_norm *p);
void cpu_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p);
void cpu_attention(struct backend *be, const struct attention *p);
void cpu_attention_vjp(struct backend *be, const struct attention_vjp *p);
void cpu_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *p);
void cpu_attention_tangent(struct backend *be, const struct attention_tangent *p);
void cpu_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                     const struct tensor *idx, double scale);
void cpu_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                          const struct tensor *idx, double scale);
void cpu_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                      const struct tensor *idx);
void cpu_softmax_xent(struct backend *be, const struct softmax_xent *p);
void cpu_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias);
void cpu_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                      uint64_t first);
void cpu_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key);
void cpu_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                      struct rng_key key);
void cpu_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                     const struct tensor *v, const struct tensor *g);
void cpu_weight_norm_vjp(struct backend *be, const struct tensor *dv, const struct tensor *dg,
                         const struct tensor *dw, const struct tensor *v, const struct tensor *g,
                         const struct tensor *inv);
void cpu_solve_residual(struct backend *be, const struct tensor *g, const struct tensor *f,
                        const struct tensor *z, const struct tensor *norms,
                        const struct tensor *total, const struct tensor *reason);
void cpu_row_dots(struct backend *be, const struct row_dots *p);
void cpu_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                   bool reverse);
void cpu_solve_judge(struct backend *be, const struct solve_judge *p);
void cpu_anderson_weights(struct backend *be, const struct anderson_weights *p);
void cpu_broyden_weights(struct backend *be, const struct broyden_weights *p);
void cpu_row_combine(struct backend *be, const struct row_combine *p);
void cpu_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x);
void cpu_adam(struct backend *be, const struct adam *p);

#endif
