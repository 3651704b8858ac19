/* A line of progress in windows of all widths. */
#include "cmd/progress_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct progress_line line = {
    .count = 4, .field = {{0, "step 12/36"}, {2, "33 %"}, {1, "loss 3.2"}, {3, "ppl 24.5"}}};

static void check(int width, const char *want)
{
    char out[PROGRESS_LINE_MAX];
    progress_line_write(&line, width, out);
    assert_string_equal(out, want);
}

static void test_fields_go_by_their_rank(void **state)
{
    (void)state;
    check(0, "step 12/36  33 %  loss 3.2  ppl 24.5");
    check(36, "step 12/36  33 %  loss 3.2  ppl 24.5");
    check(35, "step 12/36  33 %  loss 3.2");
    check(26, "step 12/36  33 %  loss 3.2");
    check(25, "step 12/36  loss 3.2");
    check(19, "step 12/36");
    check(4, "step");
}

static void test_no_width_is_exceeded(void **state)
{
    struct progress_line full = {0};
    char out[PROGRESS_LINE_MAX];
    (void)state;
    for (int i = 0; i < PROGRESS_FIELDS_MAX; i++)
        progress_line_add(&full, i * 7 % 5, "%d%0*d", i, PROGRESS_FIELD_MAX, i);
    for (int width = 1; width < PROGRESS_LINE_MAX; width++) {
        progress_line_write(&full, width, out);
        assert_true(strlen(out) <= (size_t)width);
    }
    progress_line_write(&full, 0, out);
    assert_int_equal(strlen(out), PROGRESS_LINE_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_go_by_their_rank),
        cmocka_unit_test(test_no_width_is_exceeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
