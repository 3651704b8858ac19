/* Second derivatives of the reference backend: what the vjps give at x + e x_t, differentiated by
 * e, against central differences. */
#include "backend/problem.h"

static void expect_difference(const char *what, const struct tensor *up, const struct tensor *down,
                              const struct tensor *got)
{
    double err2 = 0, norm2 = 0;
    for (int64_t i = 0; i < tensor_count(got); i++) {
        double slope = (((double *)up->data)[i] - ((double *)down->data)[i]) / (2 * step);
        double off = slope - ((double *)got->data)[i];
        err2 += off * off;
        norm2 += slope * slope;
    }
    if (!(sqrt(err2) <= 1e-6 * sqrt(norm2)))
        fail_msg("derivative of %s: relative error %.3g", what, sqrt(err2 / norm2));
}

enum { ATT_OUTPUTS = 6 };

/* The outputs of attention and its vjp at the point the tensors stand at. */
static void attention_outputs(struct problem *pr, const struct attention *p,
                              const struct tensor *dout, struct tensor to[ATT_OUTPUTS])
{
    struct tensor *const shapes[ATT_OUTPUTS] = {(struct tensor *)&p->out, (struct tensor *)&p->qkv,
                                                (struct tensor *)&p->mem, (struct tensor *)&p->rk,
                                                (struct tensor *)&p->r_w, (struct tensor *)&p->r_r};
    for (int i = 0; i < ATT_OUTPUTS; i++) {
        to[i] = zero_tensor(pr, shapes[i]->dim[0], shapes[i]->dim[1], shapes[i]->dim[2]);
        to[i].ndim = shapes[i]->ndim;
    }
    op_attention(&pr->be, p);
    op_copy(&pr->be, &to[0], &p->out);
    struct attention_vjp v = {*p, *dout, to[1], to[2], to[3], to[4], to[5]};
    op_attention_vjp(&pr->be, &v);
}

static void attention_second(int64_t len, int64_t mem, int64_t span, bool masked)
{
    static const char *const names[ATT_OUTPUTS] = {"out", "dqkv", "dmem", "drk", "dr_w", "dr_r"};
    struct problem pr;
    problem_open(&pr, 17);
    struct attention p = random_attention(&pr, len, mem, span, masked);
    struct tensor dout = random_tensor(&pr, ATT_BATCH, len, ATT_WIDTH);
    struct tensor qkv_t = random_tensor(&pr, ATT_BATCH, len, 3 * ATT_WIDTH);
    struct tensor dout_t = random_tensor(&pr, ATT_BATCH, len, ATT_WIDTH);
    struct tensor side[3][ATT_OUTPUTS], got[ATT_OUTPUTS], plain, out_t;
    for (int k = 0; k < 3; k++) { /* up, down, and back in the middle */
        double by = k == 0 ? step : k == 1 ? -2 * step : step;
        op_axpby(&pr.be, &p.qkv, by, &qkv_t, 1);
        op_axpby(&pr.be, &dout, by, &dout_t, 1);
        attention_outputs(&pr, &p, &dout, side[k]);
    }
    for (int i = 0; i < ATT_OUTPUTS; i++) {
        got[i] = zero_tensor(&pr, side[0][i].dim[0], side[0][i].dim[1], side[0][i].dim[2]);
        got[i].ndim = side[0][i].ndim;
    }
    plain = zero_tensor(&pr, ATT_BATCH, len, 3 * ATT_WIDTH);
    out_t = zero_tensor(&pr, ATT_BATCH, len, ATT_WIDTH);
    struct attention_tangent t = {.fwd = p, .qkv_t = qkv_t, .out_t = out_t};
    op_attention_tangent(&pr.be, &t);
    t = (struct attention_tangent){p,      qkv_t,  got[0], dout,   dout_t, plain,
                                   got[1], got[2], got[3], got[4], got[5]};
    op_attention_tangent(&pr.be, &t);
    for (int i = 0; i < ATT_OUTPUTS; i++)
        expect_difference(names[i], &side[0][i], &side[1][i], &got[i]);
    expect_difference("out alone", &side[0][0], &side[1][0], &out_t);
    for (int64_t i = 0; i < tensor_count(&plain); i++)
        assert_true(fabs(((double *)plain.data)[i] - ((double *)side[2][1].data)[i]) <= 1e-12);
    for (int k = 0; k < pr.tensors; k++)
        op_release(&pr.be, &pr.owned[k]);
    backend_close(&pr.be);
}

static void attention_tangents(void **state)
{
    attention_second(5, 3, 0, false);
    attention_second(5, 3, 4, true);
    attention_second(2, 4, 2, true);
    (void)state;
}

static void norm_second(enum norm_kind kind, bool gained, int64_t width)
{
    enum { ROWS = 6, SHARE = 3 };
    struct problem pr;
    problem_open(&pr, 18);
    struct tensor none = {0}, a = matrix(random_tensor(&pr, 1, ROWS, width));
    struct tensor t[4][3], side[3][3]; /* dy, dsum, s_t ; results ds, da, dgain */
    struct tensor gain = random_tensor(&pr, 1, 1, width);
    struct tensor mask = random_tensor(&pr, 1, ROWS / SHARE, width);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2; k++)
            t[k][i] = matrix(random_tensor(&pr, 1, ROWS, width));
    struct tensor *point[3] = {&t[0][0], &t[0][1], &a}, *way[3] = {&t[1][0], &t[1][1], &t[1][2]};
    struct residual_norm f = {.a = a,
                              .gain = gained ? gain : none,
                              .y = zero_tensor(&pr, 1, ROWS, width),
                              .xhat = zero_tensor(&pr, 1, ROWS, width),
                              .rstd = zero_tensor(&pr, 1, 1, ROWS),
                              .rows_per_mask = SHARE,
                              .kind = kind,
                              .eps = 1e-2};
    struct residual_norm_vjp v = {.dy = t[0][0],
                                  .dsum = t[0][1],
                                  .xhat = f.xhat,
                                  .rstd = f.rstd,
                                  .gain = f.gain,
                                  .mask = mask,
                                  .rows_per_mask = SHARE,
                                  .kind = kind};
    for (int k = 0; k < 3; k++) {
        double by = k == 0 ? step : k == 1 ? -2 * step : step;
        for (int i = 0; i < 3; i++)
            op_axpby(&pr.be, point[i], by, way[i], 1);
        side[k][0] = v.ds = matrix(zero_tensor(&pr, 1, ROWS, width));
        side[k][1] = v.da = zero_tensor(&pr, 1, ROWS, width);
        side[k][2] = zero_tensor(&pr, 1, 1, width);
        v.dgain = gained ? side[k][2] : none;
        op_residual_norm(&pr.be, &f);
        op_residual_norm_vjp(&pr.be, &v);
    }
    struct norm_vjp_tangent p = {.vjp = v, .s_t = *way[2], .dy_t = *way[0], .dsum_t = *way[1]};
    struct tensor ds = p.vjp.ds = matrix(zero_tensor(&pr, 1, ROWS, width));
    p.vjp.da = zero_tensor(&pr, 1, ROWS, width);
    p.ds_t = matrix(zero_tensor(&pr, 1, ROWS, width));
    p.da_t = zero_tensor(&pr, 1, ROWS, width);
    struct tensor dgain = zero_tensor(&pr, 1, 1, width);
    p.vjp.dgain = gained ? dgain : none;
    op_norm_vjp_tangent(&pr.be, &p);
    expect_difference("ds", &side[0][0], &side[1][0], &p.ds_t);
    expect_difference("da", &side[0][1], &side[1][1], &p.da_t);
    if (gained)
        expect_difference("dgain", &side[0][2], &side[1][2], &dgain);
    for (int64_t i = 0; i < tensor_count(&ds); i++)
        assert_true(fabs(((double *)ds.data)[i] - ((double *)side[2][0].data)[i]) <= 1e-12);
    for (int k = 0; k < pr.tensors; k++)
        op_release(&pr.be, &pr.owned[k]);
    backend_close(&pr.be);
}

static void norm_tangents(void **state)
{
    for (int64_t width = 3; width <= 9; width += 6) {
        norm_second(NORM_LAYER, false, width);
        norm_second(NORM_RMS, false, width);
        norm_second(NORM_RMS, true, width);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_tangents),
        cmocka_unit_test(norm_tangents),
    };
    return cmocka_run_group_tests_name("second derivatives of the reference", tests, NULL, NULL);
}
