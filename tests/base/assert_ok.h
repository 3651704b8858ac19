/* For calls that a test cannot go on without. */
#ifndef DEQ_TESTS_BASE_ASSERT_OK_H
#define DEQ_TESTS_BASE_ASSERT_OK_H

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* must(call(..., &err), &err): fails the test with the call's message. */
static inline void must(enum status status, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s", err->text);
}

/* OK(call(..., &err)): the same, with the call itself. */
#define OK(call) must_succeed((call), #call, &err)
static inline void must_succeed(enum status status, const char *call, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s: %s", call, err->text);
}

#endif
