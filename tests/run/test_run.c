/* A run that is stopped or killed anywhere ends as one that was left alone. */
#include "watched_run.h"

#include <math.h>

static const char *const other[] = {"model.blocks=2",
                                    "model.pre_lnorm=true",
                                    "model.norm=rms",
                                    "solver.forward.method=broyden",
                                    "gradient.method=phantom",
                                    "train.accumulate=1",
                                    "model.cutoffs=[10,20]",
                                    "model.div_val=2",
                                    "train.schedule=inv_sqrt",
                                    "train.ema=0.8",
                                    NULL};

static void stopped_at_every_step(const char *const *settings)
{
    struct config c = make_config(settings);
    struct watch w;
    struct error err;
    finish("whole", &c);
    for (int64_t at = 1; at <= STEPS; at++) {
        watch_init(&w, "cut");
        w.stop_at = at;
        enum status status = go(&w, &c, &err);
        assert_int_equal(status, STATUS_STOPPED);
        assert_int_equal(w.steps, at);
        finish("cut", &c);
        same_run("whole", "cut");
        remove_run("cut");
    }
    remove_run("whole");
}

static void a_stop_at_any_step_changes_nothing(void **state)
{
    prepare();
    stopped_at_every_step(plain);
    stopped_at_every_step(other);
    (void)state;
}

static void a_stop_after_every_step_changes_nothing(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    for (int64_t at = 1; at <= STEPS; at++) {
        watch_init(&w, "cut");
        w.stop_at = at;
        assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
        assert_int_equal(w.steps, 1);
    }
    finish("cut", &c);
    same_run("whole", "cut");
    (void)state;
}

static void a_stop_in_an_evaluation_leaves_it_due(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    const int64_t at[] = {4, 12, 16, 17};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        watch_init(&w, "cut");
        w.stop_evaluation_at = at[i];
        assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
        assert_int_equal(step_seen, at[i]);
        /* killed in it, and just after it was logged */
        watch_init(&w, "cut");
        w.exit_evaluation_at = at[i];
        go_and_die(&w, &c);
        watch_init(&w, "cut");
        w.exit_at = at[i] + 1;
        go_and_die(&w, &c);
    }
    finish("cut", &c);
    same_run("whole", "cut");
    (void)state;
}

static void a_death_at_any_step_changes_nothing(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    prepare();
    finish("whole", &c);
    for (int64_t at = 1; at <= STEPS; at++) {
        watch_init(&w, "cut");
        w.exit_at = at;
        go_and_die(&w, &c);
        finish("cut", &c);
        same_run("whole", "cut");
        remove_run("cut");
    }
    (void)state;
}

static void poison_at_7(void *ctx, const struct trainer *t, const struct step_report *r)
{
    const float nan_value = NAN;
    struct tensor first = tensor_slice(&t->model->params->w, 0, 1);
    if (r->step == 7)
        op_upload(t->model->be, &first, &nan_value, DTYPE_F32);
    saw_step_too(ctx, t, r);
}

/* The checkpoint of step 9 would replace that of step 6 as last.bin. */
static void weights_that_are_not_finite_replace_no_checkpoint(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    watch_init(&w, "cut");
    w.observer.step = poison_at_7;
    assert_int_equal(go(&w, &c, &err), STATUS_CHECK);
    assert_non_null(
        strstr(err.text, "step 9: the weight word_emb.emb_layers.0.weight has a value"));
    assert_int_equal(access("cut/step-00000006.bin", F_OK), 0);
    assert_int_not_equal(access("cut/step-00000009.bin", F_OK), 0);
    finish("cut", &c);
    same_run("whole", "cut");
    (void)state;
}

static void a_finished_run_says_so(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    watch_init(&w, "whole");
    assert_ok(go(&w, &c, &err), &err);
    assert_int_equal(w.steps, 0);
    assert_non_null(strstr(w.said, "nothing left to do"));
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_stop_at_any_step_changes_nothing),
        IN_SCRATCH(a_stop_after_every_step_changes_nothing),
        IN_SCRATCH(a_stop_in_an_evaluation_leaves_it_due),
        IN_SCRATCH(a_death_at_any_step_changes_nothing),
        IN_SCRATCH(weights_that_are_not_finite_replace_no_checkpoint),
        IN_SCRATCH(a_finished_run_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
