/* The losses that may be added: what they add to the gradient against central differences of the
 * added loss alone, with the states they take for constants held fixed; float64 reference.
 * Tolerances as in test_gradient. */
#include "deq/jacobian_penalty.h"
#include "deq/tiny_model.h"

static const double STEP = 1e-4, TOLERANCE = 1e-6, WEIGHT = 0.7;

enum { SAMPLES = 5, NUMBERS = BATCH * LENGTH * 8, PARAMS = 4096 };

struct added {
    struct fixture f;
    bool penalty;
    struct tensor z, v, f_z, moved, f_moved; /* owns: [B,L,D]; z: what is held fixed */
};

static struct tensor state(struct added *a)
{
    struct error err;
    struct tensor t;
    assert_ok(op_alloc(&a->f.be, &t, DTYPE_F64, 3, BATCH, LENGTH, 8, 1, &err), &err);
    return t;
}

/* Keeps the iterate that a correction is asked for, beside what the model itself does with it. */
static void keep_iterate(void *ctx, int64_t evaluation, const struct tensor *z)
{
    struct added *a = ctx;
    loss_terms_observe(&a->f.model->terms, evaluation, z);
    if (!a->penalty && evaluation == a->f.model->config.correction.at.value[0])
        op_copy(&a->f.be, &a->z, z);
}

/* Gradients of all parameters, with or without the added loss, into `out`. */
static void gradients(struct added *a, bool with, double *out)
{
    struct model *m = a->f.model;
    struct error err;
    model_refresh(m);
    model_begin(m, a->f.input, LENGTH, &a->f.masks);
    assert_ok(model_solve(m, 0, true, &err), &err);
    model_loss(m, a->f.target, 1.0 / (BATCH * LENGTH), true);
    enum loss_term_id id = a->penalty ? TERM_JACOBIAN_PENALTY : TERM_CORRECTION;
    if (a->penalty) {
        struct tensor direction = jacobian_penalty_direction(&m->terms);
        op_copy(&a->f.be, &direction, &a->v);
    }
    model_weigh_term(m, id, with ? WEIGHT : 0, NULL);
    struct tensor z = equilibrium_last(m->eq).z;
    if (a->penalty)
        op_copy(&a->f.be, &a->z, &z);
    assert_ok(model_backward(m, &err), &err);
    model_finish_gradients(m);
    assert_true(tensor_count(&m->params->g) <= PARAMS);
    op_download(&a->f.be, out, DTYPE_F64, &m->params->g);
}

/* The added loss at the parameters as they stand, and at the state held fixed. */
static double added_loss(struct added *a)
{
    struct model *m = a->f.model;
    struct cell *c = m->cell;
    double h = m->config.jacobian.step, sum = 0;
    model_refresh(m);
    model_begin(m, a->f.input, LENGTH, &a->f.masks);
    c->ops->eval(c, 0, &a->z, &a->f_z);
    if (!a->penalty) {
        double nll[BATCH * LENGTH];
        model_output_loss(m, &a->f_z, a->f.target, 1.0, false);
        op_download(&a->f.be, nll, DTYPE_F64, &m->nll);
        for (int i = 0; i < BATCH * LENGTH; i++)
            sum += nll[i];
        return WEIGHT * sum / (BATCH * LENGTH);
    }
    if (m->config.jacobian.form == PENALTY_EXACT) {
        c->ops->vjp(c, 0, &a->z, &a->f_z, &a->v, &a->moved, false);
        h = 1;
    } else {
        op_copy(&a->f.be, &a->moved, &a->z);
        op_axpby(&a->f.be, &a->moved, h, &a->v, 1);
        c->ops->eval(c, 0, &a->moved, &a->f_moved);
        op_copy(&a->f.be, &a->moved, &a->f_moved);
        op_axpby(&a->f.be, &a->moved, -1, &a->f_z, 1);
    }
    for (int i = 0; i < NUMBERS; i++)
        sum += ((double *)a->moved.data)[i] * ((double *)a->moved.data)[i];
    return WEIGHT * sum / (h * h * NUMBERS);
}

static void check_params(struct added *a, const double *with, const double *without)
{
    struct model *m = a->f.model;
    struct tensor w = m->params->w;
    int64_t count = tensor_count(&w), total = 0;
    struct tensor flat = tensor_shape(&w, 1, count, 1, 1, 1);
    for (int i = 0; i < m->params->count; total += param_count(&m->params->list[i++])) {
        int64_t n = param_count(&m->params->list[i]);
        double largest = 0, error = 0;
        const double *g = (const double *)params_weight(m->params, i).dw.data;
        int64_t first = g - (const double *)m->params->g.data;
        for (int64_t k = first; k < first + n; k++)
            largest = fmax(largest, fabs(with[k] - without[k]));
        for (int k = 0; k < SAMPLES; k++) {
            int64_t at = first + (n < SAMPLES ? k % n : k * (n - 1) / (SAMPLES - 1));
            struct tensor one = tensor_slice(&flat, at, 1);
            double value, moved, side[2];
            op_download(&a->f.be, &value, DTYPE_F64, &one);
            for (int s = 0; s < 2; s++) {
                moved = value + (s == 0 ? -STEP : STEP);
                op_upload(&a->f.be, &one, &moved, DTYPE_F64);
                side[s] = added_loss(a);
            }
            op_upload(&a->f.be, &one, &value, DTYPE_F64);
            error = fmax(error, fabs((side[1] - side[0]) / (2 * STEP) - (with[at] - without[at])));
        }
        if (!(error <= TOLERANCE * fmax(largest, 1e-2)))
            fail_msg("%s: error %.3g, largest gradient %.3g", m->params->list[i].name, error,
                     largest);
    }
}

static void check_variant(bool penalty, const char *const *settings, bool dropout)
{
    struct config config = tiny_config(settings);
    struct added a = {.penalty = penalty};
    double with[PARAMS], without[PARAMS];
    set_up(&a.f, &config, dropout);
    struct tensor *const states[] = {&a.z, &a.v, &a.f_z, &a.moved, &a.f_moved};
    for (int i = 0; i < 5; i++)
        *states[i] = state(&a);
    op_fill_normal(&a.f.be, &a.v, 1.0, (struct rng_key){5, 6});
    equilibrium_set_monitor(a.f.model->eq, keep_iterate, &a);
    gradients(&a, false, without);
    gradients(&a, true, with);
    double own = NAN;
    assert_true(model_read_term(a.f.model, TERM_JACOBIAN_PENALTY, &own) == penalty);
    double value = added_loss(&a);
    if (penalty && !(fabs(WEIGHT * own - value) <= 1e-9 * value))
        fail_msg("the penalty is read as %.12g, want %.12g", WEIGHT * own, value);
    assert_true(value > 0);
    check_params(&a, with, without);
    for (int i = 0; i < 5; i++)
        op_release(&a.f.be, states[i]);
    tear_down(&a.f);
}

#define VARIANT(name, penalty, dropout, ...)                \
    static void test_##name(void **ignored)                 \
    {                                                       \
        (void)ignored;                                      \
        const char *const settings[] = {__VA_ARGS__, NULL}; \
        check_variant(penalty, settings, dropout);          \
    }

#define DIFFERENCE "jacobian.weight=0.7", "jacobian.form=difference", "jacobian.step=0.05"

VARIANT(exact, true, false, "jacobian.weight=0.7")
VARIANT(exact_phantom, true, true, "jacobian.weight=0.7", "gradient.method=phantom",
        "gradient.steps=3", "gradient.damping=0.6", "model.dropout=0.2", "model.blocks=2")
VARIANT(exact_unroll, true, false, "jacobian.weight=0.7", "gradient.method=unroll",
        "gradient.steps=3")
VARIANT(exact_reversible, true, true, "jacobian.weight=0.7", "gradient.method=reversible",
        "gradient.steps=3", "gradient.damping=0.4", "model.dropout=0.2")
VARIANT(difference, true, false, DIFFERENCE)
VARIANT(difference_one_step, true, true, DIFFERENCE, "gradient.method=one-step",
        "model.dropout=0.2", "model.wnorm=true")
VARIANT(difference_phantom, true, false, DIFFERENCE, "gradient.method=phantom", "gradient.steps=2")
VARIANT(correction, false, false, "correction.weight=0.7", "correction.at=[3]")
VARIANT(correction_dropout, false, true, "correction.weight=0.7", "correction.at=[3]",
        "model.dropout=0.2", "model.cutoffs=[7,15]", "model.blocks=2")
#define MODERN "model.cell=modern", "model.norm=rms", "model.prelude=1"
VARIANT(modern_exact, true, false, MODERN, "jacobian.weight=0.7", "model.coda=1", "model.blocks=2")
VARIANT(modern_difference, true, true, MODERN, DIFFERENCE, "model.dropout=0.2")
VARIANT(modern_correction, false, true, MODERN, "correction.weight=0.7", "correction.at=[3]",
        "model.dropout=0.2", "model.inject=decay", "model.norm_place=post")

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_exact_phantom),
        cmocka_unit_test(test_exact_unroll),
        cmocka_unit_test(test_exact_reversible),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_difference_one_step),
        cmocka_unit_test(test_difference_phantom),
        cmocka_unit_test(test_correction),
        cmocka_unit_test(test_correction_dropout),
        cmocka_unit_test(test_modern_exact),
        cmocka_unit_test(test_modern_difference),
        cmocka_unit_test(test_modern_correction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
