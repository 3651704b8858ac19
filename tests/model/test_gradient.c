/* Gradients of the whole model against central finite differences, in the float64 reference
 * backend: every parameter of every variant, through the solve.
 *
 * Tolerance 1e-6 relative to the group's largest gradient: the difference quotient with step h has
 * truncation error ~ h^2 and rounding error ~ 1e-16 * loss / h; at h = 1e-4 both are near 1e-9 for
 * losses of order 1, far below. The solves end at a residual of 1e-13. */
#include "model/model.h"
#include "ref/ref.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, LENGTH = 5, MEMORY = 4, VOCAB = 23, SAMPLES = 6 };

static const double STEP = 1e-4, TOLERANCE = 1e-6;

static void must(enum status status, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s", err->text);
}

static struct config tiny_config(const char *const *settings)
{
    static const char *const common[] = {
        "model.d_model=8",
        "model.n_head=2",
        "model.d_inner=12",
        "model.wnorm=false",
        "model.init_std=0.25",
        "model.proj_init_std=0.25",
        "model.dropout=0",
        "solver.forward.method=anderson",
        "solver.forward.scope=sequence",
        "solver.forward.stop=abs",
        "solver.forward.tol=1e-13",
        "solver.forward.max_iter=400",
        "solver.forward.history=12",
        "solver.forward.ridge=1e-14",
        "solver.forward.stall=1000",
        "solver.backward.method=anderson",
        "solver.backward.scope=sequence",
        "solver.backward.stop=abs",
        "solver.backward.tol=1e-14",
        "solver.backward.max_iter=400",
        "solver.backward.history=12",
        "solver.backward.ridge=1e-14",
        "solver.backward.stall=1000",
        "train.pretrain_steps=0",
        NULL,
    };
    struct config c;
    struct error err;
    config_defaults(&c);
    for (int i = 0; common[i] != NULL; i++)
        must(config_set(&c, common[i], &err), &err);
    for (int i = 0; settings[i] != NULL; i++)
        must(config_set(&c, settings[i], &err), &err);
    must(config_resolve(&c, VOCAB, &err), &err);
    return c;
}

struct fixture {
    struct backend be;
    struct model *model;
    int32_t input[BATCH * LENGTH], target[BATCH * LENGTH];
    struct masks masks;
};

static double loss_of(struct fixture *f, bool gradient)
{
    struct error err;
    double each = 0;
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    must(model_solve(f->model, 0, true, &err), &err);
    if (f->model->eq->applied == 0) {
        struct solve_report report;
        must(solver_report(f->model->eq->forward, &report, &err), &err);
        if (!(report.rel_max <= 1e-12))
            fail_msg("the solve ended at a residual of %g", report.rel_max);
    }
    model_loss(f->model, f->target, 1.0 / (BATCH * LENGTH), gradient);
    if (gradient) {
        must(model_backward(f->model, &err), &err);
        model_finish_gradients(f->model);
    }
    /* read in double: the float32 of model_read_loss is too coarse for differences */
    double nll[BATCH * LENGTH];
    op_download(&f->be, nll, DTYPE_F64, &f->model->nll);
    for (int i = 0; i < BATCH * LENGTH; i++)
        each += nll[i];
    return each / (BATCH * LENGTH);
}

static void set_up(struct fixture *f, const struct config *config, bool dropout)
{
    struct error err;
    struct model_plan plan = {.batch = BATCH, .length = LENGTH, .mem_len = MEMORY, .train = true};
    memset(f, 0, sizeof *f);
    must(ref_open(&f->be, &err), &err);
    must(model_create(&f->model, &f->be, config, NULL, &plan, &err), &err);
    must(params_initialize(f->model->params, 7, &err), &err);
    /* biases and cluster rows start at zero: move them, so that their gradients are exercised */
    for (int i = 0; i < f->model->params->count; i++)
        if (f->model->params->list[i].init == INIT_ZERO) {
            struct tensor w = params_weight(f->model->params, i).w;
            op_fill_normal(&f->be, &w, 0.2, (struct rng_key){3, (uint64_t)i});
        }
    for (int i = 0; i < BATCH * LENGTH; i++) {
        f->input[i] = (int32_t)((i * 7 + 3) % VOCAB);
        f->target[i] = (int32_t)((i * 5 + 1) % VOCAB);
    }
    f->masks.source = dropout ? MASKS_DRAWN : MASKS_NONE;
    f->masks.seed = 5;
    /* a first segment, so that there is memory; then other tokens */
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    must(model_solve(f->model, 0, true, &err), &err);
    model_remember(f->model);
    for (int i = 0; i < BATCH * LENGTH; i++)
        f->input[i] = (int32_t)((i * 3 + 2) % VOCAB);
}

static void tear_down(struct fixture *f)
{
    model_free(f->model);
    assert_int_equal(f->be.bytes, 0);
    backend_close(&f->be);
}

/* Largest gradient of the group, and largest error over entries spread through it. */
static void check_param(struct fixture *f, int index)
{
    const struct param *q = &f->model->params->list[index];
    struct weight w = params_weight(f->model->params, index);
    int64_t count = param_count(q);
    double gradient[4096], largest = 0, error = 0;
    assert_true(count <= 4096);
    loss_of(f, true);
    op_download(&f->be, gradient, DTYPE_F64, &w.dw);
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(gradient[i]));
    struct tensor flat = tensor_shape(&w.w, 1, count, 1, 1, 1);
    for (int s = 0; s < SAMPLES; s++) {
        int64_t at = count < SAMPLES ? s % count : s * (count - 1) / (SAMPLES - 1);
        struct tensor one = tensor_slice(&flat, at, 1);
        double value, moved, loss[2];
        op_download(&f->be, &value, DTYPE_F64, &one);
        for (int side = 0; side < 2; side++) {
            moved = value + (side == 0 ? -STEP : STEP);
            op_upload(&f->be, &one, &moved, DTYPE_F64);
            loss[side] = loss_of(f, false);
        }
        op_upload(&f->be, &one, &value, DTYPE_F64);
        error = fmax(error, fabs((loss[1] - loss[0]) / (2 * STEP) - gradient[at]));
    }
    if (!(error <= TOLERANCE * fmax(largest, 1e-3)))
        fail_msg("%s: error %.3g, largest gradient %.3g", q->name, error, largest);
}

static void check_variant(const char *const *settings, bool dropout)
{
    struct config config = tiny_config(settings);
    struct fixture f;
    set_up(&f, &config, dropout);
    for (int i = 0; i < f.model->params->count; i++)
        check_param(&f, i);
    tear_down(&f);
}

#define VARIANT(name, dropout, ...)                         \
    static void test_##name(void **state)                   \
    {                                                       \
        (void)state;                                        \
        const char *const settings[] = {__VA_ARGS__, NULL}; \
        check_variant(settings, dropout);                   \
    }

VARIANT(post_norm, false, "model.blocks=1")
/* with the true residual f contains the identity, and nothing holds its equilibrium down: plain
 * applications show the same derivatives */
VARIANT(pre_norm, false, "model.pre_lnorm=true", "gradient.method=unroll", "gradient.steps=3")
VARIANT(pre_norm_published, false, "model.pre_lnorm=true", "model.compat=true")
VARIANT(rms_norm, false, "model.norm=rms")
VARIANT(rms_pre_norm, false, "model.norm=rms", "model.pre_lnorm=true", "gradient.method=unroll",
        "gradient.steps=3")
VARIANT(weight_norm, false, "model.wnorm=true")
VARIANT(weight_norm_compat, false, "model.wnorm=true", "model.compat=true")
VARIANT(local, false, "model.local_size=3")
VARIANT(two_blocks, false, "model.blocks=2", "model.wnorm=true")
VARIANT(three_blocks_pre_norm, false, "model.blocks=3", "model.pre_lnorm=true",
        "gradient.method=unroll", "gradient.steps=2")
VARIANT(untied, false, "model.tie_weights=false")
VARIANT(adaptive, false, "model.cutoffs=[7,15]")
VARIANT(adaptive_div2, false, "model.cutoffs=[7,15]", "model.div_val=2", "model.init_std=0.15")
VARIANT(adaptive_div2_compat, false, "model.cutoffs=[7,15]", "model.div_val=2", "model.compat=true")
VARIANT(narrow_embedding, false, "model.cutoffs=[7,15]", "model.d_embed=6")
VARIANT(dropout, true, "model.dropout=0.3", "model.dropatt=0.2")
VARIANT(dropout_compat, true, "model.dropout=0.3", "model.compat=true")
VARIANT(unroll, false, "gradient.method=unroll", "gradient.steps=3", "model.blocks=2")
VARIANT(unroll_long, false, "gradient.method=unroll", "gradient.steps=60")

#define TRELLIS "model.cell=trellis", "model.nhid=3", "model.nout=4"
VARIANT(trellis, false, TRELLIS)
VARIANT(trellis_compat, false, TRELLIS, "model.compat=true", "model.ksize=3", "model.dilation=2")
VARIANT(trellis_weight_norm, false, TRELLIS, "model.wnorm=true", "model.ksize=3",
        "model.dilation=2")
VARIANT(trellis_one_tap, false, TRELLIS, "model.ksize=1")
VARIANT(trellis_dropout, true, TRELLIS, "model.wnorm=true", "model.dropout=0.3",
        "model.dropouti=0.2", "model.dropouth=0.2", "model.emb_dropout=0.2")
VARIANT(trellis_weight_drop, true, TRELLIS, "model.wnorm=true", "model.wdrop=0.4", "model.ksize=3")
VARIANT(trellis_weight_drop_plain, true, TRELLIS, "model.wdrop=0.4")
VARIANT(trellis_adaptive, false, TRELLIS, "model.cutoffs=[7,15]")
VARIANT(trellis_adaptive_div2, true, TRELLIS, "model.cutoffs=[7,15]", "model.div_val=2",
        "model.emb_dropout=0.3")
VARIANT(trellis_narrow, false, TRELLIS, "model.d_embed=6", "model.cutoffs=[7,15]")
VARIANT(trellis_untied, false, TRELLIS, "model.d_embed=5", "model.tie_weights=false")
VARIANT(trellis_unroll, false, TRELLIS, "gradient.method=unroll", "gradient.steps=4")
VARIANT(trellis_layers, true, TRELLIS, "model.layers=5", "model.dropouth=0.2",
        "gradient.recompute=2")
VARIANT(tied_layers, false, "model.layers=4", "model.wnorm=true")
VARIANT(tied_layers_recomputed, true, "model.layers=7", "gradient.recompute=3", "model.dropout=0.2")
VARIANT(layers, false, "model.layers=3", "model.tie_layers=false")
VARIANT(layers_recomputed, true, "model.layers=5", "model.tie_layers=false", "gradient.recompute=2",
        "model.dropout=0.3", "model.dropatt=0.2")
VARIANT(layers_pre_norm, false, "model.layers=3", "model.tie_layers=false", "model.norm=rms",
        "model.pre_lnorm=true", "model.wnorm=true", "gradient.recompute=1")
VARIANT(unroll_recomputed, false, "gradient.method=unroll", "gradient.steps=5",
        "gradient.recompute=2")
VARIANT(word_dropout, true, "model.emb_dropout=0.3", "model.cutoffs=[7,15]")

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post_norm),
        cmocka_unit_test(test_pre_norm),
        cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_pre_norm_published),
        cmocka_unit_test(test_rms_pre_norm),
        cmocka_unit_test(test_weight_norm),
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_weight_norm_compat),
        cmocka_unit_test(test_two_blocks),
        cmocka_unit_test(test_three_blocks_pre_norm),
        cmocka_unit_test(test_untied),
        cmocka_unit_test(test_adaptive),
        cmocka_unit_test(test_adaptive_div2),
        cmocka_unit_test(test_adaptive_div2_compat),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_narrow_embedding),
        cmocka_unit_test(test_dropout_compat),
        cmocka_unit_test(test_unroll),
        cmocka_unit_test(test_unroll_long),
        cmocka_unit_test(test_trellis),
        cmocka_unit_test(test_trellis_compat),
        cmocka_unit_test(test_trellis_weight_norm),
        cmocka_unit_test(test_trellis_one_tap),
        cmocka_unit_test(test_trellis_dropout),
        cmocka_unit_test(test_trellis_weight_drop),
        cmocka_unit_test(test_trellis_weight_drop_plain),
        cmocka_unit_test(test_trellis_adaptive),
        cmocka_unit_test(test_trellis_adaptive_div2),
        cmocka_unit_test(test_trellis_narrow),
        cmocka_unit_test(test_trellis_untied),
        cmocka_unit_test(test_trellis_unroll),
        cmocka_unit_test(test_word_dropout),
        cmocka_unit_test(test_trellis_layers),
        cmocka_unit_test(test_tied_layers),
        cmocka_unit_test(test_tied_layers_recomputed),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_layers_recomputed),
        cmocka_unit_test(test_layers_pre_norm),
        cmocka_unit_test(test_unroll_recomputed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
