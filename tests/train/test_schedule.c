/* Limits of solves and the weight of the penalty as a training goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/schedule.h"
#include <math.h>

static const struct config_train train = {.steps = 101, .pretrain_steps = 1, .seed = 9};

static void constant_without_settings(void **state)
{
    (void)state;
    const struct solver_config s = {.max_iter = 12, .tol = 1e-3};
    const struct config_limits change = {0};
    assert_false(schedule_limits_vary(&change));
    for (int64_t n = 1; n <= 101; n += 10) {
        struct solve_limits l = schedule_limits(&s, &change, &train, n, n, 0);
        assert_int_equal(l.max_iter, 12);
        assert_true(l.tol == 1e-3);
    }
}

static void from_start_to_end(void **state)
{
    (void)state;
    const struct solver_config s = {.max_iter = 14, .tol = 1e-4};
    const struct config_limits change = {.iter_start = 4, .tol_start = 1e-2};
    struct solve_limits first = schedule_limits(&s, &change, &train, 2, 0, 0);
    struct solve_limits middle = schedule_limits(&s, &change, &train, 51, 0, 0);
    struct solve_limits last = schedule_limits(&s, &change, &train, 101, 0, 0);
    assert_int_equal(first.max_iter, 4);
    assert_int_equal(last.max_iter, 14);
    assert_true(middle.max_iter == 8 || middle.max_iter == 9);
    assert_true(fabs(first.tol - 1e-2) < 1e-15 && fabs(last.tol - 1e-4) < 1e-17);
    assert_true(fabs(log10(middle.tol) + 3) < 0.02);
}

static void drawn_limits(void **state)
{
    (void)state;
    enum { DRAWS = 3000 };
    const struct solver_config s = {.max_iter = 12, .tol = 1e-3};
    const struct config_limits change = {.rand_delta = 2};
    int64_t seen[13] = {0}, apart = 0;
    for (int64_t i = 0; i < DRAWS; i++) {
        int64_t forward = schedule_limits(&s, &change, &train, 50, i, 0).max_iter;
        assert_true(forward >= 10 && forward <= 12);
        assert_int_equal(forward, schedule_limits(&s, &change, &train, 50, i, 0).max_iter);
        apart += forward != schedule_limits(&s, &change, &train, 50, i, 1).max_iter;
        seen[forward]++;
    }
    /* each is drawn in a third of the cases, 1000 with a standard deviation of 26 */
    for (int k = 10; k <= 12; k++)
        assert_in_range(seen[k], 870, 1130);
    assert_true(apart > DRAWS / 2);
}

static void penalty_ramp(void **state)
{
    (void)state;
    const struct config_train t = {.steps = 100, .pretrain_steps = 15};
    struct config_jacobian j = {.weight = 2, .ramp_add = 0.1};
    assert_true(schedule_penalty(&j, &t, 15) == 0);
    assert_true(schedule_penalty(&j, &t, 16) == 2);
    j.ramp_every = 10;
    /* the weight rises at 20, 30, ... */
    assert_true(schedule_penalty(&j, &t, 19) == 2);
    assert_true(fabs(schedule_penalty(&j, &t, 20) - 2.1) < 1e-12);
    assert_true(fabs(schedule_penalty(&j, &t, 45) - 2.3) < 1e-12);
}

static void wsd_stays_and_falls(void **state)
{
    struct config_train t = {.steps = 100,
                             .warmup_steps = 10,
                             .lr = 1,
                             .lr_min = 0.1,
                             .schedule = SCHEDULE_WSD,
                             .cooldown_share = 0.2};
    (void)state;
    assert_int_equal(schedule_cooldown(&t), 81);
    assert_true(schedule_rate(&t, 5, false) == 0.5);
    assert_true(schedule_rate(&t, 10, false) == 1 && schedule_rate(&t, 80, false) == 1);
    assert_true(fabs(schedule_rate(&t, 81, false) - (1 - 0.9 / 20)) < 1e-12);
    assert_true(fabs(schedule_rate(&t, 90, false) - 0.55) < 1e-12);
    assert_true(fabs(schedule_rate(&t, 100, false) - 0.1) < 1e-12);
    assert_true(schedule_rate(&t, 200, false) == t.lr_min);
    t.cooldown_share = 0;
    assert_true(schedule_cooldown(&t) > 100);
    assert_true(schedule_rate(&t, 100, false) == 1);
    t.cooldown_share = 1; /* the warm-up comes first */
    assert_int_equal(schedule_cooldown(&t), 11);
    assert_true(schedule_rate(&t, 10, false) == 1);
    assert_true(fabs(schedule_rate(&t, 55, false) - 0.55) < 1e-12);
    /* the published code counts from 0 */
    t.cooldown_share = 0.2;
    assert_true(schedule_rate(&t, 81, true) == 1 && schedule_rate(&t, 82, true) < 1);
}

static void a_schedule_that_begins_anew_fits_its_steps(void **state)
{
    const struct config_train t = {.steps = 400, .warmup_steps = 50, .lr = 0.5};
    char text[SCHEDULE_TEXT];
    (void)state;
    assert_int_equal(schedule_from(&t, 0).warmup_steps, 50);
    assert_int_equal(schedule_from(&t, 0).steps, 400);
    assert_int_equal(schedule_from(&t, 100).warmup_steps, 50);
    struct config_train short_one = schedule_from(&t, 300);
    assert_int_equal(short_one.steps, 100);
    assert_int_equal(short_one.warmup_steps, 20);
    schedule_text(&t, 300, text);
    assert_string_equal(text, "rises over 20 steps to 0.5 and falls by a cosine to 0 at step 400");
    struct config_train wsd = t;
    wsd.schedule = SCHEDULE_WSD;
    wsd.cooldown_share = 0.3;
    schedule_text(&wsd, 300, text);
    assert_string_equal(text, "rises over 20 steps to 0.5, stays there and falls to 0 over the "
                              "last 30 steps, up to 400");
    wsd.schedule = SCHEDULE_CONSTANT;
    wsd.warmup_steps = 0;
    schedule_text(&wsd, 300, text);
    assert_string_equal(text, "begins at 0.5 and stays there");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_without_settings),
        cmocka_unit_test(from_start_to_end),
        cmocka_unit_test(drawn_limits),
        cmocka_unit_test(penalty_ramp),
        cmocka_unit_test(wsd_stays_and_falls),
        cmocka_unit_test(a_schedule_that_begins_anew_fits_its_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
