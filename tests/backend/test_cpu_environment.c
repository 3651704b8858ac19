/* The environment of the libraries does not decide about precision. */
#include "backend/cpu/cpu.h"
#include "base/assert_ok.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

static void products_stay_in_float32(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    dnnl_fpmath_mode_t mode = dnnl_fpmath_mode_any;
    setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16", 1);
    assert_ok(cpu_open(&be, 1, &err), &err);
    assert_int_equal(dnnl_get_default_fpmath_mode(&mode), dnnl_success);
    assert_int_equal(mode, dnnl_fpmath_mode_strict);
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_stay_in_float32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
