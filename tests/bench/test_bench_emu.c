/* What deq bench finds on a device that works beside the host. On the emulated one each kernel,
 * product and copy takes a millisecond, so that the seconds of operations are known exactly. */
#include "bench/bench.h"
#include "bench/device_roof.h"
#include "bench/real.h"
#include "cuda/cuda.h"
#include "emu/emu.h"

#include <math.h>

static bool is_near(double x, double y)
{
    return fabs(x - y) < 1e-9 * (1 + fabs(y));
}

/* An operation has the seconds of its own kernels, and a read-back has no others. */
static void test_operations(void **state)
{
    struct backend be;
    struct bench_step_result r;
    struct error err;
    const struct bench_options two = {.train = true, .steps = 2};
    struct config config = setting(SET("model.dropout=0.1"));
    (void)state;
    assert_ok(cuda_open(&be, &err), &err);
    assert_ok(bench_run(&be, &config, &two, &r, &err), &err);
    assert_true(r.device_times && !be.timed && r.steps == 2);
    assert_true(r.stat[OP_gemm].calls > 0 && r.stat[OP_download].calls > 0);
    assert_true(is_near(r.stat[OP_gemm].seconds, 1e-3 * (double)r.stat[OP_gemm].calls));
    assert_true(is_near(r.stat[OP_download].seconds, 1e-3 * (double)r.stat[OP_download].calls));
    for (int i = 0; i < OP_COUNT; i++) {
        double phases = 0;
        for (int p = 0; p < BENCH_COUNT; p++)
            phases += r.phase[p][i].seconds;
        assert_true(is_near(phases, r.stat[i].seconds));
    }
    assert_true(r.phase[BENCH_OPTIMIZER][OP_adam].seconds > 0);
    backend_close(&be);
}

/* More calls than there are events. */
static void test_many_calls(void **state)
{
    enum { CALLS = 5001 };
    struct backend be;
    struct error err;
    struct tensor a, b;
    (void)state;
    assert_ok(cuda_open(&be, &err), &err);
    assert_ok(op_alloc(&be, &a, DTYPE_F32, 1, 8, 1, 1, 1, &err), &err);
    assert_ok(op_alloc(&be, &b, DTYPE_F32, 1, 8, 1, 1, 1, &err), &err);
    assert_ok(backend_time_calls(&be, true, &err), &err);
    backend_reset_stats(&be);
    for (int i = 0; i < CALLS; i++)
        op_copy(&be, &a, &b);
    backend_settle(&be);
    assert_true(is_near(be.stat[OP_copy].seconds, 1e-3 * CALLS));
    assert_true(be.stat[OP_fill].seconds == 0); /* noted before the statistics began anew */
    backend_settle(&be);
    assert_true(is_near(be.stat[OP_copy].seconds, 1e-3 * CALLS));
    assert_ok(backend_time_calls(&be, false, &err), &err);
    op_release(&be, &a);
    op_release(&be, &b);
    assert_ok(backend_check(&be, &err), &err);
    backend_close(&be);
}

static void test_roof(void **state)
{
    struct backend be;
    struct device_roof r;
    struct error err;
    (void)state;
    assert_ok(cuda_open(&be, &err), &err);
    for (int p = 0; p < PRECISION_COUNT; p++) {
        assert_ok(backend_set_precision(&be, (enum precision)p, &err), &err);
        assert_ok(backend_time_calls(&be, true, &err), &err);
        assert_ok(device_roof_measure(&r, &be, &err), &err);
        assert_ok(backend_time_calls(&be, false, &err), &err);
        assert_true(is_near(r.product, 2 * pow((double)r.size, 3) / 1e-3));
        assert_true(is_near(r.copy, 2 * r.copied / 1e-3));
        assert_int_equal(be.bytes, 0);
    }
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_many_calls),
        cmocka_unit_test(test_roof),
    };
    return cmocka_run_group_tests_name("bench on emulated cuda", tests, NULL, NULL);
}
