/* Broyden's method ("good" update) for g(z) = f(z) - z = 0 with the inverse Jacobian kept as
 * B = -I + sum_j u_j v_j^T (model-spec 5.1):
 *   step d = -B g ;  v = B^T d ;  u = (d - B dg) / (v . dg)
 * All inner products are summed over the mixing scope. A full history is dropped. */
#include "solve/solver_impl.h"

#include <math.h>

enum { WORK_F, WORK_G0, WORK_G1, WORK_STEP };
enum { HIST_U, HIST_V };

static void place(struct solver *s, int64_t k)
{
    s->f = solver_rows(s, &s->work[WORK_F]);
    s->g = solver_rows(s, &s->work[k % 2 == 0 ? WORK_G0 : WORK_G1]);
}

static struct tensor pair_slot(const struct solver *s, int which, int64_t j)
{
    struct tensor hist = solver_rows(s, &s->hist[which]);
    struct tensor one = tensor_slice(&hist, j, 1);
    return tensor_shape(&one, 2, s->rows, s->width, 1, 1);
}

/* out = a x + b y + c sum_{j < count} coef_j hist_j on the rows that `reason` lets pass. */
static void combine(const struct solver *s, const struct tensor *out, double a,
                    const struct tensor *x, double b, const struct tensor *y, double c,
                    const struct tensor *coef, int which, int64_t count,
                    const struct tensor *reason)
{
    struct row_combine p = {.out = *out,
                            .x = *x,
                            .coef = *coef,
                            .hist = solver_rows(s, &s->hist[which]),
                            .count = count,
                            .a = a,
                            .b = b,
                            .c = c};
    if (y != NULL)
        p.y = *y;
    if (reason != NULL)
        p.reason = *reason;
    op_row_combine(s->be, &p);
}

/* dots_j = x . hist_j over the mixing scope. */
static void dots_with(const struct solver *s, const struct tensor *dots, const struct tensor *x,
                      int which, int64_t count)
{
    struct tensor hist = solver_rows(s, &s->hist[which]);
    op_row_dots(s->be, dots, x, &hist, count);
    solver_mix(s, dots);
}

/* Appends the pair that belongs to the last step; s->dots ends as V^T g, the new pair included. */
static void append_pair(struct solver *s, const struct tensor *g_old)
{
    struct backend *be = s->be;
    int64_t c = s->count.pairs;
    struct tensor step = solver_rows(s, &s->work[WORK_STEP]);
    struct tensor dots = solver_rows(s, &s->dots), old = solver_rows(s, &s->dots_old);
    struct tensor diff = solver_rows(s, &s->dots_diff), denom = solver_rows(s, &s->denom);
    struct tensor u = pair_slot(s, HIST_U, c), v = pair_slot(s, HIST_V, c);

    dots_with(s, &dots, &step, HIST_U, c);
    combine(s, &v, -1, &step, 0, NULL, 1, &dots, HIST_V, c, NULL);

    op_axpby(be, g_old, 1, &s->g, -1); /* g_old <- dg */
    dots_with(s, &dots, &s->g, HIST_V, c + 1);
    op_copy(be, &diff, &dots);
    op_axpby(be, &diff, -1, &old, 1); /* V^T dg, for the pairs there were */
    combine(s, &u, 1, &step, 1, g_old, -1, &diff, HIST_U, c, NULL);

    struct tensor v_hist = tensor_shape(&v, 3, 1, s->rows, s->width, 1);
    op_row_dots(be, &denom, g_old, &v_hist, 1);
    solver_mix(s, &denom);
    struct tensor by = tensor_shape(&denom, 1, s->rows, 1, 1, 1);
    struct tensor restarts = solver_rows(s, &s->restarts);
    op_row_divide(be, &u, &by, &restarts);
    s->count.pairs++;
}

/* ||g(z + a step)||^2 over the whole batch; f is left in s->f, the residual in `g`. */
static enum status try_step(struct solver *s, const struct tensor *start, const struct tensor *g,
                            double a, double *phi, struct error *err)
{
    struct tensor step = solver_rows(s, &s->work[WORK_STEP]);
    struct tensor norms = solver_rows(s, &s->norms);
    struct tensor total = tensor_slice(&s->trace, s->count.iterates, 1);
    double sums[2];
    op_copy(s->be, &s->z, start);
    op_axpby(s->be, &s->z, a, &step, 1);
    TRY(solver_call(s, &s->z, &s->f, err));
    op_solve_residual(s->be, g, &s->f, &s->z, &norms, &total);
    op_download(s->be, sums, DTYPE_F64, &total);
    *phi = sums[0];
    return STATUS_OK;
}

/* The step as taken: what the next pair is made of. */
static enum status take_step(struct solver *s, const struct tensor *start, double a)
{
    struct tensor step = solver_rows(s, &s->work[WORK_STEP]);
    op_axpby(s->be, &step, 0, start, a);
    return STATUS_OK;
}

/* Armijo's rule on phi(a) = ||g(z + a step)||^2 with phi'(0) taken as -phi(0): quadratic, then
 * cubic interpolation; the full step if nothing passes. Leaves f at the new z in s->f. */
static enum status search_line(struct solver *s, int64_t k, double phi0, struct error *err)
{
    const double c1 = 1e-4, smallest = 1e-2;
    /* free until the next pair is appended, or the full history dropped */
    struct tensor start = pair_slot(s, HIST_V, s->count.pairs % s->history);
    struct tensor g = solver_rows(s, &s->work[k % 2 == 0 ? WORK_G1 : WORK_G0]);
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
        if (phi_a2 <= phi0 + c1 * a2 * slope)
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
    struct backend *be = s->be;
    struct tensor step = solver_rows(s, &s->work[WORK_STEP]), reason = solver_rows(s, &s->reason);
    struct tensor dots = solver_rows(s, &s->dots), old = solver_rows(s, &s->dots_old);
    struct tensor g_old = solver_rows(s, &s->work[k % 2 == 0 ? WORK_G1 : WORK_G0]);
    if (k > 0) {
        if (s->count.pairs == s->history) {
            s->count.pairs = 0;
            s->count.dropped++;
        } else {
            append_pair(s, &g_old);
        }
    }
    /* rows that have ended do not move: their step is 0 in the sums of others */
    op_fill(be, &step, 0);
    combine(s, &step, 1, &s->g, 0, NULL, -1, &dots, HIST_U, s->count.pairs, &reason);
    op_copy(be, &old, &dots);
    if (s->config.line_search) {
        double sums[2];
        struct tensor total = tensor_slice(&s->trace, k, 1);
        op_download(be, sums, DTYPE_F64, &total);
        return search_line(s, k, sums[0], err);
    }
    op_axpby(be, &s->z, 1, &step, 1);
    return STATUS_OK;
}

const struct method broyden_method = {
    .work_tensors = 4, .history_tensors = 2, .place = place, .advance = advance};
