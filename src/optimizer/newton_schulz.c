/* Newton and Schulz's iteration for matrices that lie either way. */
#include "optimizer/newton_schulz.h"

static const double A = 3.4445, B = -4.7750, C = 2.0315;
static const double LEAST_NORM = 1e-7; /* as in PyTorch's Muon */

void newton_schulz_declare(struct newton_schulz *s, struct workspace *ws, int64_t largest,
                           int64_t side)
{
    struct buffer b = {.name = "Newton-Schulz: matrix",
                       .dtype = ws->be->ops->real,
                       .ndim = 1,
                       .dim = {largest},
                       .life = lives_always(),
                       .part = PART_OPTIMIZER};
    workspace_declare(ws, &s->other, &b);
    b.name = "Newton-Schulz: Gram matrix";
    b.dim[0] = side * side;
    workspace_declare(ws, &s->gram, &b);
    b.name = "Newton-Schulz: polynomial";
    workspace_declare(ws, &s->polynomial, &b);
    b.name = "Newton-Schulz: squared norm";
    b.dtype = DTYPE_F64;
    b.dim[0] = 1;
    workspace_declare(ws, &s->norm2, &b);
}

/* to = a x + p x, or a x + x p for a matrix with more rows than columns, whose Gram matrix is that
 * of its columns. */
static void step(const struct newton_schulz *s, struct backend *be, const struct tensor *x,
                 const struct tensor *to)
{
    bool tall = x->dim[0] > x->dim[1];
    int64_t side = tall ? x->dim[1] : x->dim[0];
    struct tensor gram = tensor_prefix(&s->gram, 2, side, side, 1, 1);
    struct tensor polynomial = tensor_prefix(&s->polynomial, 2, side, side, 1, 1);
    op_gemm(be, &(struct gemm){
                    .trans_a = tall, .trans_b = !tall, .alpha = 1, .a = *x, .b = *x, .c = gram});
    op_gemm(be, &(struct gemm){
                    .alpha = C, .beta = B, .a = gram, .b = gram, .c = polynomial, .add = gram});
    op_gemm(be, &(struct gemm){.alpha = 1,
                               .beta = A,
                               .a = tall ? *x : polynomial,
                               .b = tall ? polynomial : *x,
                               .c = *to,
                               .add = *x});
}

void newton_schulz(const struct newton_schulz *s, struct backend *be, const struct tensor *x)
{
    struct tensor other = tensor_prefix(&s->other, 2, x->dim[0], x->dim[1], 1, 1);
    const struct tensor *const at[2] = {x, &other};
    _Static_assert(NEWTON_SCHULZ_STEPS % 2 == 1, "an odd number of steps from `other` ends in x");
    op_fill(be, &s->norm2, 0);
    op_sum_squares(be, &s->norm2, x);
    op_unit_norm(be, &other, x, &s->norm2, LEAST_NORM);
    for (int i = 0; i < NEWTON_SCHULZ_STEPS; i++)
        step(s, be, at[(i + 1) % 2], at[i % 2]);
}
