/* The line that says what a training takes. */
#include "cmd/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check_count(int64_t count, const char *want)
{
    char text[ESTIMATE_COUNT_MAX];
    estimate_count(count, text);
    assert_string_equal(text, want);
}

static void test_counts_have_commas(void **state)
{
    (void)state;
    check_count(0, "0");
    check_count(999, "999");
    check_count(1000, "1,000");
    check_count(-123456, "-123,456");
    check_count(1234567, "1,234,567");
    check_count(INT64_MIN, "-9,223,372,036,854,775,808");
}

static void check_duration(double seconds, const char *want)
{
    char text[ESTIMATE_COUNT_MAX];
    estimate_duration(seconds, text);
    assert_string_equal(text, want);
}

static void test_durations_have_two_units(void **state)
{
    (void)state;
    check_duration(-1, "0 s");
    check_duration(59.4, "59 s");
    check_duration(59.6, "1 min");
    check_duration(160, "2 min 40 s");
    check_duration(3599.7, "1 h");
    check_duration(3 * 3600 + 20 * 60, "3 h 20 min");
    check_duration(3 * 3600 + 20 * 60 + 31, "3 h 21 min");
    check_duration(99 * 86400 + 3 * 3600, "99 days 3 h");
}

static void check_bytes(double bytes, const char *want)
{
    char text[ESTIMATE_COUNT_MAX];
    estimate_bytes(bytes, text);
    assert_string_equal(text, want);
}

static void test_bytes_have_two_digits_or_more(void **state)
{
    (void)state;
    check_bytes(17, "17 bytes");
    check_bytes(9.9 * 1024, "9.9 KiB");
    check_bytes(9.96 * 1024, "10 KiB");
    check_bytes(37.2 * 1048576, "37 MiB");
    check_bytes(1023.6 * 1048576, "1.0 GiB");
    check_bytes(24 * 1073741824.0, "24 GiB");
}

static void test_the_line(void **state)
{
    char text[ESTIMATE_MAX];
    struct estimate e = {.steps = 3600,
                         .tokens = 1024,
                         .seconds = 160,
                         .bytes = 37 * 1048576.0,
                         .machine = 24 * 1073741824.0};
    (void)state;
    estimate_text(&e, text);
    assert_string_equal(text,
                        "3,600 steps of 1,024 tokens: about 2 min 40 s here; 37 MiB of 24 GiB");
    e.where = "on h100, modelled";
    estimate_text(&e, text);
    assert_string_equal(text, "3,600 steps of 1,024 tokens: about 2 min 40 s on h100, modelled; "
                              "37 MiB of 24 GiB");
    e.seconds = NAN;
    e.steps = e.tokens = 1;
    estimate_text(&e, text);
    assert_string_equal(text, "1 step of 1 token: 37 MiB of 24 GiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_have_commas),
        cmocka_unit_test(test_durations_have_two_units),
        cmocka_unit_test(test_bytes_have_two_digits_or_more),
        cmocka_unit_test(test_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
