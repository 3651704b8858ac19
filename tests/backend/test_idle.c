/* Idle memory: what is lent lies inside it, aligned, never twice, and not where a solve works. */
#include "backend/idle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NUMBERS = 1000 };

static struct tensor wanted(int64_t numbers)
{
    return tensor_make(NULL, DTYPE_F32, 1, numbers, 1, 1, 1);
}

/* Bytes of `t` are marked in `used`, none of them twice; from 0 on, offsets into `base`. */
static void mark(unsigned char *used, const void *base, const struct tensor *t)
{
    size_t start = (size_t)((const char *)t->data - (const char *)base);
    assert_int_equal(start % IDLE_ALIGN, 0);
    assert_true(start + tensor_bytes(t) <= NUMBERS * sizeof(float));
    for (size_t i = 0; i < tensor_bytes(t); i++)
        assert_int_equal(used[start + i]++, 0);
}

static void takes_each_byte_once(void **state)
{
    (void)state;
    static unsigned char used[NUMBERS * sizeof(float)];
    float *base = aligned_alloc(IDLE_ALIGN, 4096);
    struct tensor all = tensor_make(base, DTYPE_F32, 1, NUMBERS, 1, 1, 1);
    assert_non_null(base);
    for (int64_t busy = 0; busy <= NUMBERS; busy += 250) {
        struct idle idle = {0};
        int64_t given = 0;
        memset(used, 0, sizeof used);
        idle_add(&idle, &all, busy);
        for (int i = 0; i < 100; i++) {
            struct tensor t = wanted(1 + i * 37 % 90);
            bool solving = i % 3 == 0;
            if (!idle_take(&idle, &t, solving)) {
                assert_null(t.data);
                continue;
            }
            mark(used, base, &t);
            given += tensor_count(&t);
            if (solving)
                assert_true((const float *)t.data >= base + busy);
        }
        assert_true(given > NUMBERS * 2 / 3); /* little is lost between */
    }
    free(base);
}

static void lasts_through_a_solve_or_not(void **state)
{
    (void)state;
    float *base = aligned_alloc(IDLE_ALIGN, 4096);
    struct tensor all = tensor_make(base, DTYPE_F32, 1, NUMBERS, 1, 1, 1), t = wanted(400);
    struct idle idle = {0};
    idle_add(&idle, &all, 700);
    assert_false(idle_take(&idle, &t, true)); /* 300 are left alone */
    t = wanted(200);
    assert_true(idle_take(&idle, &t, true));
    t = wanted(768);
    assert_true(idle_take(&idle, &t, false));
    assert_ptr_equal(t.data, base);
    t = wanted(64);
    assert_false(idle_take(&idle, &t, false));
    assert_false(idle_take(NULL, &t, false));
    free(base);
}

static void largest_piece(void **state)
{
    (void)state;
    float *base = aligned_alloc(IDLE_ALIGN, 4096);
    struct tensor few = tensor_make(base, DTYPE_F32, 1, 300, 1, 1, 1);
    struct tensor more = tensor_make(base + 304, DTYPE_F32, 1, 600, 1, 1, 1), none = {0};
    struct idle idle = {0};
    assert_null(idle_largest(&idle, DTYPE_F32).data);
    idle_add(&idle, &none, 0);
    idle_add(&idle, &few, 0);
    idle_add(&idle, &more, 600);
    struct tensor largest = idle_largest(&idle, DTYPE_F64);
    assert_ptr_equal(largest.data, base + 304);
    assert_int_equal(tensor_count(&largest), 300);
    free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_each_byte_once),
        cmocka_unit_test(lasts_through_a_solve_or_not),
        cmocka_unit_test(largest_piece),
    };
    return cmocka_run_group_tests_name("idle memory", tests, NULL, NULL);
}
