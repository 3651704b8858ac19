#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/status.h"
#include <string.h>

/* The numbers are exit codes that scripts rely on. */
static void codes_are_fixed(void **state)
{
    assert_int_equal(STATUS_OK, 0);
    assert_int_equal(STATUS_CHECK, 1);
    assert_int_equal(STATUS_USAGE, 64);
    assert_int_equal(STATUS_DATA, 65);
    assert_int_equal(STATUS_NOINPUT, 66);
    assert_int_equal(STATUS_DEVICE, 69);
    assert_int_equal(STATUS_INTERNAL, 70);
    assert_int_equal(STATUS_NOMEM, 71);
    assert_int_equal(STATUS_CANTCREATE, 73);
    assert_int_equal(STATUS_IO, 74);
    assert_int_equal(STATUS_STOPPED, 75);
    assert_int_equal(STATUS_CONFIG, 78);
    (void)state;
}

static void every_status_has_its_words(void **state)
{
    const enum status all[] = {
#define X(name, code, text) STATUS_##name,
        STATUS_LIST(X)
#undef X
    };
    const size_t count = sizeof all / sizeof *all;
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(status_text(all[i])) > 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(status_text(all[i]), status_text(all[j]));
    }
    assert_string_equal(status_text((enum status)999), "unknown status");
    (void)state;
}

static void set_and_prefix(void **state)
{
    struct error err;
    assert_int_equal(error_set(&err, STATUS_DATA, "%d is %s", 7, "odd"), STATUS_DATA);
    assert_int_equal(err.status, STATUS_DATA);
    assert_string_equal(err.text, "7 is odd");
    error_prefix(&err, "file.json:%d", 12);
    assert_string_equal(err.text, "file.json:12: 7 is odd");
    assert_int_equal(err.status, STATUS_DATA);
    (void)state;
}

/* Messages longer than the buffer are cut at the end and stay terminated. */
static void long_messages_are_cut(void **state)
{
    struct error err;
    char text[2 * sizeof err.text];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    error_set(&err, STATUS_IO, "%s", text);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    error_prefix(&err, "name");
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(strncmp(err.text, "name: xxx", 9), 0);
    error_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(err.status, STATUS_IO);
    (void)state;
}

static enum status fails_if(int wanted, int at, int *reached)
{
    *reached = at;
    return wanted == at ? STATUS_IO : STATUS_OK;
}

static enum status two_steps(int fail, int *reached)
{
    TRY(fails_if(fail, 1, reached));
    TRY(fails_if(fail, 2, reached));
    return STATUS_OK;
}

static enum status two_steps_out(int fail, int *reached, int *cleaned)
{
    enum status status = STATUS_OK;
    TRY_OUT(fails_if(fail, 1, reached));
    TRY_OUT(fails_if(fail, 2, reached));
out:
    *cleaned = 1;
    return status;
}

static void control_characters_are_not_passed_on(void **state)
{
    struct error err;
    (void)state;
    error_set(&err, STATUS_DATA, "%s", "a\033[2Jb\nc\177 \xc2\x9b \xc3\xa9");
    assert_string_equal(err.text, "a?[2Jb?c? ?? \xc3\xa9");
    error_prefix(&err, "x\ty");
    assert_string_equal(err.text, "x?y: a?[2Jb?c? ?? \xc3\xa9");
}

static void try_returns_at_the_first_failure(void **state)
{
    for (int fail = 0; fail <= 2; fail++) {
        const int last = fail == 0 ? 2 : fail;
        const enum status want = fail == 0 ? STATUS_OK : STATUS_IO;
        int reached = 0, cleaned = 0;
        assert_int_equal(two_steps(fail, &reached), want);
        assert_int_equal(reached, last);
        assert_int_equal(two_steps_out(fail, &reached, &cleaned), want);
        assert_int_equal(reached, last);
        assert_int_equal(cleaned, 1);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_fixed),
        cmocka_unit_test(every_status_has_its_words),
        cmocka_unit_test(set_and_prefix),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(control_characters_are_not_passed_on),
        cmocka_unit_test(try_returns_at_the_first_failure),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
