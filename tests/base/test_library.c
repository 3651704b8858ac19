#include "base/library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_takes_the_first_there_is(void **state)
{
    const char *const names[] = {"libdeq-is-not-here.so.1", "libm.so.6", "libc.so.6", NULL};
    const char *const found[] = {"libm.so.6", NULL};
    char tried[256];
    (void)state;
    void *library = library_open(names, tried, sizeof tried);
    assert_non_null(library);
    assert_ptr_equal(library, library_open(found, tried, sizeof tried));
}

static void test_says_what_was_tried(void **state)
{
    const char *const names[] = {"libdeq-is-not-here.so.1", "/nowhere/libdeq.so.2", NULL};
    char tried[512], narrow[40];
    (void)state;
    assert_null(library_open(names, tried, sizeof tried));
    assert_non_null(strstr(tried, names[0]));
    assert_non_null(strstr(tried, names[1]));
    assert_non_null(strstr(tried, "No such file"));
    assert_null(library_open(names, narrow, sizeof narrow));
    assert_true(strlen(narrow) < sizeof narrow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_the_first_there_is),
        cmocka_unit_test(test_says_what_was_tried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
