/* Thinned series keep every extreme, every mean and the last point, in a bounded number of points.
 */
#include "base/assert_ok.h"
#include "report/thinning.h"

#include <math.h>

static struct error err;

enum { CAPACITY = 8 };

/* A value that jumps about. */
static double value_of(int64_t row)
{
    return sin((double)(row * row));
}

static void add(struct thinning *t, int64_t row, double first, double second)
{
    const double axis[THINNING_AXES] = {(double)row, 10.0 * (double)row, 0.5 * (double)row};
    thinning_add(t, axis, (const double[]){first, second});
}

/* Compares buckets with rows 1 .. rows themselves. */
static void check_rows(const struct thinning *t, int64_t rows)
{
    int64_t row = 0;
    for (int i = 0; i < t->count; i++) {
        const struct bucket *b = &t->bucket[i];
        double sum = 0, least = INFINITY, most = -INFINITY;
        assert_true(b->rows == t->width || i == t->count - 1);
        for (int64_t k = 0; k < b->rows; k++) {
            double value = value_of(++row);
            sum += value;
            least = fmin(least, value);
            most = fmax(most, value);
        }
        assert_true(b->axis[0] == (double)row && b->axis[1] == 10.0 * (double)row);
        assert_int_equal(b->column[0].count, b->rows);
        assert_true(b->column[0].least == least && b->column[0].most == most);
        assert_true(fabs(thinned_mean(&b->column[0]) - sum / (double)b->rows) < 1e-12);
    }
    assert_int_equal(row, rows);
}

static void test_no_row_is_lost(void **state)
{
    (void)state;
    for (int64_t rows = 0; rows <= 100; rows++) {
        struct thinning t;
        ASSERT_OK(thinning_create(&t, 2, CAPACITY, &err));
        for (int64_t row = 1; row <= rows; row++)
            add(&t, row, value_of(row), NAN);
        check_rows(&t, rows);
        assert_true(t.count <= CAPACITY);
        assert_true(rows <= CAPACITY ? t.count == rows : t.count > CAPACITY / 2);
        thinning_free(&t);
    }
}

static void test_a_spike_survives(void **state)
{
    (void)state;
    struct thinning t;
    double most = 0;
    ASSERT_OK(thinning_create(&t, 2, CAPACITY, &err));
    for (int64_t row = 1; row <= 100000; row++)
        add(&t, row, row == 77777 ? 5 : 1, 0);
    for (int i = 0; i < t.count; i++)
        most = fmax(most, t.bucket[i].column[0].most);
    assert_true(most == 5);
    thinning_free(&t);
}

static void test_what_is_not_finite_is_missing(void **state)
{
    (void)state;
    struct thinning t;
    ASSERT_OK(thinning_create(&t, 2, 2, &err));
    add(&t, 1, NAN, 1);
    add(&t, 2, INFINITY, 2);
    assert_true(isnan(thinned_mean(&t.bucket[0].column[0])));
    add(&t, 3, 7, NAN);
    add(&t, 4, NAN, NAN);
    assert_int_equal(t.count, 2);
    assert_true(isnan(thinned_mean(&t.bucket[0].column[0])));
    assert_true(thinned_mean(&t.bucket[0].column[1]) == 1.5);
    assert_true(thinned_mean(&t.bucket[1].column[0]) == 7 && t.bucket[1].column[0].least == 7);
    assert_int_equal(t.bucket[1].column[1].count, 0);
    thinning_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_row_is_lost),
        cmocka_unit_test(test_a_spike_survives),
        cmocka_unit_test(test_what_is_not_finite_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
