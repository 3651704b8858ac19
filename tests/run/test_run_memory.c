/* What a run would take is counted without taking it, and is what it then takes. */
#include "backend/cpu/cpu.h"
#include "deq/settings.h"
#include "optimizer/optimizer.h"
#include "run/run.h"
#include "train/evaluation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct backend be;

static int open_backend(void **state)
{
    struct error err;
    (void)state;
    return cpu_open(&be, 1, &err) == STATUS_OK ? 0 : -1;
}

static int close_backend(void **state)
{
    (void)state;
    backend_close(&be);
    return 0;
}

static struct config small_config(void)
{
    return config_of(50,
                     SET("model.d_model=16", "model.n_head=2", "model.d_inner=32", "train.batch=6",
                         "train.tgt_len=8", "train.mem_len=4", "eval.batch=1", "eval.tgt_len=8",
                         "eval.mem_len=4"),
                     SET(NULL));
}

static void test_counts_what_is_taken(void **state)
{
    struct config c = small_config();
    struct error err;
    struct model *model, *eval;
    struct optimizer optimizer;
    struct model_plan plan = {.batch = 6, .length = 8, .mem_len = 4, .memories = 1, .train = true};
    size_t planned = 0;
    (void)state;
    assert_ok(run_memory(&be, &c, 1, &planned, &err), &err);
    assert_int_equal(be.bytes, 0);
    assert_int_equal(be.peak_bytes, 0);
    assert_int_equal(be.syncs, 0);
    assert_ok(model_create(&model, &be, &c, NULL, &plan, &err), &err);
    assert_ok(optimizer_create(&optimizer, model->params, &c.train, NULL, &err), &err);
    assert_ok(evaluation_model(&eval, &be, &c, model->params, false, &err), &err);
    assert_int_equal(planned, be.peak_bytes);
    optimizer_free(&optimizer);
    model_free(eval);
    model_free(model);
    assert_int_equal(be.bytes, 0);
}

static void test_says_what_would_fit(void **state)
{
    struct config c = small_config(), fewer = c;
    struct error err;
    size_t whole = 0, third = 0, bytes = 0;
    (void)state;
    fewer.train.accumulate = 3;
    assert_ok(run_memory(&be, &c, 1, &whole, &err), &err);
    assert_ok(run_memory(&be, &fewer, 1, &third, &err), &err);
    assert_true(third < whole);
    be.device_free = 2 * whole;
    assert_ok(run_check_memory(&be, &c, 1, &bytes, &err), &err);
    be.device_free = third + third / 20; /* some is held back */
    assert_int_equal(run_check_memory(&be, &c, 1, &bytes, &err), STATUS_DEVICE);
    assert_non_null(strstr(err.text, "train.accumulate=3 in place of 1 would fit"));
    be.device_free = 1000;
    assert_int_equal(run_check_memory(&be, &c, 1, &bytes, &err), STATUS_DEVICE);
    assert_non_null(strstr(err.text, "no train.accumulate would make it fit"));
    assert_int_equal(be.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts_what_is_taken, open_backend, close_backend),
        cmocka_unit_test_setup_teardown(test_says_what_would_fit, open_backend, close_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
