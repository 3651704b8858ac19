/* Products of the CPU backend, beyond the suite's sizes: a row by itself and among others. */
#include "backend/cpu/cpu.h"
#include "backend/ops.h"
#include "base/assert_ok.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_ROWS = 200 };

struct fixture {
    struct backend be;
    struct tensor a, w, all, some;
};

/* Factors a [MOST_ROWS, inner] and w, the map to `width` numbers as layers store it, or with
 * `back` the one on the way back. */
static void set_up(struct fixture *f, int threads, int64_t inner, int64_t width, bool back)
{
    struct error err;
    struct backend *be = &f->be;
    assert_ok(cpu_open(be, threads, &err), &err);
    assert_ok(op_alloc(be, &f->a, DTYPE_F32, 2, MOST_ROWS, inner, 1, 1, &err), &err);
    assert_ok(
        op_alloc(be, &f->w, DTYPE_F32, 2, back ? inner : width, back ? width : inner, 1, 1, &err),
        &err);
    assert_ok(op_alloc(be, &f->all, DTYPE_F32, 2, MOST_ROWS, width, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &f->some, DTYPE_F32, 2, MOST_ROWS, width, 1, 1, &err), &err);
    op_fill_normal(be, &f->a, 1, (struct rng_key){1, 2});
    op_fill_normal(be, &f->w, 1, (struct rng_key){3, 4});
}

static void tear_down(struct fixture *f)
{
    struct tensor *all[] = {&f->a, &f->w, &f->all, &f->some};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(&f->be, all[i]);
    backend_close(&f->be);
}

/* From BATCH_INVARIANT_ROWS rows on, the bits of a row depend neither on how many there are nor on
 * its place. A processor whose products do not promise it skips the test. */
static void batch_invariant(int threads, int64_t inner, int64_t width, bool back)
{
    struct fixture f;
    struct error err;
    set_up(&f, threads, inner, width, back);
    if (!f.be.batch_invariant) {
        tear_down(&f);
        print_message("# this processor's products do not promise it\n");
        skip();
    }
    op_gemm(&f.be, &(struct gemm){.trans_b = !back, .alpha = 1, .a = f.a, .b = f.w, .c = f.all});
    for (int64_t count = BATCH_INVARIANT_ROWS; count < MOST_ROWS; count++) {
        int64_t first = (MOST_ROWS - count) / 2;
        struct tensor a = tensor_slice(&f.a, first, count);
        struct tensor want = tensor_slice(&f.all, first, count);
        struct tensor got = tensor_slice(&f.some, first, count);
        op_fill(&f.be, &got, 0.0);
        op_gemm(&f.be, &(struct gemm){.trans_b = !back, .alpha = 1, .a = a, .b = f.w, .c = got});
        if (memcmp(want.data, got.data, tensor_bytes(&got)) != 0)
            fail_msg("%d rows of %d x %d", (int)count, (int)inner, (int)width);
    }
    assert_ok(backend_check(&f.be, &err), &err);
    tear_down(&f);
}

static void rows_alone_forward(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        batch_invariant(threads, 128, 384, false);
        batch_invariant(threads, 512, 128, false);
        batch_invariant(threads, 20, 33, false);
    }
}

static void rows_alone_backward(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        batch_invariant(threads, 384, 128, true);
        batch_invariant(threads, 33, 20, true);
    }
}

/* More shapes than the backend remembers, and the first ones again. */
static void many_shapes(void **state)
{
    enum { WIDTHS = 300, INNER = 24 };
    struct fixture f;
    struct error err;
    (void)state;
    set_up(&f, 2, INNER, WIDTHS, false);
    for (int round = 0; round < 2; round++)
        for (int64_t width = 1; width <= WIDTHS; width++) {
            struct tensor a = tensor_slice(&f.a, 0, BATCH_INVARIANT_ROWS);
            struct tensor w = tensor_slice(&f.w, 0, width);
            struct tensor *c = round == 0 ? &f.all : &f.some;
            struct tensor to = tensor_prefix(c, 2, BATCH_INVARIANT_ROWS, width, 1, 1);
            op_gemm(&f.be, &(struct gemm){.trans_b = true, .alpha = 1, .a = a, .b = w, .c = to});
            if (round == 0)
                continue;
            to = tensor_prefix(&f.all, 2, BATCH_INVARIANT_ROWS, width, 1, 1);
            op_gemm(&f.be, &(struct gemm){.trans_b = true, .alpha = 1, .a = a, .b = w, .c = to});
            assert_memory_equal(f.all.data, f.some.data, tensor_bytes(&to));
        }
    assert_ok(backend_check(&f.be, &err), &err);
    tear_down(&f);
}

/* The nearest bfloat16 of a normal number, ties to even. */
static double rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static double sum_of_rounded(const float *a, const float *b, int row, int col, int inner,
                             int64_t rows, int64_t cols, bool trans_a, bool trans_b)
{
    double sum = 0;
    for (int i = 0; i < inner; i++) {
        int64_t from_a = trans_a ? i * rows + row : (int64_t)row * inner + i;
        int64_t from_b = trans_b ? (int64_t)col * inner + i : i * cols + col;
        sum += rounded(a[from_a]) * rounded(b[from_b]);
    }
    return sum;
}

/* In bfloat16 a product is the sum over the products of rounded factors, however they are stored
 * and whether the processor or float32 multiplies them. The sum of INNER terms in float32 is off by
 * at most INNER units of 2^-24 of the terms' magnitudes, about INNER here. What rounding the
 * factors changes is a thousand times that. */
static void factors_are_rounded(void **state)
{
    enum { ROWS = 70, COLS = 40, INNER = 50 };
    static const double tolerance = INNER * (double)INNER / (1 << 24);
    struct fixture f;
    struct error err;
    (void)state;
    set_up(&f, 2, INNER, COLS, false);
    if (backend_set_precision(&f.be, PRECISION_BF16, &err) != STATUS_OK) {
        tear_down(&f);
        print_message("# this processor has no products of bfloat16\n");
        skip();
    }
    for (int way = 0; way < 4; way++) {
        bool ta = way & 1, tb = way & 2;
        struct tensor a = tensor_prefix(&f.a, 2, ta ? INNER : ROWS, ta ? ROWS : INNER, 1, 1);
        struct tensor b = tensor_prefix(&f.w, 2, tb ? COLS : INNER, tb ? INNER : COLS, 1, 1);
        struct tensor c = tensor_prefix(&f.all, 2, ROWS, COLS, 1, 1);
        op_gemm(&f.be,
                &(struct gemm){.trans_a = ta, .trans_b = tb, .alpha = 1, .a = a, .b = b, .c = c});
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < COLS; j++) {
                double want = sum_of_rounded(a.data, b.data, r, j, INNER, ROWS, COLS, ta, tb);
                double error = fabs(want - (double)((const float *)c.data)[r * COLS + j]);
                if (!(error <= tolerance))
                    fail_msg("way %d is %g from the sum over rounded factors", way, error);
            }
    }
    assert_ok(backend_check(&f.be, &err), &err);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_alone_forward),
        cmocka_unit_test(rows_alone_backward),
        cmocka_unit_test(many_shapes),
        cmocka_unit_test(factors_are_rounded),
    };
    return cmocka_run_group_tests_name("products of the cpu", tests, NULL, NULL);
}
