/* Known distances of base/strdist, the axioms of a distance, and the choice of the nearest name. */
#include "base/strdist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_known(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int distance;
    } cases[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"abc", "", 3},
        {"abc", "abc", 0},
        {"abc", "abd", 1},
        {"abc", "acb", 1},
        {"abc", "ab", 1},
        {"ab", "abc", 1},
        {"ca", "abc", 3}, /* 2 without the restriction of optimal string alignment */
        {"kitten", "sitting", 3},
        {"d_modle", "d_model", 1},
        {"eval", "train", 4},
        {"abcd", "badc", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(strdist(cases[i].a, cases[i].b), cases[i].distance);
        assert_int_equal(strdist(cases[i].b, cases[i].a), cases[i].distance);
    }
}

static void test_long_names(void **state)
{
    (void)state;
    char a[200], b[200];
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    a[199] = b[199] = '\0';
    assert_int_equal(strdist(a, b), 63);
    assert_int_equal(strdist(a, ""), 63);
    b[63] = '\0';
    assert_int_equal(strdist(a, b), 63);
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"train", "eval", "sample", "info", "verify", "plan"};
    size_t n = sizeof names / sizeof *names;
    assert_string_equal(strdist_nearest("trian", names, n), "train");
    assert_string_equal(strdist_nearest("smaple", names, n), "sample");
    assert_null(strdist_nearest("eval", names, 0));
    assert_string_equal(strdist_nearest("plan", names, n), "plan");
    assert_null(strdist_nearest("frobnicate", names, n));
    assert_null(strdist_nearest("tokenize", names, n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests_name("base/strdist", tests, NULL, NULL);
}
