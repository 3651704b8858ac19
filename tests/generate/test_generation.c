/* Incremental decoding compared with whole windows. Its log-probabilities must be those of one
 * solve over the same text, up to the solver's tolerance. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "deq/settings.h"
#include "generate/generation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 19, LENGTH = 12 };

/* The settings of each cell beyond the common ones. */
static const char *const transformer[] = {"model.cell=transformer", NULL};
static const char *const trellis[] = {"model.cell=trellis", "model.nhid=10",    "model.nout=6",
                                      "model.ksize=3",      "model.dilation=2", NULL};

static const char *const layers[] = {"model.layers=3", "model.tie_layers=false", NULL};
static const char *const modern[] = {"model.cell=modern", "model.norm=rms", "model.n_kv_head=1",
                                     NULL};
static const char *const stacked[] = {
    "model.cell=modern", "model.blocks=2",        "model.prelude=1",    "model.coda=1",
    "model.norm=rms",    "model.norm_place=post", "model.inject=decay", NULL};
static const char *const plain[] = {"model.cell=modern", "model.layers=3", "model.tie_layers=false",
                                    "model.norm=rms", NULL};
static const char *const *const cells[] = {transformer, trellis, layers, modern, stacked, plain};
enum { CELLS_COUNT = sizeof cells / sizeof *cells };
/* Settings in which a row might see another one. */
static const char *const batchwise[] = {"solver.forward.scope=batch",
                                        "solver.forward.method=broyden", NULL};
static const char *const clustered[] = {"model.cutoffs=[6,11]", "model.div_val=2",
                                        "model.tie_weights=false", NULL};
static const char *const guessed[] = {"model.start=linear", NULL};
/* So wide that products of many rows add up in another order than those of a few. */
static const char *const wide[] = {"model.cell=trellis", "model.nhid=40",    "model.nout=24",
                                   "model.ksize=3",      "model.dilation=2", NULL};

static struct config tiny(const char *const *cell, const char *tol)
{
    static const char *const common[] = {
        "model.d_model=16",
        "model.n_head=2",
        "model.d_inner=24",
        "model.init_std=0.15",
        "solver.forward.stop=rel",
        "solver.forward.scope=token",
        "solver.forward.history=6",
        "solver.forward.ridge=1e-12",
        "solver.forward.stall=200",
        "eval.max_iter=400",
        "eval.tgt_len=12",
        "eval.mem_len=4",
        NULL,
    };
    struct error err;
    struct config c = config_unresolved(common, cell);
    char text[64];
    snprintf(text, sizeof text, "solver.forward.tol=%s", tol);
    assert_ok(config_set(&c, text, &err), &err);
    assert_ok(config_resolve(&c, VOCAB, &err), &err);
    return c;
}

/* Feeds LENGTH tokens in pieces of `piece`, and compares what is known after each piece with a
 * generator that is fed the same text at once. */
static void check_pieces(struct backend *be, const char *const *cell, const char *tol,
                         double allowed, int64_t piece)
{
    struct config config = tiny(cell, tol);
    struct generator slow, whole;
    struct model *a, *b;
    struct error err;
    int32_t tokens[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        tokens[i] = (int32_t)((i * 7 + 3) % VOCAB);
    assert_ok(generation_model(&a, be, &config, NULL, &err), &err);
    assert_ok(params_initialize(a->params, 11, &err), &err);
    assert_ok(generation_model(&b, be, &config, a->params, &err), &err);
    model_refresh(a);
    model_refresh(b);
    assert_ok(
        generator_create(&slow, &(struct generator_plan){.model = a, .how = SAMPLING_PLAIN}, &err),
        &err);
    for (int64_t at = 0; at < LENGTH; at += piece) {
        assert_ok(generator_feed(&slow, tokens + at, piece, &err), &err);
        assert_ok(generator_create(
                      &whole, &(struct generator_plan){.model = b, .how = SAMPLING_PLAIN}, &err),
                  &err);
        assert_ok(generator_feed(&whole, tokens, at + piece, &err), &err);
        double sum = 0;
        for (int i = 0; i < VOCAB; i++) {
            double off = fabs(slow.logp[i] - whole.logp[i]);
            if (!(off <= allowed))
                fail_msg("after %d tokens, token %d: off by %g", (int)(at + piece), i, off);
            sum += exp(slow.logp[i]);
        }
        assert_true(fabs(sum - 1) < 1e-5);
        generator_free(&whole);
    }
    generator_free(&slow);
    model_free(b);
    model_free(a);
}

static void test_float64(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    be.poison = true;
    for (int k = 0; k < CELLS_COUNT; k++) {
        check_pieces(&be, cells[k], "1e-12", 1e-9, 1);
        check_pieces(&be, cells[k], "1e-12", 1e-9, 3);
    }
    backend_close(&be);
}

/* Solves in float32 end near 1e-6, and log-probabilities differ by some tens of times that. */
static void test_float32(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(cpu_open(&be, 2, &err), &err);
    be.poison = true;
    for (int k = 0; k < CELLS_COUNT; k++) {
        check_pieces(&be, cells[k], "1e-6", 1e-4, 1);
        check_pieces(&be, cells[k], "1e-6", 1e-4, 4);
    }
    backend_close(&be);
}

enum { MADE = 10, TEXTS = 5 };

/* Makes texts number first .. first + count - 1 that begin with the same tokens. */
static void make_texts(struct model *m, struct model *many, int64_t first, int64_t count,
                       int32_t (*out)[MADE], double (*logp)[VOCAB])
{
    struct generator_plan plan = {
        .model = m, .many = many, .how = SAMPLING_PLAIN, .seed = 3, .first = first};
    struct generator g;
    struct error err;
    int32_t prompt[5] = {1, 5, 2, 5, 7}, drawn[GENERATION_STREAMS];
    plan.how.repeat_penalty = 1.3;
    plan.how.repeat_last = 4;
    assert_ok(generator_create(&g, &plan, &err), &err);
    assert_ok(generator_feed(&g, prompt, 5, &err), &err);
    for (int i = 0; i < MADE; i++) {
        assert_ok(generator_draw(&g, drawn, &err), &err);
        for (int64_t k = 0; k < count; k++)
            out[k][i] = drawn[k];
        assert_ok(generator_step(&g, drawn, &err), &err);
    }
    memcpy(logp, g.logp, (size_t)count * sizeof *logp);
    generator_free(&g);
}

/* A text is the same whether it is made alone, with others, or as another number of them, down to
 * the bits of the last probabilities. More tokens are made than a window holds. */
static void check_together(struct backend *be, const char *const *cell)
{
    struct config config = tiny(cell, "1e-3");
    struct model *one, *two, *five;
    struct error err;
    int32_t alone[TEXTS][MADE], pair[2][MADE], all[TEXTS][MADE];
    double alone_p[TEXTS][VOCAB], pair_p[2][VOCAB], all_p[TEXTS][VOCAB];
    assert_ok(generation_model(&one, be, &config, NULL, &err), &err);
    assert_ok(params_initialize(one->params, 11, &err), &err);
    assert_ok(generation_batch_model(&two, be, &config, one->params, 2, &err), &err);
    assert_ok(generation_batch_model(&five, be, &config, one->params, TEXTS, &err), &err);
    model_refresh(one);
    model_refresh(two);
    model_refresh(five);
    for (int i = 0; i < TEXTS; i++)
        make_texts(one, NULL, i, 1, &alone[i], &alone_p[i]);
    make_texts(one, two, 2, 2, pair, pair_p);
    make_texts(one, five, 0, TEXTS, all, all_p);
    assert_memory_equal(all, alone, sizeof all);
    assert_memory_equal(all_p, alone_p, sizeof all_p);
    assert_memory_equal(pair, alone[2], sizeof pair);
    assert_memory_equal(pair_p, alone_p[2], sizeof pair_p);
    assert_memory_not_equal(alone[0], alone[1], sizeof alone[0]);
    model_free(five);
    model_free(two);
    model_free(one);
}

static void check_all_together(struct backend *be)
{
    be->poison = true;
    for (size_t k = 0; k < sizeof cells / sizeof *cells; k++)
        check_together(be, cells[k]);
    check_together(be, batchwise);
    check_together(be, clustered);
    check_together(be, guessed);
    check_together(be, wide);
    backend_close(be);
}

static void test_together_ref(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(ref_open(&be, &err), &err);
    check_all_together(&be);
}

static void test_together_cpu(void **state)
{
    (void)state;
    struct backend be;
    struct error err;
    assert_ok(cpu_open(&be, 2, &err), &err);
    check_all_together(&be);
}

/* The likeliest token when those of text[from, to) are penalised. */
static int32_t penalised_top(const struct generator *g, const int32_t *text, int from, int to)
{
    double best = -INFINITY;
    int32_t top = -1;
    for (int32_t i = 0; i < VOCAB; i++) {
        double logit = g->logp[i] + g->log_sum[0];
        bool recent = false;
        for (int k = from > 0 ? from : 0; k < to; k++)
            recent |= text[k] == i;
        if (recent)
            logit = logit > 0 ? logit / 3 : logit * 3;
        if (logit > best) {
            best = logit;
            top = i;
        }
    }
    return top;
}

/* The penalty takes the last tokens, of the prompt too, through many turns of their buffer. */
static void test_penalty_of_text(void **state)
{
    (void)state;
    struct config config = tiny(transformer, "1e-3");
    struct generator_plan plan = {.how = SAMPLING_PLAIN};
    struct generator g;
    struct backend be;
    struct error err;
    enum { WINDOW = 6, COUNT = 60 };
    int32_t text[3 + COUNT] = {1, 5, 2};
    plan.how.temperature = 0;
    plan.how.repeat_penalty = 3;
    plan.how.repeat_last = WINDOW;
    assert_ok(cpu_open(&be, 1, &err), &err);
    assert_ok(generation_model(&plan.model, &be, &config, NULL, &err), &err);
    assert_ok(params_initialize(plan.model->params, 11, &err), &err);
    model_refresh(plan.model);
    assert_ok(generator_create(&g, &plan, &err), &err);
    assert_ok(generator_feed(&g, text, 3, &err), &err);
    for (int i = 3; i < 3 + COUNT; i++) {
        assert_ok(generator_draw(&g, &text[i], &err), &err);
        assert_int_equal(text[i], penalised_top(&g, text, i - WINDOW, i));
        assert_ok(generator_step(&g, &text[i], &err), &err);
    }
    generator_free(&g);
    model_free(plan.model);
    backend_close(&be);
}

/* With weights of zero the logits are the bias, which the log-probabilities alone do not tell. */
static void check_logits(const char *const *cell)
{
    struct config config = tiny(cell, "1e-3");
    struct generator_plan plan = {.how = SAMPLING_PLAIN};
    struct generator g;
    struct backend be;
    struct error err;
    int32_t token = 1;
    plan.how.repeat_penalty = 2;
    assert_ok(ref_open(&be, &err), &err);
    assert_ok(generation_model(&plan.model, &be, &config, NULL, &err), &err);
    struct params *p = plan.model->params;
    op_fill(&be, &p->w, 0);
    struct weight bias = params_weight(p, params_find(p, "crit.out_layers.0.bias"));
    op_fill(&be, &bias.w, 1.75);
    model_refresh(plan.model);
    assert_ok(generator_create(&g, &plan, &err), &err);
    assert_ok(generator_feed(&g, &token, 1, &err), &err);
    for (int i = 0; i < 6; i++)
        assert_true(fabs(g.logp[i] + g.log_sum[0] - 1.75) < 1e-12);
    generator_free(&g);
    model_free(plan.model);
    backend_close(&be);
}

static void test_logits(void **state)
{
    (void)state;
    check_logits(transformer);
    check_logits(clustered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float64),         cmocka_unit_test(test_float32),
        cmocka_unit_test(test_together_ref),    cmocka_unit_test(test_together_cpu),
        cmocka_unit_test(test_penalty_of_text), cmocka_unit_test(test_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
