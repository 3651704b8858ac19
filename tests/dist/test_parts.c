/* How a flat array is divided among ranks. */
#include "dist/dist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MI = DIST_BUCKET };

static void a_large_array_has_larger_buckets(void **state)
{
    (void)state;
    assert_int_equal(dist_bucket_size(1), MI);
    assert_int_equal(dist_bucket_size(32 * MI), MI);
    assert_int_equal(dist_bucket_size(32 * MI + 1), 2 * MI);
    assert_int_equal(dist_bucket_size(1000 * (int64_t)MI), 32 * MI);
}

/* The parts lie one behind the other, begin at vector boundaries and cover the array. No part is
 * larger than that of rank 0 in the first bucket, on which others rely. */
static void check(int64_t total, int ranks)
{
    struct dist *d;
    struct error err;
    assert_int_equal(dist_imagine(&d, ranks, &err), STATUS_OK);
    int64_t end = 0, most = dist_part(d, total, 0, 0).count;
    assert_true(dist_buckets(d, total) <= DIST_MOST_BUCKETS);
    for (int64_t b = 0; b < dist_buckets(d, total); b++)
        for (int r = 0; r < ranks; r++) {
            struct dist_part part = dist_part(d, total, b, r);
            assert_int_equal(part.first, end);
            assert_true(part.count >= 0 && part.count <= most);
            if (part.count > 0)
                assert_int_equal(part.first % 16, 0);
            end += part.count;
        }
    assert_int_equal(end, total);
    dist_forget(d);
}

static void parts_cover_an_array(void **state)
{
    (void)state;
    static const int64_t totals[] = {1,
                                     12345,
                                     MI,
                                     3 * MI + 12345,
                                     32 * MI,
                                     33 * MI + 7,
                                     INT64_C(1011451008),
                                     INT64_C(70000000003)};
    static const int ranks[] = {2, 3, 8, 64, 512, 4096};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
        for (size_t k = 0; k < sizeof ranks / sizeof *ranks; k++)
            check(totals[i], ranks[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_array_has_larger_buckets),
        cmocka_unit_test(parts_cover_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
