/* Broyden's method ("good" update) for g(z) = f(z) - z = 0, one vector an iteration.
 *
 * The method keeps an inverse Jacobian B = -I + sum_j u_j v_j^T with step d = -B g, v = B^T d,
 * u = (d - B dg) / (v . dg) ("good Broyden"). Since B_k g_k is known, the update is a product, and
 * the steps say everything about it (Kelley, Iterative Methods for Linear and Nonlinear Equations,
 * 1995, section 7.3). With d_j the step from iterate j, of which the part a_j was taken (1 without
 * a line search), his formula for the steps as taken, a_j d_j, becomes
 *   B_{k+1} = A_k ... A_0 (-I),   A_j x = x + rho_j (d_{j+1} - (1 - a_j) d_j),
 *                                 rho_j = (d_j . x) / (d_j . d_j)
 * and, with x = A_{k-1} ... A_0 g, the next step is d_{k+1} = (x - (1 - a_k) rho_k d_k) /
 * (1 - rho_k).
 *
 * x is g and a combination of d_0 .. d_k all along, so inner products with g and those among the
 * d_j tell all its coefficients beforehand (struct broyden_weights): an iteration reads the history
 * once for the inner products of g and of the newest step, and once for the combination. All of
 * them are summed over the mixing scope. A row's coefficients are those of its own sums, as if they
 * held for every row of its scope. A history of m + 1 slots holds the steps, and the residual in
 * the slot of the next one, which takes its place. A full history is dropped. */
#include "solver/solver_impl.h"

#include <math.h>
#include <string.h>

enum { WORK_F, WORK_START, WORK_TRIAL }; /* the last two for the line search */

/* Rows with the same sums share a Gram matrix. They are those of a sequence, or each has its own.
 */
static int64_t gram_groups(const struct solver *s, int64_t batch, int64_t rows)
{
    return solver_mixing_scope(s) == SCOPE_SEQUENCE ? batch : rows;
}

static void declare(struct solver *s)
{
    enum dtype real = s->be->ops->real;
    int64_t n = s->batch * s->length, m = s->history, groups = gram_groups(s, s->batch, n);
    struct tensor dots = tensor_make(NULL, real, 2, n, 2 * m, 1, 1);
    struct tensor coef = tensor_make(NULL, real, 2, n, m + 1, 1, 1);
    struct tensor gram = tensor_make(NULL, real, 2, groups, m * (m + 1) / 2, 1, 1);
    solver_declare(s, &s->dots, "inner products", false, &dots);
    solver_declare(s, &s->coef, "coefficients", false, &coef);
    solver_declare(s, &s->gram, "Gram matrices", false, &gram);
}

static bool is_full(const struct solver *s)
{
    return s->count.steps > s->history;
}

/* The first `count` steps, [count,N,D]. */
static struct tensor steps_kept(const struct solver *s, int64_t count)
{
    struct tensor hist = solver_rows(s, &s->hist[0]);
    return tensor_slice(&hist, 0, count);
}

/* Step j [N,D]. */
static struct tensor step_at(const struct solver *s, int64_t j)
{
    struct tensor hist = solver_rows(s, &s->hist[0]), slot = tensor_slice(&hist, j, 1);
    return tensor_shape(&slot, 2, s->rows, s->width, 1, 1);
}

static void place(struct solver *s, int64_t k)
{
    (void)k;
    s->f = solver_rows(s, &s->work[WORK_F]);
    s->g = step_at(s, is_full(s) ? 0 : s->count.steps);
}

/* The coefficients [N,count + 1] of the steps kept and of the residual. */
static struct tensor weigh_steps(struct solver *s, int64_t count)
{
    int64_t groups = gram_groups(s, s->b, s->rows);
    struct tensor coef = tensor_prefix(&s->coef, 2, s->rows, count + 1, 1, 1);
    struct row_dots dots = {.dots = tensor_prefix(&s->dots, 3, s->rows, 2, count, 1),
                            .x = s->g,
                            .y = step_at(s, count - 1),
                            .hist = steps_kept(s, count),
                            .count = count};
    op_row_dots(s->be, &dots);
    struct tensor sums = tensor_shape(&dots.dots, 2, s->rows, 2 * count, 1, 1);
    solver_mix(s, &sums);
    struct broyden_weights weights = {.coef = coef,
                                      .gram =
                                          tensor_prefix(&s->gram, 2, groups, s->gram.dim[1], 1, 1),
                                      .dots = dots.dots,
                                      .restarts = solver_rows(s, &s->restarts),
                                      .count = count};
    memcpy(weights.lengths, s->step_length, (size_t)count * sizeof *s->step_length);
    op_broyden_weights(s->be, &weights);
    return coef;
}

/* Puts the next step in place of the residual, and takes it without a line search. Rows that have
 * ended do not move. Their step is 0 in the sums of others. */
static void next_step(struct solver *s)
{
    int64_t count = s->count.steps;
    struct row_combine p = {.out = s->g, .reason = solver_rows(s, &s->reason), .clear = true};
    if (count == 0) {
        p.x = s->g;
        p.a = 1;
    } else {
        p.coef = weigh_steps(s, count);
        p.hist = steps_kept(s, count + 1);
        p.count = count + 1;
        p.c = 1;
    }
    if (!s->config.line_search)
        p.sum = s->z;
    op_row_combine(s->be, &p);
    s->step_length[s->count.steps++] = 1;
}

/* ||g(z + a step)||^2 over the whole batch. f is left in s->f, the residual in `g`. */
static enum status try_step(struct solver *s, const struct tensor *start, const struct tensor *g,
                            double a, double *phi, struct error *err)
{
    struct tensor step = step_at(s, s->count.steps - 1), norms = solver_rows(s, &s->norms);
    struct tensor total = tensor_slice(&s->trace, s->count.iterates, 1);
    double sums[2];
    op_copy(s->be, &s->z, start);
    op_axpby(s->be, &s->z, a, &step, 1);
    TRY(solver_call(s, &s->z, &s->f, err));
    op_solve_residual(s->be, &(struct solve_residual){
                                 .g = *g, .f = s->f, .z = s->z, .norms = norms, .total = total});
    op_download(s->be, sums, DTYPE_F64, &total);
    *phi = sums[0];
    return STATUS_OK;
}

/* Armijo's rule on phi(a) = ||g(z + a step)||^2 with phi'(0) taken as -phi(0), by quadratic, then
 * cubic interpolation. Takes the full step if nothing passes. Leaves f at the new z in s->f, and
 * the part of the step that was taken in *length. */
static enum status search_line(struct solver *s, double phi0, double *length, struct error *err)
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
    *length = a1;
    if (phi_a1 <= phi0 + c1 * a1 * slope)
        return STATUS_OK;
    while (a1 > smallest) {
        double factor = a0 * a0 * a1 * a1 * (a1 - a0);
        double r1 = phi_a1 - phi0 - slope * a1, r0 = phi_a0 - phi0 - slope * a0;
        double a = (a0 * a0 * r1 - a1 * a1 * r0) / factor;
        double b = (-a0 * a0 * a0 * r1 + a1 * a1 * a1 * r0) / factor;
        double a2 = (-b + sqrt(fabs(b * b - 3 * a * slope))) / (3 * a), phi_a2;
        TRY(try_step(s, &start, &g, a2, &phi_a2, err));
        *length = a2;
        if (a2 != 0 && phi_a2 <= phi0 + c1 * a2 * slope)
            return STATUS_OK;
        if (a1 - a2 > a1 / 2 || 1 - a2 / a1 < 0.96)
            a2 = a1 / 2;
        a0 = a1;
        a1 = a2;
        phi_a0 = phi_a1;
        phi_a1 = phi_a2;
    }
    *length = 1;
    return try_step(s, &start, &g, *length, &phi_a0, err);
}

static enum status advance(struct solver *s, int64_t k, struct error *err)
{
    if (is_full(s)) {
        s->count.steps = 0;
        s->count.dropped++;
    }
    next_step(s);
    if (!s->config.line_search)
        return STATUS_OK;
    double sums[2];
    struct tensor total = tensor_slice(&s->trace, k, 1);
    op_download(s->be, sums, DTYPE_F64, &total);
    return search_line(s, sums[0], &s->step_length[s->count.steps - 1], err);
}

const struct method broyden_method = {
    .work_tensors = 1,
    .search_tensors = 2,
    .history_tensors = 1,
    .history_extra = 1,
    .floor = 1e-9,
    .declare = declare,
    .place = place,
    .advance = advance,
};
