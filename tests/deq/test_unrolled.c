/* Explicit networks: what recomputation may not change, what it must save, and the memory of
 * untied layers from one segment to the next. */
#include "backend/ref/ref.h"
#include "deq/model.h"
#include "deq/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, LENGTH = 6, MEMORY = 5, VOCAB = 19, SEGMENTS = 3, MOST = 8192 };

static struct config tiny(const char *const *settings)
{
    static const char *const common[] = {"model.d_model=8",
                                         "model.n_head=2",
                                         "model.d_inner=12",
                                         "model.nhid=3",
                                         "model.nout=5",
                                         "model.init_std=0.2",
                                         "model.dropout=0.2",
                                         "model.dropatt=0.1",
                                         "model.dropouth=0.2",
                                         "train.pretrain_steps=0",
                                         NULL};
    return config_of(VOCAB, common, settings);
}

/* What a run over SEGMENTS segments leaves. */
struct outcome {
    double loss[SEGMENTS];
    double gradient[MOST]; /* summed over the segments */
    int64_t gradients;
    size_t bytes; /* all memory of the model */
};

static void fill_tokens(int32_t *tokens, int segment)
{
    for (int i = 0; i < BATCH * LENGTH; i++)
        tokens[i] = (int32_t)((i * 7 + segment * 5 + 3) % VOCAB);
}

static void run(struct outcome *o, bool train, bool keep_states, const char *const *settings)
{
    struct backend be;
    struct error err;
    struct model *m;
    struct config config = tiny(settings);
    struct model_plan plan = {.batch = BATCH,
                              .length = LENGTH,
                              .mem_len = MEMORY,
                              .train = train,
                              .keep_states = keep_states};
    int32_t input[BATCH * LENGTH], target[BATCH * LENGTH];
    assert_ok(ref_open(&be, &err), &err);
    be.poison = true;
    assert_ok(model_create(&m, &be, &config, NULL, &plan, &err), &err);
    assert_ok(params_initialize(m->params, 5, &err), &err);
    o->bytes = be.bytes;
    model_refresh(m);
    for (int s = 0; s < SEGMENTS; s++) {
        struct masks masks = {
            .source = train ? MASKS_DRAWN : MASKS_NONE, .seed = 9, .draw = (uint64_t)s};
        fill_tokens(input, s);
        fill_tokens(target, s + 1);
        model_begin(m, input, LENGTH, &masks);
        assert_ok(model_solve(m, 0, train, &err), &err);
        model_loss(m, target, 1, train);
        o->loss[s] = model_read_loss(m, NULL);
        if (train)
            assert_ok(model_backward(m, &err), &err);
        model_remember(m);
    }
    o->gradients = 0;
    if (train) {
        model_finish_gradients(m);
        o->gradients = tensor_count(&m->params->g);
        assert_true(o->gradients <= MOST);
        op_download(&be, o->gradient, DTYPE_F64, &m->params->g);
    }
    model_free(m);
    assert_int_equal(be.bytes, 0);
    backend_close(&be);
}

static void same(const struct outcome *a, const struct outcome *b)
{
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_int_equal(a->gradients, b->gradients);
    assert_memory_equal(a->gradient, b->gradient, (size_t)a->gradients * sizeof *a->gradient);
}

/* The same bits for every k, and less memory the fewer tapes there are. */
static void check_recompute(const char *cell, const char *tied)
{
    static struct outcome all, some;
    const char *const every[] = {"gradient.recompute=4", "gradient.recompute=3",
                                 "gradient.recompute=1"};
    size_t before;
    run(&all, true, true, SET(cell, tied, "model.layers=8"));
    before = all.bytes;
    for (int i = 0; i < 3; i++) {
        run(&some, true, true, SET(cell, tied, "model.layers=8", every[i]));
        same(&all, &some);
        if (!(some.bytes < before))
            fail_msg("%s %s %s: %zu bytes, %zu with more tapes", cell, tied, every[i], some.bytes,
                     before);
        before = i == 0 ? some.bytes : before; /* 3: more anchors, fewer tapes */
    }
}

static void recompute_changes_nothing(void **state)
{
    (void)state;
    check_recompute("model.cell=transformer", "model.tie_layers=true");
    check_recompute("model.cell=transformer", "model.tie_layers=false");
    check_recompute("model.cell=trellis", "model.tie_layers=true");
}

/* Tied layers are the equilibrium's unrolling. */
static void tied_is_unrolled(void **state)
{
    static struct outcome a, b;
    const char *const cells[] = {"model.cell=transformer", "model.cell=trellis"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        run(&a, true, true, SET(cells[i], "model.layers=4"));
        run(&b, true, true, SET(cells[i], "gradient.method=unroll", "gradient.steps=4"));
        same(&a, &b);
    }
}

/* An evaluation holds two states (untied: one a layer) and one tape, however many layers. */
static void evaluation_is_small(void **state)
{
    static struct outcome few, many;
    (void)state;
    run(&few, false, false, SET("model.layers=2"));
    run(&many, false, false, SET("model.layers=50"));
    assert_int_equal(few.bytes, many.bytes);
}

/* Keys and values as memory give what states as memory give. */
static void either_memory(void **state)
{
    static struct outcome a, b;
    const char *const norms[] = {"model.pre_lnorm=false", "model.pre_lnorm=true"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        run(&a, false, true, SET("model.layers=3", "model.tie_layers=false", norms[i]));
        run(&b, false, false, SET("model.layers=3", "model.tie_layers=false", norms[i]));
        for (int s = 0; s < SEGMENTS; s++)
            if (!(fabs(a.loss[s] - b.loss[s]) <= 1e-12 * fabs(a.loss[s])))
                fail_msg("segment %d: %.15g and %.15g", s, a.loss[s], b.loss[s]);
    }
}

/* The second segment differs from the first by its memory, layer by layer: with the same tokens
 * and no memory it does not. */
static void layers_remember(void **state)
{
    struct backend be;
    struct error err;
    struct model *m;
    struct config config = tiny(SET("model.layers=3", "model.tie_layers=false"));
    struct model_plan plan = {.batch = BATCH, .length = LENGTH, .mem_len = MEMORY};
    const struct masks none = {.source = MASKS_NONE};
    int32_t input[BATCH * LENGTH];
    double loss[3];
    (void)state;
    assert_ok(ref_open(&be, &err), &err);
    be.poison = true;
    assert_ok(model_create(&m, &be, &config, NULL, &plan, &err), &err);
    assert_ok(params_initialize(m->params, 5, &err), &err);
    model_refresh(m);
    fill_tokens(input, 0);
    for (int s = 0; s < 3; s++) {
        if (s == 2)
            model_reset_memory(m);
        model_begin(m, input, LENGTH, &none);
        assert_ok(model_solve(m, 0, false, &err), &err);
        model_loss(m, input, 1, false);
        loss[s] = model_read_loss(m, NULL);
        model_remember(m);
        struct memory *memory;
        int count = 0;
        for (; (memory = m->cell->ops->memory(m->cell, count)) != NULL; count++)
            assert_int_equal(memory->count, MEMORY);
        assert_int_equal(count, 3);
    }
    assert_true(fabs(loss[0] - loss[1]) > 1e-6);
    assert_true(loss[0] == loss[2]);
    model_free(m);
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recompute_changes_nothing), cmocka_unit_test(tied_is_unrolled),
        cmocka_unit_test(evaluation_is_small),       cmocka_unit_test(either_memory),
        cmocka_unit_test(layers_remember),
    };
    return cmocka_run_group_tests_name("explicit networks", tests, NULL, NULL);
}
