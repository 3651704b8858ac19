/* The vector-Jacobian products of the reference backend against central finite differences, each
 * partial derivative by itself, and along a random direction: <Jv, u> = <v, J^T u>. With a step of
 * 1e-5 the truncation is of order 1e-10 and the rounding 1e-16 / 1e-5, so 1e-6 is wide. */
#include "backend/problem.h"

static void check_partials(struct problem *pr, const struct input *in)
{
    double *x = in->x.data, *grad = in->grad.data, err2 = 0, norm2 = 0;
    for (int64_t i = 0; i < tensor_count(&in->x); i++) {
        double at = x[i];
        x[i] = at + step;
        double up = pr->loss(pr);
        x[i] = at - step;
        double down = pr->loss(pr);
        x[i] = at;
        double slope = (up - down) / (2 * step);
        err2 += (slope - grad[i]) * (slope - grad[i]);
        norm2 += slope * slope;
    }
    if (!(sqrt(err2) <= 1e-6 * sqrt(norm2)))
        fail_msg("gradient of %s: relative error %.3g", in->name, sqrt(err2 / norm2));
}

static void check_direction(struct problem *pr)
{
    double loss[2], want = 0;
    struct tensor v[INPUTS];
    for (int k = 0; k < pr->inputs; k++) {
        const struct tensor *x = &pr->in[k].x;
        v[k] = random_tensor(pr, x->dim[0], x->dim[1], x->dim[2]);
        want += dot(&v[k], &pr->in[k].grad);
    }
    for (int side = 0; side < 2; side++) {
        for (int k = 0; k < pr->inputs; k++)
            op_axpby(&pr->be, &pr->in[k].x, side == 0 ? step : -2 * step, &v[k], 1);
        loss[side] = pr->loss(pr);
    }
    double got = (loss[0] - loss[1]) / (2 * step);
    if (!(fabs(got - want) <= 1e-6 * fabs(want)))
        fail_msg("<Jv,u> = %.12g but <v,J^T u> = %.12g", got, want);
}

static void check_problem(struct problem *pr)
{
    for (int k = 0; k < pr->inputs; k++)
        check_partials(pr, &pr->in[k]);
    check_direction(pr);
    for (int k = 0; k < pr->tensors; k++)
        op_release(&pr->be, &pr->owned[k]);
    backend_close(&pr->be);
}

/* --- residual and normalisation: u goes into y, w directly into the sum --------------------- */
struct norm_call {
    struct residual_norm p;
    struct tensor u, w;
};

static double norm_loss(struct problem *pr)
{
    const struct norm_call *c = pr->call;
    op_residual_norm(&pr->be, &c->p);
    double loss = dot(&c->w, &c->p.sum);
    return c->p.kind == NORM_NONE ? loss : loss + dot(&c->u, &c->p.y);
}

static void norm_gradient(enum norm_kind kind, bool gained, int64_t width)
{
    enum { ROWS = 6, SHARE = 3 };
    struct problem pr;
    problem_open(&pr, 11);
    struct tensor a = matrix(random_tensor(&pr, 1, ROWS, width));
    struct tensor res = random_tensor(&pr, 1, ROWS, width);
    struct tensor bias = random_tensor(&pr, 1, 1, width), gain = random_tensor(&pr, 1, 1, width);
    struct tensor none = {0}, mask = random_tensor(&pr, 1, ROWS / SHARE, width);
    struct norm_call c = {.u = random_tensor(&pr, 1, ROWS, width),
                          .w = random_tensor(&pr, 1, ROWS, width)};
    c.p = (struct residual_norm){.a = a,
                                 .bias = bias,
                                 .mask = mask,
                                 .res = res,
                                 .gain = gained ? gain : none,
                                 .sum = zero_tensor(&pr, 1, ROWS, width),
                                 .y = zero_tensor(&pr, 1, ROWS, width),
                                 .xhat = zero_tensor(&pr, 1, ROWS, width),
                                 .rstd = zero_tensor(&pr, 1, 1, ROWS),
                                 .rows_per_mask = SHARE,
                                 .kind = kind,
                                 .eps = 1e-2};
    if (kind == NORM_NONE)
        c.p.y = none;
    pr.call = &c;
    pr.loss = norm_loss;
    (void)norm_loss(&pr);
    struct residual_norm_vjp v = {.dy = c.u,
                                  .dsum = c.w,
                                  .xhat = c.p.xhat,
                                  .rstd = c.p.rstd,
                                  .gain = c.p.gain,
                                  .mask = mask,
                                  .ds = matrix(gradient_of(&pr, "res", res)),
                                  .da = gradient_of(&pr, "a", a),
                                  .rows_per_mask = SHARE,
                                  .kind = kind};
    if (gained)
        v.dgain = gradient_of(&pr, "gain", gain);
    op_residual_norm_vjp(&pr.be, &v);
    struct tensor dbias = gradient_of(&pr, "bias", bias), da = matrix(v.da);
    op_col_sum(&pr.be, &dbias, &da);
    check_problem(&pr);
}

static void norm_gradients(void **state)
{
    for (int64_t width = 2; width <= 9; width += 7) {
        norm_gradient(NORM_NONE, false, width);
        norm_gradient(NORM_LAYER, false, width);
        norm_gradient(NORM_RMS, false, width);
        norm_gradient(NORM_RMS, true, width);
    }
    (void)state;
}

/* --- hidden layer of a feed-forward network ----------------------------------------------------
 */
struct hidden_call {
    struct ffn_up p;
    struct tensor out, y, u; /* y = h out^T */
};

static double hidden_loss(struct problem *pr)
{
    const struct hidden_call *c = pr->call;
    op_ffn_up(&pr->be, &c->p);
    op_gemm(&pr->be,
            &(struct gemm){.trans_b = true, .alpha = 1, .a = c->p.h, .b = c->out, .c = c->y});
    return dot(&c->u, &c->y);
}

static void hidden_gradients(void **state)
{
    enum { N = 4, D = 3, I = 7 };
    struct problem pr;
    problem_open(&pr, 12);
    struct hidden_call c = {.p = {.x = matrix(random_tensor(&pr, 1, N, D)),
                                  .w = matrix(random_tensor(&pr, 1, I, D)),
                                  .bias = random_tensor(&pr, 1, 1, I),
                                  .mask = random_tensor(&pr, 1, 2, I),
                                  .h = matrix(zero_tensor(&pr, 1, N, I)),
                                  .rows_per_mask = 2,
                                  .mask_scale = 1.5},
                            .out = matrix(random_tensor(&pr, 1, D, I)),
                            .y = matrix(zero_tensor(&pr, 1, N, D)),
                            .u = matrix(random_tensor(&pr, 1, N, D))};
    for (int64_t i = 0; i < tensor_count(&c.p.mask); i++)
        ((double *)c.p.mask.data)[i] = i % 3 == 0 ? 0 : 1.5;
    pr.call = &c;
    pr.loss = hidden_loss;
    (void)hidden_loss(&pr);
    struct tensor dx = matrix(gradient_of(&pr, "x", c.p.x));
    struct tensor dw = matrix(gradient_of(&pr, "w", c.p.w));
    struct tensor dbias = gradient_of(&pr, "bias", c.p.bias);
    struct tensor dh = matrix(zero_tensor(&pr, 1, N, I));
    struct ffn_up_vjp back = {.dy = c.u,
                              .w = c.out,
                              .mask = c.p.mask,
                              .h = c.p.h,
                              .dh = dh,
                              .rows_per_mask = 2,
                              .mask_scale = 1.5};
    op_ffn_up_vjp(&pr.be, &back);
    op_gemm(&pr.be, &(struct gemm){.alpha = 1, .a = dh, .b = c.p.w, .c = dx});
    op_gemm(&pr.be, &(struct gemm){.trans_a = true, .alpha = 1, .a = dh, .b = c.p.x, .c = dw});
    op_col_sum(&pr.be, &dbias, &dh);
    check_problem(&pr);
    (void)state;
}

/* --- attention ------------------------------------------------------------------------------ */
struct attention_call {
    struct attention p;
    struct tensor u;
};

static double attention_loss(struct problem *pr)
{
    const struct attention_call *c = pr->call;
    op_attention(&pr->be, &c->p);
    return dot(&c->u, &c->p.out);
}

static void attention_gradient(int64_t len, int64_t mem, int64_t span, bool masked)
{
    struct problem pr;
    problem_open(&pr, 13);
    struct attention_call c = {.p = random_attention(&pr, len, mem, span, masked)};
    c.u = random_tensor(&pr, ATT_BATCH, len, ATT_WIDTH);
    pr.call = &c;
    pr.loss = attention_loss;
    (void)attention_loss(&pr);
    struct tensor rk = tensor_shape(&c.p.rk, 3, 1, c.p.rk.dim[0], ATT_WIDTH, 1);
    struct attention_vjp v = {.fwd = c.p, .dout = c.u};
    v.dqkv = gradient_of(&pr, "qkv", c.p.qkv);
    v.drk = gradient_of(&pr, "rk", rk);
    v.dr_w = gradient_of(&pr, "r_w", c.p.r_w);
    v.dr_r = gradient_of(&pr, "r_r", c.p.r_r);
    if (mem > 0)
        v.dmem = gradient_of(&pr, "mem", c.p.mem);
    op_attention_vjp(&pr.be, &v);
    check_problem(&pr);
}

static void attention_gradients(void **state)
{
    attention_gradient(1, 0, 0, false);
    attention_gradient(5, 0, 0, true);
    attention_gradient(1, 4, 0, true);
    attention_gradient(5, 3, 0, true);
    attention_gradient(5, 3, 4, true);
    attention_gradient(5, 3, 2, false);
    (void)state;
}

/* --- gates of the trellis cell ---------------------------------------------------------------- */
struct gate_call {
    struct lstm_cell p;
    struct tensor x, u;
};

static double gate_loss(struct problem *pr)
{
    const struct gate_call *c = pr->call;
    op_copy(&pr->be, &c->p.pre, &c->x);
    op_lstm_cell(&pr->be, &c->p);
    return dot(&c->u, &c->p.out);
}

/* The h part of z is not the gate's: its gradient is nobody's here, and z enters by c only. */
static void gate_gradient(int64_t len, int64_t rows, bool start)
{
    enum { BATCH = 2, HALF = 3 };
    struct problem pr;
    problem_open(&pr, 16);
    struct gate_call c = {.x = random_tensor(&pr, BATCH, rows, 4 * HALF),
                          .u = random_tensor(&pr, BATCH, len, 2 * HALF)};
    c.p = (struct lstm_cell){.pre = zero_tensor(&pr, BATCH, rows, 4 * HALF),
                             .u = random_tensor(&pr, BATCH, rows, 4 * HALF),
                             .bias = random_tensor(&pr, 1, 1, 4 * HALF),
                             .z = random_tensor(&pr, BATCH, len, 2 * HALF),
                             .out = zero_tensor(&pr, BATCH, len, 2 * HALF)};
    if (start)
        c.p.c0 = matrix(random_tensor(&pr, 1, BATCH, HALF));
    pr.call = &c;
    pr.loss = gate_loss;
    (void)gate_loss(&pr);
    struct lstm_cell_vjp v = {.gates = zero_tensor(&pr, BATCH, rows, 4 * HALF),
                              .z = c.p.z,
                              .c0 = c.p.c0,
                              .out = c.p.out,
                              .dout = c.u};
    op_copy(&pr.be, &v.gates, &c.p.pre);
    v.dpre = gradient_of(&pr, "pre", c.x);
    v.dz = gradient_of(&pr, "z", c.p.z);
    if (start) {
        struct tensor c0 = tensor_shape(&c.p.c0, 3, 1, BATCH, HALF, 1);
        v.dc0 = gradient_of(&pr, "c0", c0);
    }
    op_lstm_cell_vjp(&pr.be, &v);
    struct tensor dbias = gradient_of(&pr, "bias", c.p.bias), dpre = matrix(v.dpre);
    op_col_sum(&pr.be, &dbias, &dpre);
    check_problem(&pr);
}

static void gate_gradients(void **state)
{
    gate_gradient(1, 1, false);
    gate_gradient(4, 4, true);
    gate_gradient(4, 6, true);
    (void)state;
}

/* --- cross entropy, weight normalisation ------------------------------------------------------ */
struct xent_call {
    struct tensor x, bias, work, target, nll;
};

static double xent_loss(struct problem *pr)
{
    const struct xent_call *c = pr->call;
    struct softmax_xent p = {
        .logits = c->work, .bias = c->bias, .target = c->target, .nll = c->nll};
    op_copy(&pr->be, &c->work, &c->x);
    op_fill(&pr->be, &c->nll, 0);
    op_softmax_xent(&pr->be, &p);
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(&c->nll); i++)
        sum += ((double *)c->nll.data)[i];
    return 0.25 * sum;
}

static void xent_gradients(void **state)
{
    struct problem pr;
    problem_open(&pr, 14);
    int32_t targets[4] = {0, 4, 2, 4};
    struct xent_call c = {
        random_tensor(&pr, 1, 4, 5), random_tensor(&pr, 1, 1, 5), matrix(zero_tensor(&pr, 1, 4, 5)),
        tensor_make(targets, DTYPE_I32, 1, 4, 1, 1, 1), zero_tensor(&pr, 1, 1, 4)};
    pr.call = &c;
    pr.loss = xent_loss;
    struct tensor dx = matrix(gradient_of(&pr, "logits", c.x));
    op_copy(&pr.be, &dx, &c.x);
    struct softmax_xent p = {.logits = dx,
                             .bias = c.bias,
                             .target = c.target,
                             .nll = c.nll,
                             .gradient = true,
                             .scale = 0.25};
    op_softmax_xent(&pr.be, &p);
    struct tensor dbias = gradient_of(&pr, "bias", c.bias);
    op_col_sum(&pr.be, &dbias, &dx);
    check_problem(&pr);
    (void)state;
}

struct weight_call {
    struct tensor v, g, w, inv, u;
};

static double weight_loss(struct problem *pr)
{
    const struct weight_call *c = pr->call;
    op_weight_norm(&pr->be, &c->w, &c->inv, &c->v, &c->g);
    return dot(&c->u, &c->w);
}

static void weight_norm_gradients(void **state)
{
    struct problem pr;
    problem_open(&pr, 15);
    struct weight_call c = {matrix(random_tensor(&pr, 1, 4, 5)), random_tensor(&pr, 1, 1, 4),
                            zero_tensor(&pr, 1, 4, 5), zero_tensor(&pr, 1, 1, 4),
                            random_tensor(&pr, 1, 4, 5)};
    pr.call = &c;
    pr.loss = weight_loss;
    (void)weight_loss(&pr);
    struct tensor dv = gradient_of(&pr, "v", c.v), dg = gradient_of(&pr, "g", c.g);
    op_weight_norm_vjp(
        &pr.be,
        &(struct weight_norm_vjp){.dv = dv, .dg = dg, .dw = c.u, .v = c.v, .g = c.g, .inv = c.inv});
    check_problem(&pr);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_gradients),        cmocka_unit_test(hidden_gradients),
        cmocka_unit_test(attention_gradients),   cmocka_unit_test(xent_gradients),
        cmocka_unit_test(weight_norm_gradients), cmocka_unit_test(gate_gradients),
    };
    return cmocka_run_group_tests_name("gradients of ref", tests, NULL, NULL);
}
