/* Training steps as recorded graphs, on the emulated device. They must give the same bits as call
 * by call, however the step's operations change on the way. The numbers of graphs, calls and waits
 * of a step are checked too. */
#include "cuda/cuda.h"
#include "data/shards.h"
#include "deq/settings.h"
#include "emu/emu.h"
#include "train/trainer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* An epoch has 9 segments, the last one shorter. The memory is full from the third on. */
enum { VOCAB = 30, BATCH = 2, LENGTH = 6, SEGMENTS = 9, MEMORY = 8, STEPS = 14, STEADY = 7 };
enum { TOKENS = BATCH * (LENGTH * (SEGMENTS - 1) + 3) + 1, MAX_WEIGHTS = 1 << 13 };

static const char *const common[] = {"data.dir=d",
                                     "model.d_model=8",
                                     "model.n_head=2",
                                     "model.d_inner=12",
                                     "model.dropout=0.2",
                                     "model.init_std=0.3",
                                     "train.steps=100",
                                     "train.batch=2",
                                     "train.tgt_len=6",
                                     "train.mem_len=8",
                                     "train.warmup_steps=3",
                                     "train.pretrain_steps=2",
                                     "train.lr=0.01",
                                     "solver.forward.max_iter=3",
                                     "solver.backward.max_iter=3",
                                     "solver.backward.stop=fixed",
                                     NULL};

/* The outcome of a training. */
struct result {
    double loss[STEPS], norm[STEPS];
    float weights[MAX_WEIGHTS];
    int64_t count;            /* of weights */
    struct emu_counts steady; /* of step STEADY alone */
    int64_t reads;            /* and its read-backs */
};

static struct emu_counts since(struct emu_counts a)
{
    struct emu_counts b = emu_count();
    b.launches -= a.launches;
    b.graph_launches -= a.graph_launches;
    b.copies -= a.copies;
    b.graphs -= a.graphs;
    b.syncs -= a.syncs;
    b.uneven -= a.uneven;
    b.ranges -= a.ranges;
    return b;
}

static int warnings; /* of slow epilogues */

static void count_warning(const char *text)
{
    warnings += strstr(text, "a pass of its own") != NULL;
}

static void train(const char *const *set, bool graphs, struct result *r)
{
    struct error err;
    struct backend be;
    struct trainer t;
    struct config c = config_unresolved(common, set);
    assert_ok(cuda_open(&be, &err), &err);
    be.poison = true;
    cuda_use_graphs(&be, graphs);
    cuda_on_refusal(&be, count_warning);
    assert_ok(trainer_create(&t, &be, NULL, &c, NULL, &err), &err);
    for (int k = 0; k < STEPS; k++) {
        struct step_report step;
        struct emu_counts before = emu_count();
        int64_t reads = be.syncs;
        assert_ok(trainer_step(&t, &step, &err), &err);
        r->loss[k] = step.loss;
        r->norm[k] = step.grad_norm;
        if (k == STEADY) {
            r->steady = since(before);
            r->reads = be.syncs - reads;
        }
    }
    r->count = t.model->params->total;
    assert_true(r->count <= MAX_WEIGHTS);
    op_download(&be, r->weights, DTYPE_F32, &t.model->params->w);
    assert_ok(backend_check(&be, &err), &err);
    trainer_free(&t);
    backend_close(&be);
}

/* Trains with graphs and without. */
static void compare(const char *const *set, struct result *with)
{
    static struct result without;
    train(set, true, with);
    train(set, false, &without);
    assert_int_equal(without.steady.graphs, 0);
    assert_true(without.steady.ranges > 100); /* one a call */
    assert_int_equal(without.steady.launches, with->steady.launches);
    assert_int_equal(without.count, with->count);
    assert_memory_equal(with->loss, without.loss, sizeof without.loss);
    assert_memory_equal(with->norm, without.norm, sizeof without.norm);
    assert_memory_equal(with->weights, without.weights,
                        (size_t)without.count * sizeof *without.weights);
    for (int k = 0; k < STEPS; k++)
        assert_true(with->loss[k] > 0 && with->loss[k] < 10 && with->norm[k] > 0);
    print_message("%lld operations on the device, %lld of them in %lld graphs, %lld waits\n",
                  (long long)with->steady.launches, (long long)with->steady.graph_launches,
                  (long long)with->steady.graphs, (long long)with->steady.syncs);
}

/* Everything is in one graph, in every order of threads, and only the reads wait. */
static void test_one_graph(void **state)
{
    static struct result r;
    (void)state;
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order((enum emu_order)order, 5);
        compare(SET("model.dropatt=0.1", "train.optimizer=adamw", "train.weight_decay=0.1"), &r);
        assert_int_equal(r.steady.graphs, 1);
        assert_int_equal(r.steady.ranges, r.steady.graphs + r.reads);
        assert_int_equal(r.steady.graph_launches, r.steady.launches);
        assert_int_equal(r.steady.syncs, r.reads + 1); /* for the pinned piece of two steps ago */
    }
    emu_set_order(EMU_ASCENDING, 1);
}

/* Whatever CUDA refuses of a recording, the step is done call by call. */
static void test_refused_recordings(void **state)
{
    static struct result without, with;
    (void)state;
    train(SET("model.dropatt=0.1"), false, &without);
    for (long every = 1; every < 3000; every = 3 * every + 1) {
        emu_fail_capture(every);
        train(SET("model.dropatt=0.1"), true, &with);
        assert_memory_equal(with.loss, without.loss, sizeof with.loss);
        assert_memory_equal(with.weights, without.weights,
                            (size_t)without.count * sizeof *without.weights);
        print_message("every %ld refused: %lld graphs in a step\n", every,
                      (long long)with.steady.graphs);
    }
    emu_fail_capture(0);
}

/* The reads at the end of a step do not depend on the iterations in it. */
static void test_no_wait_in_a_solve(void **state)
{
    static struct result few, many;
    (void)state;
    train(SET("solver.forward.max_iter=2", "solver.backward.max_iter=2"), true, &few);
    train(SET("solver.forward.max_iter=7", "solver.backward.max_iter=5"), true, &many);
    assert_true(many.steady.launches > few.steady.launches);
    assert_int_equal(many.reads, few.reads);
    assert_int_equal(many.steady.syncs, few.steady.syncs);
    assert_int_equal(many.steady.graphs, 1);
}

/* Up to the clusters and behind them. */
static void test_clusters(void **state)
{
    static struct result r;
    (void)state;
    compare(SET("model.cutoffs=[8,20]"), &r);
    assert_int_equal(r.steady.graphs, 2);
    assert_true(r.steady.graph_launches < r.steady.launches);
    compare(SET("model.cutoffs=[8,20]", "model.div_val=2", "train.optimizer=adam",
                "train.weight_decay=0.1", "model.compat=true", "model.tie_projs=[false,true,true]"),
            &r);
    /* clusters of embeddings and of losses, as many as a batch has words in */
    assert_true(r.steady.graphs >= 3 && r.steady.graphs <= 5);
}

/* One read-back an iteration, and a graph in front of each. */
static void test_tolerance(void **state)
{
    static struct result r;
    (void)state;
    compare(SET("solver.backward.stop=rel", "solver.backward.tol=1e-30"), &r);
    assert_int_equal(r.steady.graphs, 1 + 3); /* up to each of three reads, then the rest */
    assert_int_equal(r.steady.graph_launches, r.steady.launches);
}

/* Hidden layers and weights in bfloat16, and what the library is asked to do with its products. */
static void test_rounded_products(void **state)
{
    static struct result r;
    (void)state;
    compare(SET("train.precision=bf16", "model.d_model=16", "model.d_inner=32"), &r);
    assert_int_equal(r.steady.graphs, 1);
    assert_int_equal(r.steady.graph_launches, r.steady.launches);
}

/* An epilogue that takes longer than a product and a pass is left alone, in both directions. */
static void test_slow_epilogues(void **state)
{
    static struct result fused, slow, without;
    const char *const *set = SET("train.precision=bf16", "model.d_model=16", "model.d_inner=32");
    (void)state;
    warnings = 0;
    compare(set, &fused);
    assert_int_equal(warnings, 0);
    emu_slow_lt(true);
    compare(set, &slow);
    emu_slow_lt(false);
    assert_true(warnings > 0 && warnings <= 2 * 4); /* for two trainings, once a kind of layer */
    emu_refuse_lt(true);
    compare(set, &without);
    emu_refuse_lt(false);
    assert_int_equal(slow.steady.launches, without.steady.launches);
    assert_true(fused.steady.launches != without.steady.launches);
    assert_memory_equal(slow.weights, without.weights,
                        (size_t)without.count * sizeof *without.weights);
}

/* Where a width is no multiple of 8, inner dimensions are padded to one, so that the library may
 * read 16 bytes at a time. */
static void test_uneven_width(void **state)
{
    static struct result r;
    (void)state;
    compare(SET("train.precision=bf16", "model.d_model=20", "model.d_inner=40"), &r);
    assert_int_equal(r.steady.uneven, 0);
    compare(SET("train.precision=bf16", "model.cell=modern", "model.d_model=20", "model.d_inner=40",
                "model.inject=qkv"),
            &r);
    assert_int_equal(r.steady.uneven, 0);
    emu_refuse_lt(true);
    compare(SET("train.precision=bf16", "model.d_model=20", "model.d_inner=40"), &r);
    emu_refuse_lt(false);
    assert_int_equal(r.steady.uneven, 0);
}

static void test_other_methods(void **state)
{
    static struct result r;
    (void)state;
    compare(SET("solver.forward.method=broyden", "solver.backward.method=picard",
                "train.accumulate=2", "train.batch=4"),
            &r);
    assert_int_equal(r.steady.graphs, 2); /* the figures of a part are read before the next */
    compare(SET("gradient.method=reversible", "gradient.damping=0.5", "train.optimizer=muon"), &r);
    assert_int_equal(r.steady.graphs, 1);
    compare(SET("gradient.method=phantom", "jacobian.weight=0.1", "jacobian.probability=0.5"), &r);
    compare(SET("model.cell=trellis", "model.nhid=8", "model.nout=8", "model.dropout=0"), &r);
    assert_int_equal(r.steady.graphs, 1);
}

static int enter(void **state)
{
    setenv("DEQ_EMU_QUIET", "1", 0);
    if (scratch_enter(state) != 0)
        return -1;
    shards_make("d", 2 * TOKENS, 1000, VOCAB);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_graph),          cmocka_unit_test(test_no_wait_in_a_solve),
        cmocka_unit_test(test_clusters),           cmocka_unit_test(test_tolerance),
        cmocka_unit_test(test_rounded_products),   cmocka_unit_test(test_other_methods),
        cmocka_unit_test(test_refused_recordings), cmocka_unit_test(test_uneven_width),
        cmocka_unit_test(test_slow_epilogues),
    };
    return cmocka_run_group_tests(tests, enter, scratch_leave);
}
