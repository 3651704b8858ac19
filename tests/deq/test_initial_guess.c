/* The learned start: its map number by number, its gradient against central differences; float64
 * reference. */
#include "backend/ref/ref.h"
#include "base/assert_ok.h"
#include "deq/initial_guess.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { B = 2, L = 4, E = 3, W = 5 };

struct fixture {
    struct backend be;
    struct params params;
    struct initial_guess start;
    struct workspace *ws;
    struct tensor e, z;
};

static void set_up(struct fixture *f, bool train)
{
    struct error err;
    const struct config_model model = {.start = START_LINEAR};
    assert_ok(ref_open(&f->be, &err), &err);
    params_init(&f->params, &f->be);
    assert_ok(initial_guess_declare(&f->params, &model, W, E, &err), &err);
    assert_ok(params_commit(&f->params, true, &err), &err);
    assert_ok(workspace_create(&f->ws, &f->be, &err), &err);
    struct initial_guess_plan plan = {.ws = f->ws, .batch = B, .length = L, .train = train};
    initial_guess_bind(&f->start, &f->params, &model, &plan);
    assert_ok(workspace_commit(f->ws, &err), &err);
    assert_ok(op_alloc(&f->be, &f->e, DTYPE_F64, 3, B, L, E, 1, &err), &err);
    assert_ok(op_alloc(&f->be, &f->z, DTYPE_F64, 3, B, L, W, 1, &err), &err);
    op_fill_normal(&f->be, &f->e, 1, (struct rng_key){1, 1});
    op_fill_normal(&f->be, &f->z, 1, (struct rng_key){1, 2});
    for (int i = 0; i < f->params.count; i++) {
        struct tensor w = params_weight(&f->params, i).w;
        op_fill_normal(&f->be, &w, 1, (struct rng_key){2, (uint64_t)i});
    }
}

static void tear_down(struct fixture *f)
{
    workspace_free(f->ws);
    params_free(&f->params);
    op_release(&f->be, &f->e);
    op_release(&f->be, &f->z);
    assert_int_equal(f->be.bytes, 0);
    backend_close(&f->be);
}

static double number(const struct tensor *t, int64_t i)
{
    return ((const double *)t->data)[i];
}

/* z_0 against its formula; `before`: e_{-1} of each sequence [B,E], or NULL: 0. */
static void expect_map(struct fixture *f, const double *before)
{
    struct tensor z0 = initial_guess_eval(&f->start, &f->be, &f->e);
    for (int64_t i = 0; i < B * L * W; i++) {
        int64_t row = i / W, w = i % W, t = row % L, b = row / L;
        double want = number(&f->start.bias.w, w);
        for (int64_t k = 0; k < E; k++) {
            double previous = before != NULL ? before[b * E + k] : 0;
            if (t > 0)
                previous = number(&f->e, (row - 1) * E + k);
            want += number(&f->start.current.w, w * E + k) * number(&f->e, row * E + k) +
                    number(&f->start.previous.w, w * E + k) * previous;
        }
        assert_true(fabs(number(&z0, i) - want) <= 1e-12);
    }
}

static void maps_two_embeddings(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, true);
    expect_map(&f, NULL);
    initial_guess_remember(&f.start, &f.be, &f.e);
    expect_map(&f, NULL);
    tear_down(&f);
}

/* Outside of training the last embedding of the segment before is known. */
static void remembers_the_last_embedding(void **state)
{
    (void)state;
    struct fixture f;
    double before[B * E];
    set_up(&f, false);
    expect_map(&f, NULL);
    for (int64_t i = 0; i < B * E; i++)
        before[i] = number(&f.e, (i / E * L + L - 1) * E + i % E);
    initial_guess_remember(&f.start, &f.be, &f.e);
    op_fill_normal(&f.be, &f.e, 1, (struct rng_key){1, 3});
    expect_map(&f, before);
    initial_guess_forget(&f.start);
    expect_map(&f, NULL);
    tear_down(&f);
}

/* |z_0 - z|^2 / 2, mean over positions. */
static double distance(struct fixture *f)
{
    double sum = 0;
    struct tensor z0 = initial_guess_eval(&f->start, &f->be, &f->e);
    for (int64_t i = 0; i < B * L * W; i++)
        sum += pow(number(&z0, i) - number(&f->z, i), 2);
    return sum / (2.0 * B * L);
}

/* Up to the factor that keeps it out of the clipped norm, the gradient is that of the distance. */
static void follows_the_distance(void **state)
{
    (void)state;
    const double step = 1e-5;
    struct fixture f;
    double factor = 0;
    set_up(&f, true);
    (void)initial_guess_eval(&f.start, &f.be, &f.e);
    initial_guess_fit(&f.start, &f.be, &f.e, &f.z, 1e-5);
    for (int i = 0; i < f.params.count; i++) {
        struct weight w = params_weight(&f.params, i);
        double *x = w.w.data;
        for (int64_t k = 0; k < tensor_count(&w.w); k++) {
            double at = x[k], side[2];
            for (int s = 0; s < 2; s++) {
                x[k] = at + (s == 0 ? -step : step);
                side[s] = distance(&f);
            }
            x[k] = at;
            double slope = (side[1] - side[0]) / (2 * step), got = number(&w.dw, k);
            if (factor == 0)
                factor = got / slope;
            assert_true(fabs(got / factor - slope) <= 1e-8 * (1 + fabs(slope)));
        }
    }
    assert_true(factor > 0 && factor < 1e-3);
    tear_down(&f);
}

static void nothing_without_it(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct error err;
    const struct config_model model = {.start = START_ZERO};
    assert_ok(ref_open(&f.be, &err), &err);
    params_init(&f.params, &f.be);
    assert_ok(initial_guess_declare(&f.params, &model, W, E, &err), &err);
    assert_int_equal(f.params.count, 0);
    struct initial_guess_plan plan = {.batch = B, .length = L, .train = true};
    initial_guess_bind(&f.start, &f.params, &model, &plan); /* has no workspace, wants none */
    assert_null(initial_guess_eval(&f.start, &f.be, &f.e).data);
    assert_int_equal(f.be.bytes, 0);
    backend_close(&f.be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_two_embeddings),
        cmocka_unit_test(remembers_the_last_embedding),
        cmocka_unit_test(follows_the_distance),
        cmocka_unit_test(nothing_without_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
