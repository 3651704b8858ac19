/* An optimizer of another kind than Adam, and the names that a configuration knows. */
#include "backend/cpu/cpu.h"
#include "base/assert_ok.h"
#include "optimizer/optimizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum { ROWS = 3, COLS = 5, COUNT = ROWS * COLS, STEPS = 4, ROOM = 64 };

/* Gradient descent with momentum, state = 0.5 state + g, w -= lr state. */
static void descend(const struct optimizer *o, const struct optimizer_piece *piece, double lr)
{
    struct backend *be = o->params->be;
    op_axpby(be, &piece->state[0], 1, &piece->g, 0.5);
    op_axpby(be, &piece->w, -lr, &piece->state[0], 1);
}

static const struct optimizer_kind momentum = {.states = 1, .state_name = {"p"}, .update = descend};

static void declare(struct params *p, struct backend *be)
{
    struct error err;
    struct param_spec spec = {
        .name = "a", .part = "f", .rows = ROWS, .cols = COLS, .init = INIT_NORMAL, .scale = 1};
    params_init(p, be);
    assert_ok(params_add(p, &spec, NULL, &err), &err);
    assert_ok(params_commit(p, true, &err), &err);
    assert_ok(params_initialize(p, 7, &err), &err);
}

static void test_a_kind_with_one_state(void **state)
{
    struct error err;
    struct backend be;
    struct params p;
    struct optimizer o;
    struct config c;
    float w[ROOM], g[ROOM] = {0}, got[ROOM];
    double speed[COUNT] = {0}, expected[COUNT], norm;
    (void)state;
    config_defaults(&c);
    assert_ok(cpu_open(&be, 1, &err), &err);
    declare(&p, &be);
    assert_true(p.total <= ROOM);
    assert_ok(optimizer_create_kind(&o, &momentum, &p, &c.train, NULL, &err), &err);
    assert_int_equal(tensor_count(&o.state[0]), p.total);
    assert_null(o.state[1].data);
    op_download(&be, w, DTYPE_F32, &p.w);
    for (int i = 0; i < COUNT; i++)
        expected[i] = w[i];
    for (int k = 0; k < STEPS; k++) {
        double square = 0;
        for (int i = 0; i < COUNT; i++) {
            g[i] = (float)(0.25 * (i - 7) + k);
            square += g[i] * g[i];
            speed[i] = 0.5 * speed[i] + g[i];
            expected[i] -= 0.125 * speed[i];
        }
        op_upload(&be, &p.g, g, DTYPE_F32);
        optimizer_step(&o, 0.125, &norm);
        assert_true(fabs(norm - sqrt(square)) <= 1e-6 * norm);
    }
    assert_int_equal(o.updates, STEPS);
    op_download(&be, got, DTYPE_F32, &p.w);
    for (int i = 0; i < COUNT; i++) /* numbers below 16, a few roundings each */
        assert_true(fabs(got[i] - expected[i]) <= 1e-5);
    optimizer_free(&o);
    params_free(&p);
    backend_close(&be);
}

/* The average follows the weights with a decay of n / (n + 9) at first, and then train.ema. A step
 * without a finite gradient does not move it. */
static void test_the_average_follows_the_weights(void **state)
{
    struct error err;
    struct backend be;
    struct params p;
    struct optimizer o;
    struct config c;
    float w[ROOM], g[ROOM] = {0}, got[ROOM];
    double mean[COUNT] = {0}, norm;
    (void)state;
    config_defaults(&c);
    c.train.ema = 0.15; /* above 0/9 and 1/10, below 2/11 */
    assert_ok(cpu_open(&be, 1, &err), &err);
    declare(&p, &be);
    assert_ok(optimizer_create_kind(&o, &momentum, &p, &c.train, NULL, &err), &err);
    assert_int_equal(tensor_count(&o.average), p.total);
    optimizer_begin_average(&o);
    op_download(&be, w, DTYPE_F32, &p.w);
    op_download(&be, got, DTYPE_F32, &o.average);
    assert_memory_equal(w, got, COUNT * sizeof *w);
    static const double decay[] = {0, 0.1, 0.15, 0.15};
    for (int k = 0; k < STEPS; k++) {
        for (int i = 0; i < COUNT; i++)
            g[i] = (float)(i - k);
        op_upload(&be, &p.g, g, DTYPE_F32);
        optimizer_step(&o, 0.1, &norm);
        op_download(&be, w, DTYPE_F32, &p.w);
        op_download(&be, got, DTYPE_F32, &o.average);
        for (int i = 0; i < COUNT; i++) {
            mean[i] = decay[k] * mean[i] + (1 - decay[k]) * w[i];
            assert_float_equal(got[i], mean[i], 1e-5);
        }
    }
    memcpy(w, got, sizeof w);
    g[0] = NAN;
    op_upload(&be, &p.g, g, DTYPE_F32);
    optimizer_step(&o, 0.1, &norm);
    op_download(&be, got, DTYPE_F32, &o.average);
    assert_memory_equal(w, got, COUNT * sizeof *w);
    optimizer_free(&o);
    params_free(&p);
    backend_close(&be);
}

static void test_every_name_has_its_kind(void **state)
{
    static const struct {
        const char *assignment;
        const struct optimizer_kind *kind;
    } names[] = {
#define X(NAME, name) {"train.optimizer=" #name, &optimizer_##name},
        OPTIMIZER_LIST(X)
#undef X
    };
    struct error err;
    struct config c;
    (void)state;
    config_defaults(&c);
    assert_ptr_equal(optimizer_kind_of(&c.train), &optimizer_adam);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_ok(config_set(&c, names[i].assignment, &err), &err);
        assert_ptr_equal(optimizer_kind_of(&c.train), names[i].kind);
        assert_in_range(names[i].kind->states, 0, OPTIMIZER_MAX_STATES);
        for (int s = 0; s < names[i].kind->states; s++)
            assert_non_null(names[i].kind->state_name[s]);
    }
    assert_int_equal(config_set(&c, "train.optimizer=sgd", &err), STATUS_CONFIG);
    assert_non_null(strstr(err.text, "want adam, adamw or muon, got \"sgd\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_kind_with_one_state),
        cmocka_unit_test(test_the_average_follows_the_weights),
        cmocka_unit_test(test_every_name_has_its_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
