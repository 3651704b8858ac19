/* Gradients of the whole model against central finite differences, in the float64 reference
 * backend: every parameter of every variant, through the solve.
 *
 * Tolerance 1e-6 relative to the group's largest gradient: the difference quotient with step h has
 * truncation error ~ h^2 and rounding error ~ 1e-16 * loss / h; at h = 1e-4 both are near 1e-9 for
 * losses of order 1, far below. The solves end at a residual of 1e-13. */
#include "deq/tiny_model.h"

/* Entries of a parameter that are moved. Few make all the accesses that sanitizers look at. */
#if defined(__SANITIZE_ADDRESS__)
enum { SAMPLES = 2 };
#else
enum { SAMPLES = 6 };
#endif

static const double STEP = 1e-4, TOLERANCE = 1e-6;

static double loss_of(struct fixture *f, bool gradient)
{
    struct error err;
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    assert_ok(model_solve(f->model, 0, true, &err), &err);
    if (equilibrium_is_solved(f->model->eq)) {
        struct solve_report report;
        assert_ok(model_report(f->model, &report, NULL, &err), &err);
        if (!(report.rel_max <= 1e-12))
            fail_msg("the solve ended at a residual of %g", report.rel_max);
    }
    model_loss(f->model, f->target, 1.0 / (BATCH * LENGTH), gradient);
    if (gradient) {
        assert_ok(model_backward(f->model, &err), &err);
        model_finish_gradients(f->model);
    }
    return model_read_loss(f->model, NULL);
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
        double off = fabs((loss[1] - loss[0]) / (2 * STEP) - gradient[at]);
        if (!isfinite(off)) /* fmax would drop it */
            fail_msg("%s: gradient %g, quotient of losses %g and %g", q->name, gradient[at],
                     loss[1], loss[0]);
        error = fmax(error, off);
    }
    if (!(error <= TOLERANCE * fmax(largest, 1e-3)))
        fail_msg("%s: error %.3g, largest gradient %.3g", q->name, error, largest);
}

#define MODERN "model.cell=modern", "model.norm=rms"
#define TRELLIS "model.cell=trellis", "model.nhid=3", "model.nout=4"

enum { MAX_SETTINGS = 9 };

static const struct variant {
    const char *name;
    bool dropout;
    const char *settings[MAX_SETTINGS]; /* what follows, one at least, is NULL */
} variants[] = {
    {"post_norm", false, {"model.blocks=1"}},
    /* with the true residual f contains the identity, and nothing holds its equilibrium down: plain
     * applications show the same derivatives */
    {"pre_norm", false, {"model.pre_lnorm=true", "gradient.method=unroll", "gradient.steps=3"}},
    {"pre_norm_published", false, {"model.pre_lnorm=true", "model.compat=true"}},
    {"rms_norm", false, {"model.norm=rms"}},
    {"rms_pre_norm",
     false,
     {"model.norm=rms", "model.pre_lnorm=true", "gradient.method=unroll", "gradient.steps=3"}},
    {"weight_norm", false, {"model.wnorm=true"}},
    {"weight_norm_compat", false, {"model.wnorm=true", "model.compat=true"}},
    {"local", false, {"model.local_size=3"}},
    {"two_blocks", false, {"model.blocks=2", "model.wnorm=true"}},
    {"three_blocks_pre_norm",
     false,
     {"model.blocks=3", "model.pre_lnorm=true", "gradient.method=unroll", "gradient.steps=2"}},
    {"untied", false, {"model.tie_weights=false"}},
    {"adaptive", false, {"model.cutoffs=[7,15]"}},
    {"adaptive_div2", false, {"model.cutoffs=[7,15]", "model.div_val=2", "model.init_std=0.15"}},
    {"adaptive_div2_compat",
     false,
     {"model.cutoffs=[7,15]", "model.div_val=2", "model.compat=true"}},
    {"narrow_embedding", false, {"model.cutoffs=[7,15]", "model.d_embed=6"}},
    {"dropout", true, {"model.dropout=0.3", "model.dropatt=0.2"}},
    {"dropout_compat", true, {"model.dropout=0.3", "model.compat=true"}},
    {"unroll", false, {"gradient.method=unroll", "gradient.steps=3", "model.blocks=2"}},
    {"unroll_long", false, {"gradient.method=unroll", "gradient.steps=60"}},
    {"trellis", false, {TRELLIS}},
    {"trellis_compat", false, {TRELLIS, "model.compat=true", "model.ksize=3", "model.dilation=2"}},
    {"trellis_weight_norm",
     false,
     {TRELLIS, "model.wnorm=true", "model.ksize=3", "model.dilation=2"}},
    {"trellis_one_tap", false, {TRELLIS, "model.ksize=1"}},
    {"trellis_dropout",
     true,
     {TRELLIS, "model.wnorm=true", "model.dropout=0.3", "model.dropouti=0.2", "model.dropouth=0.2",
      "model.emb_dropout=0.2"}},
    {"trellis_weight_drop",
     true,
     {TRELLIS, "model.wnorm=true", "model.wdrop=0.4", "model.ksize=3"}},
    {"trellis_weight_drop_plain", true, {TRELLIS, "model.wdrop=0.4"}},
    {"trellis_adaptive", false, {TRELLIS, "model.cutoffs=[7,15]"}},
    {"trellis_adaptive_div2",
     true,
     {TRELLIS, "model.cutoffs=[7,15]", "model.div_val=2", "model.emb_dropout=0.3"}},
    {"trellis_narrow", false, {TRELLIS, "model.d_embed=6", "model.cutoffs=[7,15]"}},
    {"trellis_untied", false, {TRELLIS, "model.d_embed=5", "model.tie_weights=false"}},
    {"trellis_unroll", false, {TRELLIS, "gradient.method=unroll", "gradient.steps=4"}},
    {"trellis_layers",
     true,
     {TRELLIS, "model.layers=5", "model.dropouth=0.2", "gradient.recompute=2"}},
    {"tied_layers", false, {"model.layers=4", "model.wnorm=true"}},
    {"tied_layers_recomputed",
     true,
     {"model.layers=7", "gradient.recompute=3", "model.dropout=0.2"}},
    {"layers", false, {"model.layers=3", "model.tie_layers=false"}},
    {"layers_recomputed",
     true,
     {"model.layers=5", "model.tie_layers=false", "gradient.recompute=2", "model.dropout=0.3",
      "model.dropatt=0.2"}},
    {"layers_pre_norm",
     false,
     {"model.layers=3", "model.tie_layers=false", "model.norm=rms", "model.pre_lnorm=true",
      "model.wnorm=true", "gradient.recompute=1"}},
    {"unroll_recomputed",
     false,
     {"gradient.method=unroll", "gradient.steps=5", "gradient.recompute=2"}},
    {"truncated_whole",
     false,
     {"gradient.method=truncated", "gradient.steps=5", "gradient.mean=5", "model.blocks=2"}},
    {"reversible", false, {"gradient.method=reversible", "gradient.damping=0.5"}},
    {"reversible_dropout",
     true,
     {"gradient.method=reversible", "gradient.steps=3", "gradient.damping=0.4", "model.dropout=0.3",
      "model.dropatt=0.2", "model.wnorm=true"}},
    {"reversible_pre_norm",
     false,
     {"gradient.method=reversible", "gradient.steps=5", "gradient.damping=0.7",
      "model.pre_lnorm=true", "model.norm=rms", "model.blocks=2"}},
    {"reversible_trellis",
     true,
     {TRELLIS, "gradient.method=reversible", "gradient.steps=2", "model.dropouth=0.2"}},
    {"modern", false, {MODERN}},
    {"modern_layer_norm", false, {"model.cell=modern", "model.rope_base=0"}},
    {"modern_relu2_grouped", false, {MODERN, "model.ffn=relu2", "model.n_kv_head=1"}},
    {"modern_relu_plain",
     false,
     {MODERN, "model.ffn=relu", "model.qk_norm=false", "model.gate=none",
      "gradient.method=unroll"}},
    {"modern_scalar_gate_weight_norm",
     false,
     {MODERN, "model.gate=scalar", "model.wnorm=true", "model.gate_init=0.2"}},
    {"modern_weight_norm",
     false,
     {MODERN, "model.wnorm=true", "model.gate=none", "gradient.method=unroll"}},
    {"modern_post", false, {MODERN, "model.norm_place=post"}},
    {"modern_sandwich", false, {MODERN, "model.norm_place=sandwich", "model.blocks=2"}},
    {"modern_outer_norm", false, {MODERN, "model.outer_norm=true", "model.blocks=2"}},
    {"modern_blocks", false, {MODERN, "model.blocks=3"}},
    {"modern_around", false, {MODERN, "model.prelude=2", "model.coda=2", "model.blocks=2"}},
    {"modern_around_post",
     true,
     {MODERN, "model.prelude=1", "model.coda=1", "model.norm_place=post", "model.dropout=0.2"}},
    {"modern_inject_v", false, {MODERN, "model.inject=v", "model.n_kv_head=1"}},
    {"modern_inject_qkv",
     false,
     {MODERN, "model.inject=qkv", "model.blocks=2", "model.norm_place=sandwich",
      "gradient.method=unroll"}},
    {"modern_inject_qkv_post",
     false,
     {MODERN, "model.inject=qkv", "model.norm_place=post", "gradient.method=unroll"}},
    {"modern_inject_linear",
     false,
     {MODERN, "model.inject=linear", "model.norm_place=sandwich", "model.prelude=1"}},
    {"modern_inject_linear_post", false, {MODERN, "model.inject=linear", "model.norm_place=post"}},
    {"modern_inject_decay",
     false,
     {MODERN, "model.inject=decay", "gradient.method=unroll", "gradient.steps=3"}},
    {"modern_inject_decay_post",
     false,
     {MODERN, "model.inject=decay", "model.norm_place=post", "model.blocks=2"}},
    {"modern_wide_heads", false, {MODERN, "model.d_head=6", "model.local_size=3"}},
    {"modern_dropout",
     true,
     {MODERN, "model.dropout=0.3", "model.dropatt=0.2", "model.cutoffs=[7,15]", "model.coda=1"}},
    {"modern_unroll_recomputed",
     true,
     {MODERN, "gradient.method=unroll", "gradient.steps=5", "gradient.recompute=2",
      "model.dropout=0.2"}},
    {"modern_layers",
     true,
     {MODERN, "model.layers=3", "model.tie_layers=false", "model.dropout=0.2"}},
    {"modern_layers_recomputed",
     false,
     {MODERN, "model.layers=5", "model.tie_layers=false", "gradient.recompute=2",
      "model.norm_place=post"}},
    {"modern_tied_layers", false, {MODERN, "model.layers=4", "model.prelude=1"}},
    {"word_dropout", true, {"model.emb_dropout=0.3", "model.cutoffs=[7,15]"}},
};

static void check_variant(void **state)
{
    const struct variant *v = *state;
    struct config config = tiny_config(v->settings);
    struct fixture f;
    set_up(&f, &config, v->dropout);
    for (int i = 0; i < f.model->params->count; i++)
        check_param(&f, i);
    tear_down(&f);
}

int main(void)
{
    enum { VARIANTS = sizeof variants / sizeof *variants };
    struct CMUnitTest tests[VARIANTS];
    for (int k = 0; k < VARIANTS; k++)
        tests[k] = (struct CMUnitTest){.name = variants[k].name,
                                       .test_func = check_variant,
                                       .initial_state = (void *)&variants[k]};
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
