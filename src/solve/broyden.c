/* Broyden's method ("good" update) for g(z) = f(z) - z = 0, one vector an iteration.
 *
 * The method keeps an inverse Jacobian B = -I + sum_j u_j v_j^T with step d = -B g, v = B^T d,
 * u = (d - B dg) / (v . dg) ("good Broyden"). Since B_k g_k is known, the update is a product, and
 * the steps taken say everything about it (Kelley, Iterative Methods for Linear and Nonlinear
 * Equations, 1995, section 7.3): with s_j the step taken from iterate j, a_j its length,
 *   B_{k+1} = A_k ... A_0 (-I),   A_j x = x + (s_j . x) / (s_j . s_j) (a_j / a_{j+1} s_{j+1}
 *                                         - (1 - a_j) s_j)
 * and, with x = A_{k-1} ... A_0 g and t = (s_k . x) / (s_k . s_k), the next direction is
 *   d = (x - (1 - a_k) t s_k) / (1 - a_k t).
 * So the history holds m + 1 steps where the pairs (u, v) would be 2 m vectors, and each is read
 * twice an iteration. All inner products are summed over the mixing scope. A full history is
 * dropped. */
#include "solve/solver_impl.h"

#include <math.h>

enum { WORK_F, WORK_G, WORK_START, WORK_TRIAL }; /* the last two for the line search */

static void place(struct solver *s, int64_t k)
{
    (void)k;
    s->f = solver_rows(s, &s->work[WORK_F]);
    s->g = solver_rows(s, &s->work[WORK_G]);
}

/* Step j as a history of one: [1,N,D]. */
static struct tensor step_slot(const struct solver *s, int64_t j)
{
    struct tensor hist = solver_rows(s, &s->hist[0]);
    return tensor_slice(&hist, j, 1);
}

static struct tensor as_rows(const struct solver *s, const struct tensor *slot)
{
    return tensor_shape(slot, 2, s->rows, s->width, 1, 1);
}

/* s_j . s_j of every row. */
static struct tensor square_of(const struct solver *s, int64_t j)
{
    struct tensor all = tensor_prefix(&s->squares, 2, s->squares.dim[0], s->rows, 1, 1);
    struct tensor one = tensor_slice(&all, j, 1);
    return tensor_shape(&one, 1, s->rows, 1, 1, 1);
}

/* dots[n] = x . step over the mixing scope. */
static void dot_step(const struct solver *s, const struct tensor *dots, const struct tensor *x,
                     const struct tensor *slot)
{
    op_row_dots(s->be, dots, x, slot, 1, NULL);
    solver_mix(s, dots);
}

/* ratio[n] = (s_j . x) / (s_j . s_j); 0 where the scope has not moved. */
static struct tensor along_step(const struct solver *s, const struct tensor *x, int64_t j)
{
    struct tensor ratio = solver_rows(s, &s->ratio), square = square_of(s, j);
    struct tensor slot = step_slot(s, j), ignored = solver_rows(s, &s->len);
    dot_step(s, &ratio, x, &slot);
    op_row_divide(s->be, &ratio, &square, &ignored);
    return ratio;
}

/* x <- A_j x in place. */
static void apply_update(const struct solver *s, const struct tensor *x, int64_t j)
{
    double a = s->step_length[j], next = s->step_length[j + 1];
    struct row_combine p = {.out = *x,
                            .x = *x,
                            .coef = along_step(s, x, j),
                            .hist = step_slot(s, j + 1),
                            .count = 1,
                            .a = 1,
                            .c = a / next};
    if (a != 1) {
        p.hist2 = step_slot(s, j);
        p.c2 = a - 1;
    }
    op_row_combine(s->be, &p);
}

/* The direction from x = A ... A g, which is the residual's buffer, into the next slot: d = x + e
 * (x - (1 - a) / a s), e = a t / (1 - a t). A row without a finite e takes x: that update is left
 * out. Rows that have ended do not move: their step is 0 in the sums of others. */
static void next_direction(struct solver *s, const struct tensor *x)
{
    struct backend *be = s->be;
    int64_t last = s->count.steps - 1;
    struct tensor slot = step_slot(s, s->count.steps), step = as_rows(s, &slot);
    struct row_combine p = {
        .out = step, .x = *x, .reason = solver_rows(s, &s->reason), .a = 1, .c = 1};
    op_fill(be, &step, 0);
    if (last >= 0) {
        double a = s->step_length[last];
        struct tensor e = along_step(s, x, last), denom = solver_rows(s, &s->denom);
        struct tensor by = tensor_shape(&denom, 1, s->rows, 1, 1, 1);
        struct tensor restarts = solver_rows(s, &s->restarts);
        op_fill(be, &denom, 1);
        op_axpby(be, &denom, -a, &e, 1);
        op_axpby(be, &e, 0, &denom, a);
        op_row_divide(be, &e, &by, &restarts);
        p.coef = e;
        p.hist = tensor_shape(x, 3, 1, s->rows, s->width, 1);
        p.count = 1;
        if (a != 1) {
            p.hist2 = step_slot(s, last);
            p.c2 = (a - 1) / a;
        }
    }
    op_row_combine(be, &p);
    s->step_length[s->count.steps++] = 1;
}

/* ||g(z + a step)||^2 over the whole batch; f is left in s->f, the residual in `g`. */
static enum status try_step(struct solver *s, const struct tensor *start, const struct tensor *g,
                            double a, double *phi, struct error *err)
{
    struct tensor slot = step_slot(s, s->count.steps - 1), step = as_rows(s, &slot);
    struct tensor norms = solver_rows(s, &s->norms);
    struct tensor total = tensor_slice(&s->trace, s->count.iterates, 1);
    double sums[2];
    op_copy(s->be, &s->z, start);
    op_axpby(s->be, &s->z, a, &step, 1);
    TRY(solver_call(s, &s->z, &s->f, err));
    op_solve_residual(s->be, g, &s->f, &s->z, &norms, &total, NULL);
    op_download(s->be, sums, DTYPE_F64, &total);
    *phi = sums[0];
    return STATUS_OK;
}

/* The step as taken: what the next update is made of. */
static enum status take_step(struct solver *s, const struct tensor *start, double a)
{
    struct tensor slot = step_slot(s, s->count.steps - 1), step = as_rows(s, &slot);
    op_axpby(s->be, &step, 0, start, a);
    s->step_length[s->count.steps - 1] = a;
    return STATUS_OK;
}

/* Armijo's rule on phi(a) = ||g(z + a step)||^2 with phi'(0) taken as -phi(0): quadratic, then
 * cubic interpolation; the full step if nothing passes. Leaves f at the new z in s->f. */
static enum status search_line(struct solver *s, double phi0, struct error *err)
{
    const double c1 = 1e-4, smallest = 1e-2;
    struct tensor start = solver_rows(s, &s->work[WORK_START]);
    struct tensor g = solver_rows(s, &s->work[WORK_TRIAL]);
    double slope = -phi0, a0 = 1, a1, phi_a0, phi_a1;
    op_copy(s->be, &start, &s->z);
    s->have_f = true;
    TRY(try_step(s, &start, &g, a0, &phi_a0, err));
    if (phi_a0 <= phi0 + c1 * a0 * slope)
        return STATUS_OK; /* the full step */
    a1 = -slope * a0 * a0 / (2 * (phi_a0 - phi0 - slope * a0));
    TRY(try_step(s, &start, &g, a1, &phi_a1, err));
    if (phi_a1 <= phi0 + c1 * a1 * slope)
        return take_step(s, &start, a1);
    while (a1 > smallest) {
        double factor = a0 * a0 * a1 * a1 * (a1 - a0);
        double r1 = phi_a1 - phi0 - slope * a1, r0 = phi_a0 - phi0 - slope * a0;
        double a = (a0 * a0 * r1 - a1 * a1 * r0) / factor;
        double b = (-a0 * a0 * a0 * r1 + a1 * a1 * a1 * r0) / factor;
        double a2 = (-b + sqrt(fabs(b * b - 3 * a * slope))) / (3 * a), phi_a2;
        TRY(try_step(s, &start, &g, a2, &phi_a2, err));
        if (a2 != 0 && phi_a2 <= phi0 + c1 * a2 * slope)
            return take_step(s, &start, a2);
        if (a1 - a2 > a1 / 2 || 1 - a2 / a1 < 0.96)
            a2 = a1 / 2;
        a0 = a1;
        a1 = a2;
        phi_a0 = phi_a1;
        phi_a1 = phi_a2;
    }
    return try_step(s, &start, &g, 1, &phi_a0, err);
}

static enum status advance(struct solver *s, int64_t k, struct error *err)
{
    if (s->count.steps > s->history) {
        s->count.steps = 0;
        s->count.dropped++;
    }
    if (s->count.steps > 0) { /* the last step as it was taken */
        struct tensor slot = step_slot(s, s->count.steps - 1), step = as_rows(s, &slot);
        struct tensor square = square_of(s, s->count.steps - 1);
        struct tensor column = tensor_shape(&square, 2, s->rows, 1, 1, 1);
        dot_step(s, &column, &step, &slot);
    }
    for (int64_t j = 0; j + 1 < s->count.steps; j++)
        apply_update(s, &s->g, j);
    next_direction(s, &s->g);
    if (s->config.line_search) {
        double sums[2];
        struct tensor total = tensor_slice(&s->trace, k, 1);
        op_download(s->be, sums, DTYPE_F64, &total);
        return search_line(s, sums[0], err);
    }
    struct tensor slot = step_slot(s, s->count.steps - 1), step = as_rows(s, &slot);
    op_axpby(s->be, &s->z, 1, &step, 1);
    return STATUS_OK;
}

const struct method broyden_method = {.work_tensors = 2,
                                      .search_tensors = 2,
                                      .history_tensors = 1,
                                      .history_extra = 1,
                                      .place = place,
                                      .advance = advance};
