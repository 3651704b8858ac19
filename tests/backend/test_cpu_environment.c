/* The environment of the libraries does not decide about precision, nor does the backend change
 * their settings for the process it runs in. */
#include "backend/cpu/cpu.h"
#include "base/assert_ok.h"

#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

enum { ROWS = 64, COLS = 64, INNER = 256 };

/* One number of a product that oneDNN's matmul computes, where the processor has a fast one. */
static float product(struct backend *be)
{
    struct error err;
    struct tensor a, b, c;
    float host[ROWS * INNER];
    for (int i = 0; i < ROWS * INNER; i++)
        host[i] = 1 + 1e-3f * (float)(i % 7);
    assert_ok(op_alloc(be, &a, DTYPE_F32, 2, ROWS, INNER, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &b, DTYPE_F32, 2, COLS, INNER, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &c, DTYPE_F32, 2, ROWS, COLS, 1, 1, &err), &err);
    op_upload(be, &a, host, DTYPE_F32);
    op_upload(be, &b, host, DTYPE_F32);
    op_gemm(be, &(struct gemm){.a = a, .b = b, .c = c, .trans_b = true, .alpha = 1});
    op_download(be, host, DTYPE_F32, &c);
    op_release(be, &a);
    op_release(be, &b);
    op_release(be, &c);
    return host[0];
}

static void products_stay_in_float32(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    double want = 0;
    dnnl_fpmath_mode_t before = dnnl_fpmath_mode_strict, after = dnnl_fpmath_mode_strict;
    assert_int_equal(dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_any), dnnl_success);
    assert_int_equal(dnnl_get_default_fpmath_mode(&before), dnnl_success);
    assert_ok(cpu_open(&be, 1, &err), &err);
    for (int i = 0; i < INNER; i++)
        want += (1 + 1e-3 * (i % 7)) * (1 + 1e-3 * (i % 7));
    /* factors rounded to bfloat16 are wrong by up to 2e-3 each, and here by 1e-3 in the mean */
    assert_true(fabs(product(&be) - want) < 1e-5 * want);
    backend_close(&be);
    assert_int_equal(dnnl_get_default_fpmath_mode(&after), dnnl_success);
    assert_int_equal(before, after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_stay_in_float32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
