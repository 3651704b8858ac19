/* Names of weights as wrappers of a training leave them. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "store/weight_name.h"

#include <string.h>

static void test_wrappers(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"func.a.weight", "func.a.weight"},
        {"w:func.a.weight", "func.a.weight"},
        {"_orig_mod.func.a.weight", "func.a.weight"},
        {"module.func.a.weight", "func.a.weight"},
        {"model.func.a.weight", "func.a.weight"},
        {"net.func.a.weight", "func.a.weight"},
        {"_orig_mod.module.func.a.weight", "func.a.weight"},
        {"module._orig_mod.func.a.weight", "func.a.weight"},
        {"state_dict.model._orig_mod.module.func.a.weight", "func.a.weight"},
        {"_forward_module.model.func.a.weight", "func.a.weight"},
        {"_fsdp_wrapped_module.func._fsdp_wrapped_module.a.weight", "func.a.weight"},
        {"func._checkpoint_wrapped_module._orig_mod.a.weight", "func.a.weight"},
        {"func.a.parametrizations.weight.original0", "func.a.weight_g"},
        {"module.func.a.parametrizations.weight.original1", "func.a.weight_v"},
        /* Not wrappers: inner parts of those names, and other models beside this one. */
        {"func.model.weight", "func.model.weight"},
        {"func.module.weight", "func.module.weight"},
        {"model_ema.func.a.weight", "model_ema.func.a.weight"},
        {"modules.func.a.weight", "modules.func.a.weight"},
        {"func.a.parametrizations.weight.original2", "func.a.parametrizations.weight.original2"},
        /* The last part is a weight's own name. */
        {"module", "module"},
        {"model.module", "module"},
        {"_orig_mod", "_orig_mod"},
        {"", ""},
        {".", "."},
        {"model.", ""},
        {"a..b", "a..b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char plain[80];
        assert_int_equal(weight_name_plain(cases[i][0], plain, sizeof plain), strlen(cases[i][1]));
        assert_string_equal(plain, cases[i][1]);
    }
}

static void test_long_names_are_cut(void **state)
{
    (void)state;
    char plain[5] = "xxxx";
    assert_int_equal(weight_name_plain("module.abcd", plain, sizeof plain), 4);
    assert_string_equal(plain, "abcd");
    assert_int_equal(weight_name_plain("module.abc.de", plain, sizeof plain), 6);
    assert_string_equal(plain, "abc.");
    assert_int_equal(weight_name_plain("abc", NULL, 0), 3);
}

static void test_names_of_modules(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"func.a.weight_g", "func.a.parametrizations.weight.original0"},
        {"func.a.weight_v", "func.a.parametrizations.weight.original1"},
        {"func.a.weight", "func.a.weight"},
        {"func.a.b_weight_v", "func.a.b_weight_v"},
        {"weight_g", "parametrizations.weight.original0"},
        {"tail_bias", "tail_bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[80], plain[80];
        assert_int_equal(weight_name_torch(cases[i][0], name, sizeof name), strlen(cases[i][1]));
        assert_string_equal(name, cases[i][1]);
        weight_name_plain(name, plain, sizeof plain);
        assert_string_equal(plain, cases[i][0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrappers),
        cmocka_unit_test(test_long_names_are_cut),
        cmocka_unit_test(test_names_of_modules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
