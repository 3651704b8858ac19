/* Presets are fitted to texts of all sizes. */
#include "base/assert_ok.h"
#include "config/preset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct config preset_of(enum preset preset)
{
    char path[1024];
    struct config c;
    struct error err;
    snprintf(path, sizeof path, "%s", __FILE__);
    char *end = strstr(path, "tests/config/test_preset.c");
    assert_non_null(end);
    snprintf(end, sizeof path - (size_t)(end - path), "configs/%s.json", preset_name(preset));
    config_defaults(&c);
    assert_ok(config_load(&c, path, &err), &err);
    return c;
}

static void test_names(void **state)
{
    enum preset preset;
    (void)state;
    assert_true(preset_find("medium", &preset) && preset == PRESET_MEDIUM);
    assert_false(preset_find("auto", &preset));
    assert_string_equal(preset_name(PRESET_LARGE), "large");
}

static void test_the_size_of_the_text_chooses(void **state)
{
    (void)state;
    const int64_t mb = 1000000;
    assert_int_equal(preset_choose(&(struct preset_facts){.text_bytes = 1}), PRESET_SMALL);
    assert_int_equal(preset_choose(&(struct preset_facts){.text_bytes = 5 * mb}), PRESET_SMALL);
    assert_int_equal(preset_choose(&(struct preset_facts){.text_bytes = 50 * mb}), PRESET_MEDIUM);
    assert_int_equal(preset_choose(&(struct preset_facts){.text_bytes = 500 * mb}), PRESET_LARGE);
}

/* Whatever the text, the result is a training that resolves, and whose parts fit its steps. */
static void test_every_text_can_be_trained_on(void **state)
{
    (void)state;
    for (int p = PRESET_SMALL; p <= PRESET_LARGE; p++)
        for (int64_t tokens = 2; tokens < 4000000000; tokens *= 7)
            for (int64_t vocab = 2; vocab < 2000000; vocab *= 5) {
                const struct preset_facts facts = {.tokens = tokens,
                                                   .valid_tokens = tokens / 10,
                                                   .text_bytes = 5 * tokens,
                                                   .vocab = vocab,
                                                   .bytes = vocab == 256};
                const struct config base = preset_of((enum preset)p);
                struct config c = base;
                struct error err;
                preset_fit(&c, &base, &facts);
                assert_ok(config_resolve(&c, vocab, &err), &err);
                const struct config_train *t = &c.train;
                assert_true(t->pretrain_steps < t->steps && t->warmup_steps < t->steps / 4);
                assert_true(t->batch >= 1 && t->batch <= base.train.batch);
                assert_true(t->batch <= tokens / 2 && t->eval_every > 0);
                assert_true(facts.valid_tokens == 0 || c.eval.batch == 1 ||
                            c.eval.batch <= facts.valid_tokens / 2);
                assert_true(t->steps <= 2 * base.train.steps);
            }
}

static void test_a_short_text_is_seen_less_often_than_asked(void **state)
{
    const struct config base = preset_of(PRESET_SMALL);
    struct config c = base;
    struct preset_facts facts = {.tokens = 20000, .text_bytes = 100000, .vocab = 100};
    (void)state;
    preset_fit(&c, &base, &facts);
    int64_t each = c.train.batch * c.train.tgt_len;
    assert_true(c.train.steps * each <= PRESET_EPOCHS * facts.tokens);
    assert_true(c.train.steps * each > (PRESET_EPOCHS - 1) * facts.tokens);
    double often = c.model.dropout;
    /* Its parts keep their share of the steps. */
    assert_true(c.train.pretrain_steps ==
                base.train.pretrain_steps * c.train.steps / base.train.steps);
    c = base;
    facts.tokens = 100000000;
    facts.vocab = 8000;
    preset_fit(&c, &base, &facts);
    assert_int_equal(c.train.steps, base.train.steps);
    assert_int_equal(c.train.warmup_steps, base.train.warmup_steps);
    assert_true(c.model.dropout < often);
}

/* More steps by --set are the user's wish, also beyond the passes that a preset makes. */
static void test_steps_that_were_set_stay(void **state)
{
    const struct config base = preset_of(PRESET_SMALL);
    struct config c = base;
    struct preset_facts facts = {.tokens = 20000, .text_bytes = 100000, .vocab = 100};
    (void)state;
    c.train.steps = 2 * base.train.steps;
    preset_fit(&c, &base, &facts);
    assert_int_equal(c.train.steps, 2 * base.train.steps);
    assert_int_equal(c.train.warmup_steps, 2 * base.train.warmup_steps);
}

static void test_a_large_vocabulary_has_clusters(void **state)
{
    const struct config base = preset_of(PRESET_SMALL);
    struct config c = base;
    (void)state;
    preset_fit(&c, &base, &(struct preset_facts){.tokens = 1000000, .vocab = 12000});
    assert_int_equal(c.model.cutoffs.count, 0);
    preset_fit(&c, &base, &(struct preset_facts){.tokens = 1000000, .vocab = 12001});
    assert_int_equal(c.model.cutoffs.count, 2);
    assert_true(c.model.cutoffs.value[1] < 12001);
}

/* Bytes have a small softmax, so that more steps fit into the same time. */
static void test_steps_take_the_same_time(void **state)
{
    const struct config base = preset_of(PRESET_SMALL);
    const struct preset_facts words = {.tokens = 100000000, .vocab = 16000};
    const struct preset_facts bytes = {.tokens = 100000000, .vocab = 256, .bytes = true};
    struct config of_words = base, of_bytes = base;
    (void)state;
    preset_fit(&of_words, &base, &words);
    preset_fit(&of_bytes, &base, &bytes);
    assert_true(of_words.train.steps < base.train.steps);
    assert_true(of_bytes.train.steps > base.train.steps * 3 / 2);
    assert_true(of_bytes.train.steps < base.train.steps * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_the_size_of_the_text_chooses),
        cmocka_unit_test(test_every_text_can_be_trained_on),
        cmocka_unit_test(test_a_short_text_is_seen_less_often_than_asked),
        cmocka_unit_test(test_steps_that_were_set_stay),
        cmocka_unit_test(test_a_large_vocabulary_has_clusters),
        cmocka_unit_test(test_steps_take_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
