/* For calls that a test cannot go on without. */
#ifndef DEQ_TESTS_BASE_ASSERT_OK_H
#define DEQ_TESTS_BASE_ASSERT_OK_H

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* assert_ok(call(..., &err), &err) fails the test with the call's message. */
static inline void assert_ok(enum status status, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s", err->text);
}

/* ASSERT_OK(call(..., &err)) fails with the text of the call too. */
#define ASSERT_OK(call) assert_ok_call((call), #call, &err)
static inline void assert_ok_call(enum status status, const char *call, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s: %s", call, err->text);
}

#endif
