/* Threads that run, in the line of the kernel on load. */
#include "base/assert_ok.h"
#include "base/cpu_running.h"

#include "scratch.h"

static int others_in(const char *text)
{
    FILE *f = fopen("loadavg", "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return cpu_running_others("loadavg");
}

static void test_others(void **state)
{
    (void)state;
    assert_int_equal(others_in("4.59 4.85 3.29 5/230 17576\n"), 4);
    assert_int_equal(others_in("0.00 0.01 0.05 1/160 998\n"), 0);
}

static void test_unknown(void **state)
{
    (void)state;
    assert_int_equal(others_in(""), 0);
    assert_int_equal(others_in("0.00 0.01\n"), 0);
    assert_int_equal(cpu_running_others("missing"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_unknown),
    };
    return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
