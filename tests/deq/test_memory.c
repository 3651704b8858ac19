/* The planned memory of a model: no buffer is used outside its lifetime, and how much it all is,
 * against explicit networks. */
#include "backend/count/count.h"
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "bench/bench.h"
#include "cell/transformer/transformer_cell.h"
#include "deq/model.h"
#include "deq/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 23, MOST = 1 << 15, SEGMENTS = 3 };

static struct config small(const char *const *settings)
{
    static const char *const common[] = {"model.d_model=8",
                                         "model.n_head=2",
                                         "model.d_inner=24",
                                         "model.nhid=3",
                                         "model.nout=5",
                                         "model.init_std=0.2",
                                         "model.dropout=0.2",
                                         "model.dropatt=0.1",
                                         "train.pretrain_steps=0",
                                         "solver.forward.max_iter=6",
                                         "solver.backward.max_iter=6",
                                         "solver.forward.stop=fixed",
                                         "solver.forward.history=5",
                                         "solver.backward.history=3",
                                         NULL};
    return config_of(VOCAB, common, settings);
}

struct outcome {
    double gradient[MOST]; /* summed over the segments */
    int64_t count;
    double memory[MOST]; /* of the first memory, after the last segment */
    int64_t remembered;
    bool keeps;   /* slots have a hidden layer */
    int64_t rows; /* of it at once */
    size_t bytes; /* of the workspace */
};

static void note(struct outcome *o, struct model *m)
{
    const struct transformer_cell *c = (const struct transformer_cell *)m->cell;
    struct memory *first = m->cell->ops->memory(m->cell, 0);
    struct tensor rows = memory_view(first);
    o->count = m->params->total;
    assert_true(o->count <= MOST && tensor_count(&rows) <= MOST);
    op_download(m->be, o->gradient, DTYPE_F64, &m->params->g);
    o->remembered = tensor_count(&rows);
    op_download(m->be, o->memory, DTYPE_F64, &rows);
    o->bytes = workspace_bytes(m->ws);
    if (m->config.model.cell == CELL_TRANSFORMER) {
        o->keeps = c->saved[0].h.data != NULL;
        o->rows = c->scratch.rows;
    }
}

/* Gradients of some segments; `layers` > 0: of so many applications of f. */
static void run_on(struct backend *be, struct outcome *o, const struct model_plan *plan,
                   const char *const *settings, int64_t layers)
{
    struct config config = small(settings);
    struct model *m;
    struct error err;
    static int32_t tokens[4096];
    struct masks masks = {.source = MASKS_DRAWN, .seed = 3};
    int64_t count = plan->batch * plan->length;
    assert_true(2 * count <= 4096);
    assert_ok(model_create(&m, be, &config, NULL, plan, &err), &err);
    assert_ok(params_initialize(m->params, 5, &err), &err);
    model_refresh(m);
    for (int s = 0; s < SEGMENTS; s++) {
        for (int64_t i = 0; i < 2 * count; i++)
            tokens[i] = (int32_t)((i * 7 + s * 5 + 3) % VOCAB);
        masks.draw = (uint64_t)s;
        model_begin(m, tokens, plan->length, &masks);
        assert_ok(model_solve(m, layers, true, &err), &err);
        model_loss(m, tokens + count, 1.0 / (double)count, true);
        assert_ok(model_backward(m, &err), &err);
        model_remember(m);
    }
    model_finish_gradients(m);
    note(o, m);
    model_free(m);
    assert_int_equal(be->bytes, 0);
}

static void run_quietly(struct outcome *o, const struct model_plan *plan,
                        const char *const *settings, int64_t layers)
{
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    run_on(&be, o, plan, settings, layers);
    backend_close(&be);
}

/* With NaN in all memory that is out of use. */
static void run(struct outcome *o, const struct model_plan *plan, const char *const *settings,
                int64_t layers)
{
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    be.poison = true;
    run_on(&be, o, plan, settings, layers);
    backend_close(&be);
}

static void same(const struct outcome *a, const struct outcome *b, double tolerance)
{
    double largest = 0;
    assert_int_equal(a->count, b->count);
    for (int64_t i = 0; i < a->count; i++)
        largest = fmax(largest, fabs(a->gradient[i]));
    assert_true(largest > 0);
    for (int64_t i = 0; i < a->count; i++)
        if (!(fabs(a->gradient[i] - b->gradient[i]) <= tolerance * largest))
            fail_msg("gradient[%d]: %.17g and %.17g", (int)i, a->gradient[i], b->gradient[i]);
    assert_int_equal(a->remembered, b->remembered);
    for (int64_t i = 0; i < a->remembered; i++)
        if (!(fabs(a->memory[i] - b->memory[i]) <= tolerance))
            fail_msg("memory[%d]: %.17g and %.17g", (int)i, a->memory[i], b->memory[i]);
}

static struct outcome one, other;

/* A segment that may begin again keeps its injections apart from their gradients. Both memories are
 * longer than a segment, so that rows are kept and move. */
static void injections_survive_their_gradient(void **state)
{
    (void)state;
    const char *const *const cases[] = {
        SET("model.cell=transformer"),
        SET("model.pre_lnorm=true", "model.norm=rms", "model.start=linear"),
        SET("model.blocks=2"),
        SET("train.pretrain_steps=5", "train.pretrain_layers=2"),
        SET("solver.forward.method=broyden", "solver.backward.method=broyden"),
        SET("solver.forward.stop=rel"),
        SET("gradient.method=one-step"),
        SET("model.cell=trellis", "model.d_embed=6"),
        SET("model.cell=modern", "model.norm=rms"),
        SET("model.cell=modern", "model.norm=rms", "model.prelude=2", "model.coda=2",
            "model.blocks=2"),
    };
    struct model_plan plan = {.batch = 3, .length = 5, .mem_len = 8, .train = true};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int64_t layers = 0; layers <= (i == 3 ? 2 : 0); layers += 2) {
            plan.replay = false;
            run(&one, &plan, cases[i], layers);
            plan.replay = true;
            run(&other, &plan, cases[i], layers);
            same(&one, &other, 0);
        }
}

/* Every kind of step, on poisoned memory and as it is otherwise run: the same bits. A buffer that
 * is read outside its lifetime brings a NaN into a gradient or a memory. */
static void nothing_is_used_out_of_turn(void **state)
{
    (void)state;
    const char *const *const cases[] = {
        SET("model.cell=transformer"),
        SET("model.pre_lnorm=true", "model.norm=rms", "model.start=linear"),
        SET("model.pre_lnorm=true", "model.compat=true", "model.wnorm=true"),
        SET("model.blocks=2", "model.emb_dropout=0.1"),
        SET("model.cutoffs=[7,13]", "model.div_val=2", "model.d_embed=8"),
        SET("solver.forward.method=broyden", "solver.backward.method=broyden"),
        SET("solver.forward.stop=rel", "solver.forward.rows=active"),
        SET("solver.forward.method=picard", "gradient.method=one-step"),
        SET("gradient.method=phantom", "gradient.steps=3", "gradient.damping=0.5"),
        SET("gradient.method=unroll", "gradient.steps=4", "gradient.recompute=2"),
        SET("gradient.method=truncated", "gradient.steps=2", "gradient.mean=4"),
        SET("gradient.method=truncated", "gradient.steps=4", "gradient.recompute=3",
            "model.start=linear", "train.start_noise=0.5"),
        SET("gradient.method=reversible", "gradient.damping=0.5", "model.blocks=2"),
        SET("gradient.method=reversible", "train.pretrain_steps=5", "model.start=linear",
            "jacobian.weight=0.5", "jacobian.probability=1"),
        SET("jacobian.weight=0.5", "jacobian.probability=1", "correction.weight=0.5",
            "correction.at=[1,3]"),
        SET("jacobian.weight=0.5", "jacobian.form=difference", "model.start=linear"),
        SET("model.layers=3", "model.tie_layers=false", "model.wnorm=false"),
        SET("model.layers=5", "gradient.recompute=2"),
        SET("model.cell=trellis", "model.d_embed=6", "model.wdrop=0.2", "model.dropouth=0.2"),
        SET("model.cell=trellis", "model.d_embed=6", "model.layers=3"),
        SET("train.pretrain_steps=5", "train.pretrain_layers=3", "gradient.recompute=2"),
        SET("model.cell=modern", "model.norm=rms"),
        SET("model.cell=modern", "model.norm=rms", "model.prelude=2", "model.coda=2",
            "model.blocks=2"),
        SET("model.cell=modern", "model.inject=decay", "model.norm_place=post",
            "jacobian.weight=0.5", "jacobian.probability=1", "correction.weight=0.5",
            "correction.at=[1,3]"),
        SET("model.cell=modern", "model.inject=linear", "model.wnorm=true",
            "model.norm_place=sandwich", "model.blocks=3", "model.start=linear"),
        SET("model.cell=modern", "model.outer_norm=true", "model.blocks=2",
            "gradient.method=phantom", "gradient.steps=3", "model.inject=v"),
        SET("model.cell=modern", "gradient.method=unroll", "gradient.steps=4",
            "gradient.recompute=2", "model.inject=qkv", "model.n_kv_head=1"),
        SET("model.cell=modern", "model.layers=3", "model.tie_layers=false"),
        SET("model.cell=modern", "model.layers=5", "gradient.recompute=2"),
        SET("model.cell=modern", "solver.forward.stop=rel", "solver.forward.rows=active",
            "model.norm_place=post"),
    };
    struct model_plan plan = {.batch = 3, .length = 5, .mem_len = 8, .train = true};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int64_t layers = 0; layers <= 1; layers++) {
            run(&one, &plan, cases[i], layers);
            run_quietly(&other, &plan, cases[i], layers);
            same(&one, &other, 0);
        }
}

/* One application of f, differentiated: where solves are the rule, the hidden layer is made again,
 * some rows at a time; where layers are, it is kept. */
static void hidden_layer_in_pieces(void **state)
{
    (void)state;
    struct model_plan plan = {.batch = 3, .length = 5, .mem_len = 5, .train = true};
    for (int pre = 0; pre < 2; pre++) {
        const char *norm = pre ? "model.pre_lnorm=true" : "model.pre_lnorm=false";
        run(&one, &plan, SET(norm), 1);
        run(&other, &plan, SET(norm, "gradient.method=unroll", "gradient.steps=1"), 1);
        assert_true(!one.keeps && one.rows < plan.batch * plan.length);
        assert_true(other.keeps);
        same(&one, &other, 1e-13);
    }
}

/* The same in float32: 3 sequences of 130 are worked through as 2 and 1. */
static void hidden_layer_in_pieces_on_the_processor(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    struct model_plan plan = {.batch = 3, .length = 130, .mem_len = 20, .train = true};
    assert_ok(cpu_open(&be, 1, &err), &err);
    be.poison = true;
    run_on(&be, &one, &plan, SET("model.d_inner=72"), 1);
    run_on(&be, &other, &plan, SET("model.d_inner=72", "gradient.method=unroll"), 1);
    assert_true(!one.keeps && one.rows == 260 && other.keeps);
    same(&one, &other, 1e-5);
    backend_close(&be);
}

/* What activations and solver take at the setting of `deq bench memory`, without computing. */
static double own_bytes(const char *const *settings, struct model_bytes *bytes)
{
    struct backend cpu, be;
    struct config c;
    struct model *m;
    struct error err;
    assert_ok(bench_width_setting(&c, &err), &err);
    config_change(&c, settings);
    assert_ok(config_resolve(&c, 2000, &err), &err);
    struct model_plan plan = {.batch = c.train.batch,
                              .length = c.train.tgt_len,
                              .mem_len = c.train.mem_len,
                              .train = true};
    assert_ok(cpu_open(&cpu, 1, &err), &err);
    assert_ok(count_open_like(&be, &cpu, &err), &err);
    assert_ok(model_create(&m, &be, &c, NULL, &plan, &err), &err);
    *bytes = m->bytes;
    size_t sum = bytes->parameters + bytes->remembered + bytes->activations + bytes->solver;
    assert_true(sum <= be.bytes + 4096 && be.bytes <= sum + bytes->vocabulary);
    model_free(m);
    backend_close(&be);
    backend_close(&cpu);
    return (double)(bytes->activations + bytes->solver);
}

static void less_than_explicit_networks(void **state)
{
    (void)state;
    struct model_bytes b;
    double deq = own_bytes(SET("solver.forward.max_iter=50"), &b);
    const char *layers[] = {"model.layers=16", "model.layers=18"};
    for (int i = 0; i < 2; i++) {
        double net = own_bytes(SET(layers[i], "model.tie_layers=false", "model.wnorm=false"), &b);
        assert_true(deq <= 0.12 * net);
    }
    deq = own_bytes(SET("model.cell=trellis", "solver.forward.max_iter=50"), &b);
    assert_true(deq <= 0.12 * own_bytes(SET("model.cell=trellis", "model.layers=70"), &b));
}

/* Weight normalisation adds effective weights to the parameters, and next to nothing to the rest.
 */
static void effective_weights_are_parameters(void **state)
{
    (void)state;
    struct model_bytes with, without;
    double more = own_bytes(SET("model.wnorm=true"), &with);
    more -= own_bytes(SET("model.wnorm=false"), &without);
    double matrices = 128 * 128 * 5 + 2 * 128 * 512, rows = 3 * 128 + 128 * 3 + 512;
    assert_true(more >= 0 && more <= 4 * rows);
    double parameters = (double)with.parameters - (double)without.parameters;
    assert_true(parameters >= 4 * matrices && parameters <= 4 * matrices + 12 * rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(injections_survive_their_gradient),
        cmocka_unit_test(nothing_is_used_out_of_turn),
        cmocka_unit_test(hidden_layer_in_pieces),
        cmocka_unit_test(hidden_layer_in_pieces_on_the_processor),
        cmocka_unit_test(less_than_explicit_networks),
        cmocka_unit_test(effective_weights_are_parameters),
    };
    return cmocka_run_group_tests_name("planned memory", tests, NULL, NULL);
}
