/* Scores of texts of different length, compared with one solve over each text alone, among batches
 * and segment lengths, between float32 and float64, and with what a generator expects. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/mem.h"
#include "deq/settings.h"
#include "generate/generation.h"
#include "score/tally.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 19, TEXTS = 9, LONGEST = 40, WINDOW = 12 };

/* Of an untrained network not every token has an equilibrium that a solver finds. With these
 * parameters nearly all have. */
enum { SEED = 23 };

static const char *const transformer[] = {"model.cell=transformer", NULL};
static const char *const stacked[] = {"model.blocks=2", "model.start=linear", NULL};
static const char *const clustered[] = {"model.cutoffs=[5,11]", NULL};
static const char *const trellis[] = {"model.cell=trellis", "model.nhid=10",    "model.nout=6",
                                      "model.ksize=3",      "model.dilation=2", NULL};
static const char *const layers[] = {"model.layers=3", "model.tie_layers=false", NULL};
static const char *const modern[] = {"model.cell=modern", "model.norm=rms", "model.gate_init=0.3",
                                     NULL};
static const char *const around[] = {"model.cell=modern", "model.norm=rms", "model.prelude=1",
                                     "model.coda=1",      "model.blocks=2", NULL};
static const char *const *const cells[] = {transformer, stacked, trellis,  layers,
                                           modern,      around,  clustered};
/* The last one has no equilibrium at a few positions of the longest text. */
enum { CELLS_TRIED = sizeof cells / sizeof *cells, CELLS_SURE = CELLS_TRIED - 1 };

static const char *const common[] = {
    "model.d_model=16",
    "model.n_head=2",
    "model.d_inner=24",

    "model.init_std=0.15",

    "solver.forward.scope=sequence",
    "solver.forward.history=12",
    "solver.forward.ridge=1e-14",
    "solver.forward.stall=3",
    "eval.tgt_len=8",
    "eval.mem_len=4",
    NULL,
};

/* Texts of 1 to LONGEST tokens, the longest of which do not fit into a window. */
struct texts {
    int32_t token[TEXTS][LONGEST];
    struct score_token out[TEXTS][LONGEST];
    struct score_text text[TEXTS];
};

static void make_texts(struct texts *t)
{
    static const int64_t count[TEXTS] = {2, 40, 7, 1, 23, 3, 7, 13, 2};
    memset(t, 0, sizeof *t);
    for (int i = 0; i < TEXTS; i++) {
        for (int k = 0; k < LONGEST; k++)
            t->token[i][k] = (int32_t)((k * k + 7 * i + 3) % VOCAB);
        t->text[i] = (struct score_text){.token = t->token[i], .count = count[i], .out = t->out[i]};
    }
}

static struct scorer *make_scorer(struct backend *be, const char *const *cell, double tol,
                                  int64_t batch, int64_t length)
{
    struct config config = config_of(VOCAB, common, cell);
    struct score_plan plan;
    struct scorer *s;
    struct error err;
    score_prepare(&plan, &config, tol, 400);
    plan.batch = batch;
    plan.length = length;
    plan.ranks = true;
    assert_true(plan.invariant);
    assert_ok(scorer_create(&s, be, &plan, &err), &err);
    assert_ok(params_initialize(&s->params, SEED, &err), &err);
    return s;
}

static void score(struct backend *be, const char *const *cell, double tol, int64_t batch,
                  int64_t length, struct texts *t)
{
    struct scorer *s = make_scorer(be, cell, tol, batch, length);
    struct error err;
    int64_t asked = 0;
    make_texts(t);
    assert_ok(score_texts(s, t->text, TEXTS, &err), &err);
    for (int i = 0; i < TEXTS; i++)
        asked += t->text[i].count - 1;
    assert_int_equal(s->positions, asked);
    scorer_free(s);
}

static bool has_converged(const struct texts *t, int i, double tol)
{
    for (int k = 0; k < t->text[i].count - 1; k++)
        if (t->out[i][k].residual > tol)
            return false;
    return true;
}

/* Every score of `a` is that of `b`, in texts whose positions have all converged to `tol`, which at
 * most two have not. No score is missing. */
static void compare(const struct texts *a, const struct texts *b, double tol, double allowed,
                    const char *what)
{
    int compared = 0;
    for (int i = 0; i < TEXTS; i++) {
        assert_true(a->out[i][a->text[i].count - 1].logp == 0); /* nothing behind the text */
        if (!has_converged(a, i, tol) || !has_converged(b, i, tol))
            continue;
        compared++;
        for (int k = 0; k < a->text[i].count - 1; k++) {
            const struct score_token *x = &a->out[i][k], *y = &b->out[i][k];
            double off = fabs(x->logp - y->logp);
            if (!(x->logp < 0 && x->evals > 0 && off <= allowed))
                fail_msg("%s: text %d, token %d: %.12g and %.12g, off by %g", what, i, k, x->logp,
                         y->logp, off);
        }
    }
    assert_true(compared >= TEXTS - 2);
}

/* Batches of any size and segments of any length give the same, in float64 to the tolerance. */
static void test_batches_and_lengths(void **state)
{
    static const struct {
        int64_t batch, length;
    } tried[] = {{1, 1}, {1, 13}, {3, 2}, {9, 5}, {0, 0}};
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    be.poison = true;
    for (int c = 0; c < CELLS_TRIED; c++) {
        struct texts first, other;
        char what[64];
        score(&be, cells[c], 1e-12, 4, 3, &first);
        for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
            snprintf(what, sizeof what, "cell %d, batch %d, length %d", c, (int)tried[i].batch,
                     (int)tried[i].length);
            score(&be, cells[c], 1e-12, tried[i].batch, tried[i].length, &other);
            compare(&first, &other, 1e-11, 1e-9, what);
        }
    }
    backend_close(&be);
}

/* The same in float32, and close to float64. */
static void test_float32(void **state)
{
    (void)state;
    struct backend be, ref;
    struct error err;
    assert_ok(ref_open(&ref, &err), &err);
    assert_ok(cpu_open(&be, 2, &err), &err);
    be.poison = true;
    for (int c = 0; c < CELLS_TRIED; c++) {
        struct texts a, b, exact;
        score(&ref, cells[c], 1e-12, 9, 3, &exact);
        score(&be, cells[c], 3e-6, 9, 2, &a);
        score(&be, cells[c], 3e-6, 2, 7, &b);
        compare(&a, &b, 1e-5, 5e-4, "float32");
        compare(&a, &exact, 1e-5, 5e-4, "float64");
    }
    backend_close(&be);
    backend_close(&ref);
}

/* A text in pieces has the scores of the whole one. */
static void test_running_text(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    for (int c = 0; c < CELLS_SURE; c++) {
        struct texts whole;
        struct score_token out[LONGEST];
        score(&be, cells[c], 1e-12, 4, 3, &whole);
        struct scorer *s = make_scorer(&be, cells[c], 1e-12, 0, 5);
        for (int piece = 1; piece < LONGEST; piece += 11) {
            assert_ok(score_begin(s, &err), &err);
            for (int at = 0; at < LONGEST - 1; at += piece) {
                int count = LONGEST - 1 - at < piece ? LONGEST - 1 - at : piece;
                assert_ok(score_continue(s, whole.token[1] + at, count + 1, out + at, &err), &err);
            }
            for (int k = 0; k < LONGEST - 1; k++)
                if (!(fabs(out[k].logp - whole.out[1][k].logp) < 1e-9))
                    fail_msg("cell %d, pieces of %d: token %d: %g and %g", c, piece, k, out[k].logp,
                             whole.out[1][k].logp);
        }
        scorer_free(s);
    }
    backend_close(&be);
}

/* A generator that has been fed the same tokens expects the next one as much, whatever the window,
 * and the ranks follow from what it expects. */
static void test_generator(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    for (int c = 0; c < CELLS_SURE; c++) {
        struct generator_plan plan = {.how = SAMPLING_PLAIN, .seed = 1};
        struct texts t;
        struct generator g;
        struct model *m;
        score(&be, cells[c], 1e-12, 4, 3, &t);
        struct config config = config_of(VOCAB, common, cells[c]);
        config.solver.forward.stop = STOP_REL;
        config.solver.forward.tol = 1e-12;
        config.solver.forward.scope = SCOPE_TOKEN;
        config.eval.max_iter = 400;
        config.solver.forward.stall = 400;
        assert_ok(generation_model(&m, &be, &config, NULL, &err), &err);
        assert_ok(params_initialize(m->params, SEED, &err), &err);
        model_refresh(m);
        plan.model = m;
        plan.how.temperature = 0;
        assert_ok(generator_create(&g, &plan, &err), &err);
        for (int k = 0; k < LONGEST - 1; k++) {
            const struct score_token *x = &t.out[1][k];
            int32_t next = t.token[1][k + 1], drawn;
            int above = 0;
            assert_ok(generator_feed(&g, &t.token[1][k], 1, &err), &err);
            assert_true(fabs(g.logp[next] - x->logp) < 1e-9);
            for (int i = 0; i < VOCAB; i++)
                above += g.logp[i] > g.logp[next];
            assert_int_equal(x->rank, above + 1);
            assert_ok(generator_draw(&g, &drawn, &err), &err);
            assert_int_equal(x->greedy, drawn == next);
        }
        generator_free(&g);
        model_free(m);
    }
    backend_close(&be);
}

/* A text's scores do not depend on its neighbours, but for rounding. */
static void test_neighbours(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    struct texts all, alone;
    assert_ok(cpu_open(&be, 2, &err), &err);
    score(&be, transformer, 1e-5, 32, 13, &all);
    struct scorer *s = make_scorer(&be, transformer, 1e-5, 32, 13);
    make_texts(&alone);
    for (int i = 0; i < TEXTS; i++)
        assert_ok(score_texts(s, &alone.text[i], 1, &err), &err);
    compare(&all, &alone, 1e-4, 2e-6, "alone");
    scorer_free(s);
    backend_close(&be);
}

/* What greedy decoding leaves out takes no rank from others, and is never greedy itself. */
static void test_excluded(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    struct texts t;
    assert_ok(ref_open(&be, &err), &err);
    score(&be, transformer, 1e-9, 4, 3, &t);
    struct config config = config_of(VOCAB, common, transformer);
    struct score_plan plan;
    struct scorer *s;
    int first = 0;
    while (t.out[1][first].rank != 1 && t.out[1][first].rank != 2 && first < LONGEST - 2)
        first++;
    assert_true(first < LONGEST - 2); /* the test wants a token near the top */
    score_prepare(&plan, &config, 1e-9, 400);
    plan.ranks = true;
    plan.unk = t.token[1][first + 1];
    assert_ok(scorer_create(&s, &be, &plan, &err), &err);
    assert_ok(params_initialize(&s->params, SEED, &err), &err);
    int32_t rank = t.out[1][first].rank;
    assert_ok(score_texts(s, t.text, TEXTS, &err), &err);
    assert_int_equal(t.out[1][first].rank, rank);
    assert_false(t.out[1][first].greedy);
    scorer_free(s);
    backend_close(&be);
}

static void test_plan(void **state)
{
    (void)state;
    struct score_plan plan;
    struct config c = config_of(VOCAB, common, transformer);
    score_prepare(&plan, &c, 1e-6, 50);
    assert_int_equal(plan.window, WINDOW);
    assert_int_equal(plan.config.model.local_size, WINDOW);
    assert_int_equal(plan.config.eval.mem_len, WINDOW - 1);
    assert_true(plan.other_scope && plan.config.solver.forward.scope == SCOPE_PREFIX);
    assert_int_equal(plan.config.solver.forward.max_iter, 50);
    c = config_of(VOCAB, common, SET("model.local_size=5", "solver.forward.scope=token"));
    score_prepare(&plan, &c, 1e-6, 50);
    assert_int_equal(plan.window, 5);
    assert_false(plan.other_scope);
    c = config_of(VOCAB, common, SET("model.layers=3"));
    score_prepare(&plan, &c, 1e-6, 50);
    assert_false(plan.invariant || plan.other_scope);
    assert_int_equal(plan.config.eval.mem_len, 4);
}

static void test_tally(void **state)
{
    (void)state;
    struct score_tally a = {0}, b = {0};
    struct score_token half = {.logp = -log(2), .evals = 3}, eighth = {.logp = -log(8), .evals = 5};
    assert_true(isnan(score_ppl(&a)) && isnan(score_bits_per_byte(&a)));
    score_tally_add(&a, &half, false, 2);
    assert_true(fabs(score_ppl(&a) - 2) < 1e-12 && fabs(score_bits_per_byte(&a) - 0.5) < 1e-12);
    score_tally_add(&b, &eighth, true, 10);
    assert_true(isnan(score_ppl_known(&b)) && isnan(score_bits_per_byte_known(&b)));
    score_tally_merge(&a, &b);
    assert_int_equal(a.tokens, 2);
    assert_int_equal(a.unknown, 1);
    assert_int_equal(a.bytes, 12);
    assert_int_equal(a.evals_max, 5);
    assert_true(fabs(score_ppl(&a) - 4) < 1e-12 && fabs(score_ppl_known(&a) - 2) < 1e-12);
    assert_true(isnan(score_bits_per_byte(&a)));
    assert_true(fabs(score_bits_per_byte_known(&a) - 0.5) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_and_lengths),
        cmocka_unit_test(test_float32),
        cmocka_unit_test(test_running_text),
        cmocka_unit_test(test_generator),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_excluded),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_tally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
