/* Private to the reference backend: one function for every slot of struct ops that computes.
 * Their contracts stand in ops/ops.h; shapes have been checked by the op_* functions. */
#ifndef DEQ_REF_REF_OPS_H
#define DEQ_REF_REF_OPS_H

#include "ops/backend.h"

/* The numbers of a tensor of real type, NULL if it is absent. */
static inline double *ref_real(const struct tensor *t)
{
    return t == NULL ? NULL : (double *)t->data;
}

static inline int32_t *ref_int(const struct tensor *t)
{
    return (int32_t *)t->data;
}

/* Row n of a mask that is shared by rows_per_mask rows; NULL without a mask. */
static inline const double *ref_mask_row(const struct tensor *mask, int64_t n, int64_t width,
                                         int64_t rows_per_mask)
{
    const double *m = ref_real(mask);
    return m == NULL ? NULL : m + n / rows_per_mask * width;
}

/* ref_vector.c */
void ref_gemm(struct backend *be, const struct gemm *p);
void ref_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
               double b);
void ref_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                   const struct tensor *mask);
void ref_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x);
void ref_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                     const struct tensor *v, const struct tensor *g);
void ref_weight_norm_vjp(struct backend *be, const struct tensor *dv, const struct tensor *dg,
                         const struct tensor *dw, const struct tensor *v, const struct tensor *g,
                         const struct tensor *inv);
void ref_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x);
void ref_adam(struct backend *be, const struct adam *p);

/* ref_rows.c */
void ref_residual_norm(struct backend *be, const struct residual_norm *p);
void ref_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p);
void ref_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *p);

/* ref_hidden.c */
void ref_hidden(struct backend *be, const struct hidden *p);
void ref_hidden_vjp(struct backend *be, const struct hidden_vjp *p);

/* ref_attention.c */
void ref_attention(struct backend *be, const struct attention *p);
void ref_attention_vjp(struct backend *be, const struct attention_vjp *p);
void ref_attention_tangent(struct backend *be, const struct attention_tangent *p);

/* ref_gate.c */
void ref_copy_block(struct backend *be, const struct copy_block *p);
void ref_lstm_gate(struct backend *be, const struct lstm_gate *p);
void ref_lstm_gate_vjp(struct backend *be, const struct lstm_gate_vjp *p);

/* ref_loss.c */
void ref_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                     const struct tensor *idx, double scale);
void ref_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                          const struct tensor *idx, double scale);
void ref_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                      const struct tensor *idx);
void ref_softmax_xent(struct backend *be, const struct softmax_xent *p);
void ref_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias);

/* ref_random.c */
void ref_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                      uint64_t first);
void ref_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key);
void ref_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                      struct rng_key key);

/* ref_solve.c */
void ref_solve_residual(struct backend *be, const struct tensor *g, const struct tensor *f,
                        const struct tensor *z, const struct tensor *norms,
                        const struct tensor *total, const struct tensor *reason);
void ref_row_dots(struct backend *be, const struct row_dots *p);
void ref_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                   bool reverse);
void ref_solve_judge(struct backend *be, const struct solve_judge *p);
void ref_row_combine(struct backend *be, const struct row_combine *p);

/* ref_broyden.c */
void ref_broyden_weights(struct backend *be, const struct broyden_weights *p);

/* ref_anderson.c */
void ref_anderson_weights(struct backend *be, const struct anderson_weights *p);

#endif
