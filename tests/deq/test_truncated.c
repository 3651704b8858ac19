/* Applications of f in drawn numbers, of which the last are differentiated, and noise at the start
 * of a solve. */
#include "deq/tiny_model.h"

enum { STEPS = 3, SAMPLES = 5 };

static const double STEP = 1e-4, TOLERANCE = 1e-6;

/* --- the numbers ------------------------------------------------------------------------------ */

enum { DRAWS = 4000 };

static struct config_gradient truncated(enum config_draw draw, double mean, double spread)
{
    struct config c;
    config_defaults(&c);
    c.gradient.method = GRADIENT_TRUNCATED;
    c.gradient.steps = 1;
    c.gradient.draw = draw;
    c.gradient.mean = mean;
    c.gradient.spread = spread;
    return c.gradient;
}

/* Mean and variance of all applications over many sequences, against those of the law. One is taken
 * off by the step that is differentiated, which a mean of 12 does not reach. */
static void check_law(double mean, double spread, double variance)
{
    static int64_t before[DRAWS];
    struct config_gradient c = truncated(DRAW_SEQUENCE, mean, spread);
    struct masks masks = {.source = MASKS_DRAWN, .seed = 3, .draw = 8};
    double sum = 0, squares = 0;
    int64_t largest = drawn_counts(&c, &masks, DRAWS, before), most = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = (double)before[i] + 1;
        sum += x / DRAWS;
        squares += x * x / DRAWS;
        most = before[i] > most ? before[i] : most;
    }
    assert_int_equal(largest, most);
    assert_true(fabs(sum - mean) <= 4 * sqrt(variance / DRAWS));
    assert_true(fabs((squares - sum * sum) / variance - 1) <= (spread > 0 ? 0.3 : 0.1));
}

static void numbers_follow_the_law(void **state)
{
    (void)state;
    check_law(12, 0, 12);
    check_law(100, 0, 100);
    /* the law of total variance: mean + mean^2 (exp(spread^2) - 1) */
    check_law(32, 0.5, 32 + 32 * 32 * (exp(0.25) - 1));
}

/* A sequence has its number wherever it is computed, and steps differ. */
static void numbers_belong_to_sequences(void **state)
{
    enum { ALL = 8 };
    int64_t all[ALL], part[ALL], next[ALL], same = 0, equal = 0;
    struct masks masks = {.source = MASKS_DRAWN, .seed = 3, .draw = 8}, second = masks;
    struct config_gradient c = truncated(DRAW_SEQUENCE, 20, 0.5);
    (void)state;
    second.first = 3;
    drawn_counts(&c, &masks, ALL, all);
    drawn_counts(&c, &second, ALL - 3, part);
    second.draw++;
    drawn_counts(&c, &second, ALL - 3, next);
    for (int b = 0; b < ALL - 3; b++) {
        assert_int_equal(all[b + 3], part[b]);
        same += part[b] == next[b];
        equal += all[b] == all[b + 1];
    }
    assert_true(same < ALL - 3 && equal < ALL - 3);
    c.draw = DRAW_STEP;
    drawn_counts(&c, &masks, ALL, all);
    drawn_counts(&c, &second, ALL, next);
    for (int b = 0; b < ALL; b++) {
        assert_int_equal(all[b], all[0]);
        assert_int_equal(next[b], next[0]);
    }
    masks.source = MASKS_NONE;
    assert_int_equal(drawn_counts(&c, &masks, ALL, all), 19);
    c.steps = 30; /* fewer than are differentiated are never made */
    assert_int_equal(drawn_counts(&c, &masks, ALL, all), 0);
}

/* --- the applications ------------------------------------------------------------------------- */

/* Draws from 0 on, so that the sequences differ. */
static const char *const settings[] = {"gradient.method=truncated", "gradient.steps=3",
                                       "gradient.mean=5",           "model.wnorm=true",
                                       "model.dropout=0.2",         NULL};

/* z of every sequence in front of the applications that are differentiated, by hand. */
static void go_to_start(struct fixture *f, const int64_t *before, const struct tensor *z,
                        const struct tensor *f_z)
{
    struct cell *c = f->model->cell;
    op_fill(&f->be, z, 0);
    for (int k = 0; k < 40; k++) {
        c->ops->eval(c, 0, z, f_z);
        for (int b = 0; b < BATCH; b++) {
            struct tensor to = tensor_slice(z, b, 1), from = tensor_slice(f_z, b, 1);
            if (k < before[b])
                op_copy(&f->be, &to, &from);
        }
    }
}

static void begin(struct fixture *f)
{
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
}

/* The loss behind STEPS applications from the state `start`. */
static double loss_from(struct fixture *f, const struct tensor *start, const struct tensor *z,
                        const struct tensor *f_z)
{
    struct cell *c = f->model->cell;
    begin(f);
    workspace_enter(f->model->ws, PHASE_FORWARD);
    op_copy(&f->be, z, start);
    for (int k = 0; k < STEPS; k++) {
        c->ops->eval(c, 0, z, f_z);
        op_copy(&f->be, z, f_z);
    }
    workspace_enter(f->model->ws, PHASE_OUTPUT);
    model_output_loss(f->model, z, f->target, 1.0 / (BATCH * LENGTH), false);
    return model_read_loss(f->model, NULL);
}

struct states {
    struct tensor start, z, f_z;
};

/* The model's own loss and gradients. */
static double own_loss(struct fixture *f)
{
    struct error err;
    begin(f);
    assert_ok(model_solve(f->model, 0, true, &err), &err);
    model_loss(f->model, f->target, 1.0 / (BATCH * LENGTH), true);
    double loss = model_read_loss(f->model, NULL);
    assert_ok(model_backward(f->model, &err), &err);
    model_finish_gradients(f->model);
    return loss;
}

/* Differences of the loss from the held start, against the model's gradient. */
static void check_param(struct fixture *f, struct states *s, int index)
{
    const struct param *q = &f->model->params->list[index];
    struct weight w = params_weight(f->model->params, index);
    double g[4096], largest = 0;
    int64_t n = param_count(q);
    struct tensor flat = tensor_shape(&w.w, 1, n, 1, 1, 1);
    own_loss(f);
    op_download(&f->be, g, DTYPE_F64, &w.dw);
    for (int64_t k = 0; k < n; k++)
        largest = fmax(largest, fabs(g[k]));
    for (int k = 0; k < SAMPLES; k++) {
        int64_t at = n < SAMPLES ? k % n : k * (n - 1) / (SAMPLES - 1);
        struct tensor one = tensor_slice(&flat, at, 1);
        double value, loss[2];
        op_download(&f->be, &value, DTYPE_F64, &one);
        for (int side = 0; side < 2; side++) {
            double moved = value + (side == 0 ? -STEP : STEP);
            op_upload(&f->be, &one, &moved, DTYPE_F64);
            loss[side] = loss_from(f, &s->start, &s->z, &s->f_z);
        }
        op_upload(&f->be, &one, &value, DTYPE_F64);
        double error = fabs((loss[1] - loss[0]) / (2 * STEP) - g[at]);
        if (!(error <= TOLERANCE * fmax(largest, 1e-3)))
            fail_msg("%s[%d]: error %.3g, largest gradient %.3g", q->name, (int)at, error, largest);
    }
}

static void gradient_is_that_of_the_last(void **state)
{
    struct error err;
    struct fixture f;
    struct states s;
    struct solve_report report, backward;
    struct config config = tiny_config(settings);
    struct tensor *const states[] = {&s.start, &s.z, &s.f_z};
    int64_t before[BATCH];
    (void)state;
    set_up(&f, &config, true);
    for (int i = 0; i < 3; i++)
        assert_ok(op_alloc(&f.be, states[i], DTYPE_F64, 3, BATCH, LENGTH, 8, 1, &err), &err);
    do { /* a draw that tells the sequences apart */
        f.masks.draw++;
        drawn_counts(&config.gradient, &f.masks, BATCH, before);
    } while (before[0] == before[1] || before[0] == 0 || before[1] == 0);
    begin(&f);
    workspace_enter(f.model->ws, PHASE_FORWARD);
    go_to_start(&f, before, &s.start, &s.f_z);
    double by_hand = loss_from(&f, &s.start, &s.z, &s.f_z);
    assert_true(own_loss(&f) == by_hand);
    assert_ok(model_report(f.model, &report, &backward, &err), &err);
    assert_int_equal(report.evals, (before[0] > before[1] ? before[0] : before[1]) + STEPS);
    assert_true(report.evals_mean == STEPS + (double)(before[0] + before[1]) / 2);
    assert_int_equal(backward.evals, STEPS);
    for (int i = 0; i < f.model->params->count; i++)
        check_param(&f, &s, i);
    for (int i = 0; i < 3; i++)
        op_release(&f.be, states[i]);
    tear_down(&f);
}

/* A learned start follows the state that the applications reach. */
static void a_learned_start_is_fitted(void **state)
{
    struct fixture f;
    const char *const methods[] = {"gradient.method=truncated", "gradient.method=reversible"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct config config =
            tiny_config(SET(methods[i], "gradient.damping=0.5", "model.start=linear"));
        double g[8], size = 0;
        set_up(&f, &config, false);
        own_loss(&f);
        int bias = params_find(f.model->params, "start.bias");
        struct tensor dw = params_weight(f.model->params, bias).dw;
        op_download(&f.be, g, DTYPE_F64, &dw);
        for (int k = 0; k < 8; k++)
            size += g[k] * g[k];
        assert_true(size > 0);
        tear_down(&f);
    }
}

/* --- noise ------------------------------------------------------------------------------------ */

struct watch {
    struct backend *be;
    struct tensor first; /* iterate of a solve */
};

static void keep_first(void *ctx, int64_t evaluation, const struct tensor *z)
{
    struct watch *watch = ctx;
    if (evaluation == 0)
        op_copy(watch->be, &watch->first, z);
}

/* Has a solve of step `step` begin, where sequence `first` comes first. */
static void solve_once(struct fixture *f, bool drawn, uint64_t step, int64_t first)
{
    struct error err;
    f->masks.source = drawn ? MASKS_DRAWN : MASKS_NONE;
    f->masks.draw = step;
    f->masks.first = first;
    begin(f);
    assert_ok(model_solve(f->model, 0, true, &err), &err);
}

static void noise_is_of_the_sequence_and_the_step(void **state)
{
    enum { NUMBERS = LENGTH * 8 };
    struct error err;
    struct fixture f;
    struct config config = tiny_config(
        SET("train.start_noise=0.5", "solver.forward.stop=fixed", "solver.forward.max_iter=3"));
    struct watch watch = {.be = &f.be};
    double a[BATCH * NUMBERS], b[BATCH * NUMBERS], square = 0;
    (void)state;
    set_up(&f, &config, true);
    assert_ok(op_alloc(&f.be, &watch.first, DTYPE_F64, 3, BATCH, LENGTH, 8, 1, &err), &err);
    equilibrium_set_monitor(f.model->eq, keep_first, &watch);
    solve_once(&f, false, 1, 0);
    op_download(&f.be, a, DTYPE_F64, &watch.first);
    for (int i = 0; i < BATCH * NUMBERS; i++)
        assert_true(a[i] == 0);
    solve_once(&f, true, 1, 0);
    op_download(&f.be, a, DTYPE_F64, &watch.first);
    for (int i = 0; i < BATCH * NUMBERS; i++)
        square += a[i] * a[i] / (BATCH * NUMBERS);
    assert_true(fabs(square - 0.25) < 0.12); /* 80 numbers: 3 standard deviations */
    solve_once(&f, true, 1, 1);
    op_download(&f.be, b, DTYPE_F64, &watch.first);
    assert_memory_equal(a + NUMBERS, b, NUMBERS * sizeof *a); /* sequence 1 comes first now */
    solve_once(&f, true, 2, 0);
    op_download(&f.be, b, DTYPE_F64, &watch.first);
    assert_memory_not_equal(a, b, sizeof a);
    op_release(&f.be, &watch.first);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_follow_the_law),
        cmocka_unit_test(numbers_belong_to_sequences),
        cmocka_unit_test(gradient_is_that_of_the_last),
        cmocka_unit_test(a_learned_start_is_fitted),
        cmocka_unit_test(noise_is_of_the_sequence_and_the_step),
    };
    return cmocka_run_group_tests_name("truncated gradients", tests, NULL, NULL);
}
