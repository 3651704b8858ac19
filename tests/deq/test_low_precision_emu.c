/* Products in bfloat16 with what is stored in it, on the emulated device: weights rounded once a
 * step are never old ones, and gradients are those of float32 within the rounding. */
#include "cuda/cuda.h"
#include "deq/model.h"
#include "deq/settings.h"
#include "emu/emu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, LENGTH = 6, VOCAB = 11, MAX_GRADIENTS = 1 << 13, MAX_SET = 24 };

static struct config settings_of(int64_t vocab, const char *const *set)
{
    static const char *const common[] = {"model.d_model=16",           "model.n_head=2",
                                         "model.d_inner=24",           "model.dropout=0.2",
                                         "model.init_std=0.2",         "solver.forward.max_iter=4",
                                         "solver.forward.stop=fixed",  "solver.backward.stop=fixed",
                                         "solver.backward.max_iter=4", NULL};
    return config_of(vocab, common, set);
}

static struct config settings(const char *const *set)
{
    return settings_of(VOCAB, set);
}

struct fixture {
    struct backend be;
    struct model *m;
};

static void open_fixture(struct fixture *f, const struct config *c, enum precision precision)
{
    struct error err;
    struct model_plan plan = {.batch = BATCH, .length = LENGTH, .mem_len = 4, .train = true};
    assert_ok(cuda_open(&f->be, &err), &err);
    f->be.poison = true;
    assert_ok(backend_set_precision(&f->be, precision, &err), &err);
    assert_ok(model_create(&f->m, &f->be, c, NULL, &plan, &err), &err);
}

static void close_fixture(struct fixture *f)
{
    struct error err;
    assert_ok(backend_check(&f->be, &err), &err);
    model_free(f->m);
    assert_int_equal(f->be.bytes, 0);
    backend_close(&f->be);
}

/* Gradients of two segments from an empty memory at the weights of `seed`. */
static int64_t gradients(struct fixture *f, uint64_t seed, float *to)
{
    struct error err;
    int32_t tokens[BATCH * LENGTH];
    for (int i = 0; i < BATCH * LENGTH; i++)
        tokens[i] = i * 5 % VOCAB;
    assert_ok(params_initialize(f->m->params, seed, &err), &err);
    model_reset_memory(f->m);
    model_refresh(f->m);
    for (int s = 0; s < 2; s++) {
        struct masks masks = {.source = MASKS_DRAWN, .seed = 3, .draw = (uint64_t)s};
        model_begin(f->m, tokens, LENGTH, &masks);
        assert_ok(model_solve(f->m, 0, true, &err), &err);
        model_loss(f->m, tokens, 1, true);
        if (f->m->config.jacobian.weight > 0)
            model_weigh_term(f->m, TERM_JACOBIAN_PENALTY, f->m->config.jacobian.weight,
                             &(struct rng_key){9, (uint64_t)s});
        assert_ok(model_backward(f->m, &err), &err);
        model_remember(f->m);
    }
    model_finish_gradients(f->m);
    assert_true(f->m->params->total <= MAX_GRADIENTS);
    op_download(&f->be, to, DTYPE_F32, &f->m->params->g);
    return f->m->params->total;
}

/* Other weights in the same model give, bit for bit, what a model that never had others gives. */
static void check_fresh(const char *const *set)
{
    static float first[MAX_GRADIENTS], second[MAX_GRADIENTS], fresh[MAX_GRADIENTS];
    struct config c = settings(set);
    struct fixture f;
    open_fixture(&f, &c, PRECISION_BF16);
    (void)gradients(&f, 7, first);
    int64_t count = gradients(&f, 8, second);
    close_fixture(&f);
    open_fixture(&f, &c, PRECISION_BF16);
    assert_int_equal(gradients(&f, 8, fresh), count);
    close_fixture(&f);
    assert_memory_equal(second, fresh, (size_t)count * sizeof *second);
    assert_memory_not_equal(first, second, (size_t)count * sizeof *first);
}

static void test_fresh(void **state)
{
    (void)state;
    check_fresh(SET("model.wnorm=true"));
    check_fresh(SET("model.wnorm=false", "model.pre_lnorm=true"));
    check_fresh(SET("model.cell=modern", "model.prelude=1"));
    check_fresh(SET("model.cell=modern", "model.gate=none", "model.wnorm=false"));
}

/* A factor of a product errs by 2^-8 of itself at most, the hidden layer and its gradient by
 * another 2^-8 each. Forth and back through two evaluations a gradient passes 2 x (4 + 4) products,
 * of two factors each, 4 hidden layers, and the vocabulary's three: 42 roundings, which, were they
 * all as large and of one sign, would come to 0.16. The penalty's second derivatives have as many
 * again. */
enum { ROUNDINGS = 42 };

static void check_near_of(int64_t vocab, const char *const *set, int roundings)
{
    static float rounded[MAX_GRADIENTS], exact[MAX_GRADIENTS];
    struct config c = settings_of(vocab, set);
    struct fixture f;
    double error = 0, norm = 0;
    open_fixture(&f, &c, PRECISION_BF16);
    int64_t count = gradients(&f, 7, rounded);
    close_fixture(&f);
    open_fixture(&f, &c, PRECISION_FP32);
    assert_int_equal(gradients(&f, 7, exact), count);
    close_fixture(&f);
    for (int64_t i = 0; i < count; i++) {
        error += (double)(rounded[i] - exact[i]) * (double)(rounded[i] - exact[i]);
        norm += (double)exact[i] * (double)exact[i];
    }
    print_message("# relative error %.3g\n", sqrt(error / norm));
    assert_true(error > 0 && norm > 0);
    assert_true(sqrt(error / norm) <= roundings * 0x1p-8);
}

static void check_near(const char *const *set, int roundings)
{
    check_near_of(VOCAB, set, roundings);
}

/* Kernels and products of a loss with its gradients. */
static int64_t loss_launches(int64_t vocab)
{
    static float ignored[MAX_GRADIENTS];
    struct config c = settings_of(vocab, SET("model.cutoffs=[]"));
    struct fixture f;
    int32_t tokens[BATCH * LENGTH] = {0};
    open_fixture(&f, &c, PRECISION_BF16);
    (void)gradients(&f, 7, ignored);
    int64_t before = emu_count().launches;
    model_loss(f.m, tokens, 1, true);
    op_download(&f.be, ignored, DTYPE_F32, &f.m->params->g);
    int64_t launches = emu_count().launches - before;
    close_fixture(&f);
    return launches;
}

/* A vocabulary of whole pieces of 16 bytes has the gradient of its logits rounded once in place of
 * twice. */
static void test_loss(void **state)
{
    (void)state;
    assert_int_equal(loss_launches(16), loss_launches(11) - 1);
    check_near_of(16, SET("gradient.method=unroll", "gradient.steps=2"), ROUNDINGS);
    check_near_of(16, SET("gradient.method=unroll", "gradient.steps=2", "model.cutoffs=[6,8]"),
                  ROUNDINGS);
    check_near_of(
        29,
        SET("gradient.method=unroll", "gradient.steps=2", "model.cutoffs=[5]", "model.div_val=2"),
        ROUNDINGS);
}

static void test_near(void **state)
{
    (void)state;
    check_near(SET("gradient.method=unroll", "gradient.steps=2"), ROUNDINGS);
    check_near(SET("gradient.method=unroll", "gradient.steps=2", "model.d_inner=27"), ROUNDINGS);
    check_near(SET("gradient.method=unroll", "gradient.steps=2", "model.pre_lnorm=true",
                   "model.norm=rms", "model.wnorm=false"),
               ROUNDINGS);
    check_near(SET("gradient.method=unroll", "gradient.steps=2", "model.cell=modern",
                   "model.norm=rms", "model.n_kv_head=1"),
               ROUNDINGS);
    check_near(SET("gradient.method=one-step", "solver.forward.max_iter=2", "jacobian.weight=0.5"),
               2 * ROUNDINGS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_near),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests_name("narrow tensors on emulated cuda", tests, NULL, NULL);
}
