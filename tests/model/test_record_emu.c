/* A repeated solve as a recorded graph, on the emulated device: the same bits as call by call, also
 * while the memory grows, when a segment is shorter, and with scratch that moves in between. */
#include "cuda/cuda.h"
#include "emu/emu.h"
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, LENGTH = 6, SEGMENTS = 15, VOCAB = 11, MAX_GRADIENTS = 1 << 14 };

static void must(enum status status, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s", err->text);
}

static struct config settings(const char *backward)
{
    struct config c;
    struct error err;
    const char *const set[] = {"model.d_model=8",
                               "model.n_head=2",
                               "model.d_inner=12",
                               "model.dropout=0.2",
                               "model.dropatt=0.1",
                               "model.init_std=0.3",
                               "solver.forward.max_iter=4",
                               "solver.forward.stop=fixed",
                               "solver.backward.max_iter=4",
                               backward};
    config_defaults(&c);
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        must(config_set(&c, set[i], &err), &err);
    must(config_resolve(&c, VOCAB, &err), &err);
    return c;
}

/* Trains on a few segments; the gradients of each go behind the other. Memory grows from segment 0
 * on and again from 5 on, then under scratch that has its final size; segment 13 is shorter. */
static int64_t train(const struct config *c, bool record, float *gradients, int64_t *syncs)
{
    struct error err;
    struct backend be;
    struct model *m;
    struct model_plan plan = {.batch = BATCH, .length = LENGTH, .mem_len = 20, .train = true};
    int32_t tokens[BATCH * LENGTH];
    int64_t count = 0;
    must(cuda_open(&be, &err), &err);
    struct ops plain = *be.ops;
    plain.replay = record_none;
    plain.record_end = record_nothing;
    if (!record)
        be.ops = &plain;
    must(model_create(&m, &be, c, NULL, &plan, &err), &err);
    must(params_initialize(m->params, 7, &err), &err);
    for (int s = 0; s < SEGMENTS; s++) {
        int64_t length = s == 13 ? LENGTH - 2 : LENGTH;
        struct masks masks = {.source = MASKS_DRAWN, .seed = 3, .draw = (uint64_t)s};
        for (int i = 0; i < BATCH * LENGTH; i++)
            tokens[i] = (i * 5 + s * 3) % VOCAB;
        if (s == 5)
            model_reset_memory(m);
        model_refresh(m);
        model_begin(m, tokens, length, &masks);
        int64_t before = be.syncs;
        must(model_solve(m, 0, true, &err), &err);
        model_loss(m, tokens, 1, true);
        must(model_backward(m, &err), &err);
        *syncs = be.syncs - before;
        model_remember(m);
        model_finish_gradients(m);
        assert_true(count + m->params->total <= MAX_GRADIENTS);
        op_download(&be, gradients + count, DTYPE_F32, &m->params->g);
        count += m->params->total;
    }
    must(backend_check(&be, &err), &err);
    model_free(m);
    backend_close(&be);
    return count;
}

static void compare(const char *backward)
{
    static float recorded[MAX_GRADIENTS], called[MAX_GRADIENTS];
    struct config c = settings(backward);
    int64_t syncs;
    int64_t graphs = emu_count().graphs;
    int64_t count = train(&c, true, recorded, &syncs);
    graphs = emu_count().graphs - graphs;
    assert_true(graphs > 0);
    if (c.solver.backward.stop == CONFIG_STOP_FIXED)
        assert_int_equal(syncs, 0);
    assert_int_equal(train(&c, false, called, &syncs), count);
    assert_memory_equal(recorded, called, (size_t)count * sizeof *recorded);
    bool moved = false;
    for (int64_t i = 0; i < count; i++)
        moved = moved || recorded[i] != 0;
    assert_true(moved);
}

static void test_both_fixed(void **state)
{
    (void)state;
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order((enum emu_order)order, 5);
        compare("solver.backward.stop=fixed");
    }
}

static void test_only_forward_fixed(void **state)
{
    (void)state;
    emu_set_order(EMU_ASCENDING, 1);
    compare("solver.backward.stop=rel");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_fixed),
        cmocka_unit_test(test_only_forward_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
