/* In Anderson mixing (type II) the next iterate is the affine combination of the last m evaluations
 * whose residuals cancel best,  z <- sum_j alpha_j (f_j - (1 - beta) g_j),  alpha minimising
 * ||sum_j alpha_j g_j||^2 under sum_j alpha_j = 1. Slots of the history are used in turn. */
#include "solver/solver_impl.h"

static void declare(struct solver *s)
{
    enum dtype real = s->be->ops->real;
    int64_t n = s->batch * s->length, m = s->history;
    struct tensor count = tensor_make(NULL, DTYPE_I32, 1, n, 1, 1, 1);
    struct tensor row = tensor_make(NULL, real, 2, n, m, 1, 1), square = row;
    square.dim[1] = m * m;
    solver_declare(s, &s->len, "length of the window", false, &count);
    solver_declare(s, &s->dots, "inner products", false, &row);
    solver_declare(s, &s->coef, "mixing weights", false, &row);
    solver_declare(s, &s->gram, "Gram matrices", false, &square);
}

static void begin(struct solver *s)
{
    op_fill(s->be, &s->gram, 0);
}

static struct tensor slot_of(const struct solver *s, int which, int64_t slot)
{
    struct tensor hist = solver_rows(s, &s->hist[which]);
    struct tensor one = tensor_slice(&hist, slot, 1);
    return tensor_shape(&one, 2, s->rows, s->width, 1, 1);
}

static void place(struct solver *s, int64_t k)
{
    s->f = slot_of(s, 0, k % s->history);
    s->g = slot_of(s, 1, k % s->history);
}

static enum status advance(struct solver *s, int64_t k, struct error *err)
{
    (void)err;
    int64_t count = k + 1 < s->history ? k + 1 : s->history;
    struct tensor dots = solver_rows(s, &s->dots), alpha = solver_rows(s, &s->coef);
    struct tensor f_hist = solver_rows(s, &s->hist[0]), g_hist = solver_rows(s, &s->hist[1]);
    struct tensor ended = solver_ended(s);
    struct row_dots products = {
        .dots = dots, .x = s->g, .hist = g_hist, .reason = ended, .count = count};
    op_row_dots(s->be, &products);
    solver_mix(s, &dots);
    struct anderson_weights weights = {.alpha = alpha,
                                       .gram = solver_rows(s, &s->gram),
                                       .dots = dots,
                                       .len = solver_rows(s, &s->len),
                                       .restarts = solver_rows(s, &s->restarts),
                                       .slot = k % s->history,
                                       .count = count,
                                       .ridge = s->config.ridge,
                                       .relative = s->config.ridge_mode == RIDGE_REL,
                                       .reason = ended};
    op_anderson_weights(s->be, &weights);
    double beta = s->config.damping;
    struct row_combine step = {.out = s->z,
                               .coef = alpha,
                               .hist = f_hist,
                               .reason = solver_rows(s, &s->reason),
                               .count = count,
                               .c = 1};
    if (beta != 1.0) {
        step.hist2 = g_hist;
        step.c2 = beta - 1.0;
    }
    op_row_combine(s->be, &step);
    return STATUS_OK;
}

const struct method anderson_method = {
    .history_tensors = 2,
    .leaves_ended = true,
    .floor = 1e-5,
    .declare = declare,
    .begin = begin,
    .place = place,
    .advance = advance,
};
