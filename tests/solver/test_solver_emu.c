/* What an iteration costs on the device, in launches beside those of the map: none of it depends on
 * the history, whose inner products and whose combination are a pass each. */
#include "base/assert_ok.h"
#include "cuda/cuda.h"
#include "emu/emu.h"
#include "solver/solver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BATCH = 2, LENGTH = 5, WIDTH = 8 };

/* f(z) = z / 2 + c: two launches. */
struct map {
    struct backend *be;
    struct tensor c;
};

static enum status halve(void *ctx, const struct tensor *z, const struct tensor *f,
                         const struct tensor *rows, struct error *err)
{
    const struct map *m = ctx;
    (void)rows, (void)err;
    op_axpby(m->be, f, 0.5, z, 0);
    op_axpby(m->be, f, 1, &m->c, 1);
    return STATUS_OK;
}

static int64_t launches(struct backend *be, struct solver *s, struct map *m, const struct tensor *z)
{
    struct error err;
    struct solve_report report;
    op_fill(be, z, 0);
    op_graph_break(be);
    assert_ok(solver_report(s, &report, &err), &err); /* waits */
    int64_t before = emu_count().launches;
    assert_ok(solver_run(s, halve, m, z, NULL, NULL, &err), &err);
    assert_ok(solver_report(s, &report, &err), &err);
    return emu_count().launches - before;
}

/* Launches of iteration k, k = 1 .. count, without those of f. */
static void measure(enum solve_method method, int64_t count, int64_t *each)
{
    struct error err;
    struct backend be;
    struct solver *s;
    struct tensor z;
    struct map m = {.be = &be};
    struct solver_config c = {.method = method,
                              .scope = SCOPE_PREFIX,
                              .decay = 0.5,
                              .max_iter = count + 1,
                              .stop = STOP_FIXED,
                              .history = 12,
                              .damping = 1,
                              .ridge = 1e-4,
                              .ridge_mode = RIDGE_REL};
    struct solver_plan plan = {.batch = BATCH, .length = LENGTH, .width = WIDTH};
    assert_ok(cuda_open(&be, &err), &err);
    assert_ok(op_alloc(&be, &z, DTYPE_F32, 3, BATCH, LENGTH, WIDTH, 1, &err), &err);
    assert_ok(op_alloc(&be, &m.c, DTYPE_F32, 3, BATCH, LENGTH, WIDTH, 1, &err), &err);
    op_fill_normal(&be, &m.c, 1, (struct rng_key){1, 2});
    assert_ok(solver_create(&s, &be, &c, &plan, &err), &err);
    op_fill(&be, &z, 0);
    assert_ok(solver_run(s, halve, &m, &z, NULL, NULL, &err), &err);
    int64_t last = 0;
    for (int64_t k = 0; k <= count; k++) {
        assert_ok(solver_set_limits(s, k + 1, 0, STOP_FIXED, &err), &err);
        int64_t now = launches(&be, s, &m, &z);
        if (k > 0)
            each[k - 1] = now - last - 2;
        last = now;
    }
    solver_free(s);
    op_release(&be, &z);
    op_release(&be, &m.c);
    backend_close(&be);
}

static void test_launches(void **state)
{
    enum { COUNT = 8 };
    int64_t picard[COUNT], anderson[COUNT], broyden[COUNT];
    (void)state;
    measure(SOLVE_PICARD, COUNT, picard);
    measure(SOLVE_ANDERSON, COUNT, anderson);
    measure(SOLVE_BROYDEN, COUNT, broyden);
    print_message("launches of an iteration: picard %lld, anderson %lld, broyden %lld\n",
                  (long long)picard[1], (long long)anderson[1], (long long)broyden[1]);
    for (int k = 1; k < COUNT; k++) {
        assert_int_equal(picard[k], 6);
        assert_int_equal(anderson[k], 9);
        assert_int_equal(broyden[k], 9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
