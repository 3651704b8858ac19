#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include <string.h>

/* AddressSanitizer reads this, so that a refused request returns NULL as it does without it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void allocates_zeroed_and_aligned(void **state)
{
    const size_t counts[] = {1, 3, 63, 64, 65, 10000};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        struct error err;
        void *p = NULL;
        assert_int_equal(mem_alloc(&p, counts[k], sizeof(double), &err), STATUS_OK);
        assert_true((uintptr_t)p % 64 == 0);
        for (size_t i = 0; i < counts[k]; i++)
            assert_true(((double *)p)[i] == 0);
        memset(p, 0xff,
               counts[k] * sizeof(double)); /* a sanitizer would report bytes that are not ours */
        mem_free(p);
    }
    (void)state;
}

static void zero_sizes_can_be_freed(void **state)
{
    struct error err;
    void *p = NULL, *q = NULL;
    assert_int_equal(mem_alloc(&p, 0, 8, &err), STATUS_OK);
    assert_int_equal(mem_alloc(&q, 8, 0, &err), STATUS_OK);
    assert_true(p != NULL && q != NULL);
    mem_free(p);
    mem_free(q);
    mem_free(NULL);
    (void)state;
}

/* Products beyond size_t, sizes that overflow only by their rounding up, and requests that no
 * machine can meet are all refused, with the pointer NULL and a message. */
static void refuses_what_cannot_be(void **state)
{
    static const struct {
        size_t count, size;
    } absurd[] = {{SIZE_MAX, 2},
                  {SIZE_MAX / 2 + 1, 2},
                  {SIZE_MAX, 1},
                  {SIZE_MAX - 32, 1},
                  {(size_t)1 << 40, (size_t)1 << 20}};
    for (size_t k = 0; k < sizeof absurd / sizeof *absurd; k++) {
        struct error err = {STATUS_OK, ""};
        void *p = &err;
        assert_int_equal(mem_alloc(&p, absurd[k].count, absurd[k].size, &err), STATUS_NOMEM);
        assert_null(p);
        assert_int_equal(err.status, STATUS_NOMEM);
        assert_non_null(strstr(err.text, "out of memory"));
    }
    (void)state;
}

static void grows_and_keeps(void **state)
{
    struct error err;
    void *p = NULL;
    assert_int_equal(mem_grow(&p, 0, 3, sizeof(int), &err), STATUS_OK);
    for (int i = 0; i < 3; i++)
        ((int *)p)[i] = i + 1;
    assert_int_equal(mem_grow(&p, 3, 100, sizeof(int), &err), STATUS_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(((int *)p)[i], i < 3 ? i + 1 : 0);
    assert_int_equal(mem_grow(&p, 100, 2, sizeof(int), &err), STATUS_OK);
    assert_int_equal(((int *)p)[1], 2);
    void *before = p;
    assert_int_equal(mem_grow(&p, 2, SIZE_MAX, sizeof(int), &err), STATUS_NOMEM);
    assert_ptr_equal(p, before);
    assert_int_equal(((int *)p)[0], 1);
    mem_free(p);
    (void)state;
}

static void copies_strings(void **state)
{
    struct error err;
    const char *texts[] = {"", "a",
                           "a longer text of more than sixty-four bytes, so that it needs two"};
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        char *copy = NULL;
        assert_int_equal(mem_strdup(&copy, texts[k], &err), STATUS_OK);
        assert_string_equal(copy, texts[k]);
        assert_true(copy != texts[k]);
        mem_free(copy);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocates_zeroed_and_aligned),
        cmocka_unit_test(zero_sizes_can_be_freed),
        cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(grows_and_keeps),
        cmocka_unit_test(copies_strings),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
