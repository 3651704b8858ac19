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
static const char *const *const cells[] = {transformer, trellis, layers};

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
    struct sampling how = {.temperature = 1, .top_p = 1, .excluded = -1};
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
    assert_ok(generator_create(&slow, a, &how, 1, &err), &err);
    for (int64_t at = 0; at < LENGTH; at += piece) {
        assert_ok(generator_feed(&slow, tokens + at, piece, &err), &err);
        assert_ok(generator_create(&whole, b, &how, 1, &err), &err);
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
    for (int k = 0; k < 3; k++) {
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
    for (int k = 0; k < 3; k++) {
        check_pieces(&be, cells[k], "1e-6", 1e-4, 1);
        check_pieces(&be, cells[k], "1e-6", 1e-4, 4);
    }
    backend_close(&be);
}

static int64_t share_of(const struct sampling *how, const double *logp, int64_t vocab,
                        int32_t wanted)
{
    struct sampler s;
    struct error err;
    int64_t hits = 0;
    assert_ok(sampler_create(&s, how, vocab, &err), &err);
    for (int i = 0; i < 1000; i++) {
        int32_t token;
        assert_ok(sampler_pick(&s, logp, (i + 0.5) / 1000, &token, &err), &err);
        hits += token == wanted;
    }
    sampler_free(&s);
    return hits;
}

static void test_sampling(void **state)
{
    (void)state;
    const double logp[4] = {log(0.1), log(0.4), log(0.3), log(0.2)};
    struct sampling how = {.temperature = 1, .top_p = 1, .excluded = -1};
    assert_in_range(share_of(&how, logp, 4, 1), 399, 401);
    assert_in_range(share_of(&how, logp, 4, 0), 99, 101);
    how.top_k = 2;
    assert_in_range(share_of(&how, logp, 4, 1), 571, 572);
    assert_int_equal(share_of(&how, logp, 4, 3), 0);
    how = (struct sampling){.temperature = 1, .top_p = 0.6, .excluded = -1};
    assert_in_range(share_of(&how, logp, 4, 2), 428, 429);
    assert_int_equal(share_of(&how, logp, 4, 0), 0);
    how = (struct sampling){.temperature = 0, .top_p = 1, .excluded = -1};
    assert_int_equal(share_of(&how, logp, 4, 1), 1000);
    how.excluded = 1;
    assert_int_equal(share_of(&how, logp, 4, 2), 1000);
    how = (struct sampling){.temperature = 0.5, .top_p = 1, .excluded = -1};
    assert_in_range(share_of(&how, logp, 4, 1), 533, 534);
}

static void test_bad_numbers(void **state)
{
    (void)state;
    const double logp[2] = {NAN, 0};
    struct sampling how = {.temperature = 1, .top_p = 1, .excluded = -1};
    struct sampler s;
    struct error err;
    int32_t token;
    assert_ok(sampler_create(&s, &how, 2, &err), &err);
    assert_int_equal(sampler_pick(&s, logp, 0.5, &token, &err), STATUS_CHECK);
    sampler_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float64),
        cmocka_unit_test(test_float32),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_bad_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
