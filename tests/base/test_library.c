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

static const char *const maths[] = {"libdeq-is-not-here.so.1", "libm.so.6", NULL};
static const char *const nowhere[] = {"libdeq-is-not-here.so.1", NULL};

double cbrt(double x);
int deq_has_no_such_function(int x);
double deq_sqrt_of_nowhere(double x);
LIBRARY_FORWARD(maths, double, cbrt, (double x), (x), -1)
LIBRARY_FORWARD(maths, int, deq_has_no_such_function, (int x), (x), x + 1)
LIBRARY_FORWARD(nowhere, double, deq_sqrt_of_nowhere, (double x), (x), -1)

static void test_passes_calls_on(void **state)
{
    volatile double eight = 8; /* else the compiler knows the answer */
    (void)state;
    assert_ptr_equal(library_function(maths, "erf"), library_function(maths + 1, "erf"));
    assert_true(cbrt(eight) == 2);
    assert_null(library_function(maths, "deq_has_no_such_function"));
    assert_int_equal(deq_has_no_such_function(4), 5);
    assert_null(library_function(nowhere, "sqrt"));
    assert_true(deq_sqrt_of_nowhere(4) == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_the_first_there_is),
        cmocka_unit_test(test_says_what_was_tried),
        cmocka_unit_test(test_passes_calls_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
