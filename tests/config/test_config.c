/* Defaults, every key by file and by --set, every message, and what is written and read again. */
#include "base/mem.h"
#include "config/config.h"
#include "config/config_table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void refused(const char *text, const char *message)
{
    struct config config;
    struct error err = {0};
    config_defaults(&config);
    assert_int_equal(config_parse(&config, text, "a.json", &err), STATUS_CONFIG);
    assert_string_equal(err.text, message);
}

static void set_refused(const char *assignment, const char *message)
{
    struct config config;
    struct error err = {0};
    config_defaults(&config);
    assert_int_equal(config_set(&config, assignment, &err), STATUS_CONFIG);
    assert_string_equal(err.text, message);
}

/* The defaults with these assignments must not resolve. */
static void not_resolved(const char *const *assignments, int64_t vocab, const char *message)
{
    struct config config;
    struct error err = {0};
    config_defaults(&config);
    for (; *assignments != NULL; assignments++)
        assert_int_equal(config_set(&config, *assignments, &err), STATUS_OK);
    assert_int_equal(config_resolve(&config, vocab, &err), STATUS_CONFIG);
    assert_string_equal(err.text, message);
}
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_defaults(void **state)
{
    (void)state;
    struct config c;
    struct error err;
    config_defaults(&c);
    assert_string_equal(c.data.dir, "data/kjv");
    assert_int_equal(c.model.d_model, 256);
    assert_int_equal(c.solver.forward.method, SOLVE_ANDERSON);
    assert_int_equal(c.solver.forward.scope, SCOPE_PREFIX);
    assert_int_equal(c.solver.forward.stop, STOP_FIXED);
    assert_int_equal(c.solver.backward.scope, SCOPE_TOKEN);
    assert_int_equal(c.solver.backward.history, 3);
    assert_true(c.model.wnorm && !c.model.pre_lnorm && c.model.tie_weights);
    assert_true(c.train.lr == 1e-3 && c.train.beta2 == 0.999 && c.gradient.damping == 0.8);
    assert_int_equal(config_resolve(&c, 1000, &err), STATUS_OK);
    assert_int_equal(c.model.d_head, 32);
    assert_int_equal(c.model.d_embed, 256);
    assert_int_equal(c.model.vocab_size, 1000);
    assert_int_equal(c.model.tie_projs.count, 1);
    assert_int_equal(c.model.tie_projs.value[0], 0);
}

/* Every default of the table lies in its range, and no path and no field occurs twice. */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char choice[64];
        assert_true(key->meaning[0] != '\0');
        assert_ptr_equal(config_find_key(key->path), key);
        if (key->type == CONFIG_INT || key->type == CONFIG_REAL)
            assert_true(key->initial >= key->min && key->initial <= key->max);
        if (key->type == CONFIG_ENUM)
            assert_true(
                config_choice(key->choices, (int64_t)(key->initial - key->min), choice, 64));
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(config_keys[k].offset, key->offset);
    }
    /* every number of the struct is reached by a key */
    size_t covered = 0, padding = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        static const size_t size[] = {sizeof(int64_t),
                                      sizeof(double),
                                      sizeof(bool),
                                      sizeof(int),
                                      CONFIG_MAX_PATH,
                                      sizeof(struct config_list),
                                      sizeof(struct config_list)};
        covered += size[config_keys[i].type];
        if (config_keys[i].type == CONFIG_BOOL || config_keys[i].type == CONFIG_ENUM)
            padding += sizeof(int64_t) - size[config_keys[i].type];
    }
    /* a bool or an enum is padded to 8 bytes at most */
    assert_in_range(covered, sizeof(struct config) - padding, sizeof(struct config));
}

static void test_unknown_keys(void **state)
{
    (void)state;
    refused("{\"model\": {\n  \"d_modle\": 3}}",
            "a.json:2: model.d_modle: unknown key; the nearest known one is model.d_model");
    refused("{\"d_model\": 3}",
            "a.json:1: d_model: unknown key; the nearest known one is model.d_model");
    refused("{\"train\": {\"D_MODEL\": 3}}",
            "a.json:1: train.D_MODEL: unknown key; the nearest known one is model.d_model");
    refused("{\"eval\": {\"bacth\": 3}}",
            "a.json:1: eval.bacth: unknown key; the nearest known one is eval.batch");
    refused("{\"Train\": {\"lr\": 1}}",
            "a.json:1: Train: unknown key; the nearest known one is train");
    refused("{\"solver\": {\"forwards\": {}}}",
            "a.json:1: solver.forwards: unknown key; the nearest known one is solver.forward");
    refused("{\"solver\": {\"method\": \"picard\"}}",
            "a.json:1: solver.method: unknown key; the nearest known one is gradient.method");
    refused("{\"model\": 3}", "a.json:1: model: want an object, got a number");
    refused("[]", "a.json:1:1: want an object {...}, got an array");
    refused("{\"train\": {\"lr\": 1,\n\"lr\": 2}}", "a.json:2:1: lr: given twice, first on line 1");
    refused("{\"train.lr\": 1,\n\"train\": {\"lr\": 2}}", "a.json:2: train.lr: given twice");
    refused("{} {}", "a.json:1:4: something follows the end of the value");
}

static void test_types_and_ranges(void **state)
{
    (void)state;
    refused("{\n\n \"solver\": {\"forward\": {\n \"history\": 0}}}",
            "a.json:4: solver.forward.history: want 1..64, got 0");
    refused("{\"model\": {\"d_model\": 1.5}}",
            "a.json:1: model.d_model: want an integer within +-2^53, got 1.5");
    refused("{\"model\": {\"d_model\": \"256\"}}",
            "a.json:1: model.d_model: want an integer, got a string");
    refused("{\"model\": {\"d_model\": null}}",
            "a.json:1: model.d_model: want an integer, got null");
    refused("{\"model\": {\"wnorm\": 1}}",
            "a.json:1: model.wnorm: want true or false, got a number");
    refused("{\"model\": {\"dropout\": 1}}", "a.json:1: model.dropout: want 0 <= x < 1, got 1");
    refused("{\"model\": {\"dropout\": -0.5}}",
            "a.json:1: model.dropout: want 0 <= x < 1, got -0.5");
    refused("{\"train\": {\"lr\": 0}}", "a.json:1: train.lr: want 0 < x <= 100, got 0");
    refused("{\"train\": {\"steps\": 0}}", "a.json:1: train.steps: want at least 1, got 0");
    refused("{\"solver\": {\"backward\": {\"tol\": 0}}}",
            "a.json:1: solver.backward.tol: want x > 0, got 0");
    refused("{\"solver\": {\"forward\": {\"method\": \"Anderson\"}}}",
            "a.json:1: solver.forward.method: want picard, anderson or broyden, got \"Anderson\"");
    refused("{\"data\": {\"dir\": \"\"}}", "a.json:1: data.dir: want 1 to 511 bytes, got 0 bytes");
    refused("{\"model\": {\"cutoffs\": 3}}",
            "a.json:1: model.cutoffs: want an array, got a number");
    refused("{\"model\": {\"cutoffs\": [1,\n 0]}}",
            "a.json:2: model.cutoffs: want 1..2147483647 each, got 0");
    refused("{\"model\": {\"tie_projs\": [0]}}",
            "a.json:1: model.tie_projs: want true or false, got a number");
    refused("{\"model\": {\"cutoffs\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}}",
            "a.json:1: model.cutoffs: want at most 16 entries, got 17");
}

static void test_set(void **state)
{
    (void)state;
    struct config c;
    struct error err;
    config_defaults(&c);
    assert_int_equal(config_set(&c, "model.d_model=512", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "train.lr=.0001", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "data.dir=a=b c", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "model.cutoffs=20,40", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "model.tie_projs=[false,true,true]", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "solver.forward.method=broyden", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "solver.backward.method=\"picard\"", &err), STATUS_OK);
    assert_int_equal(c.model.d_model, 512);
    assert_true(c.train.lr == 1e-4);
    assert_string_equal(c.data.dir, "a=b c");
    assert_int_equal(c.model.cutoffs.count, 2);
    assert_int_equal(c.model.cutoffs.value[1], 40);
    assert_int_equal(c.model.tie_projs.count, 3);
    assert_int_equal(c.solver.forward.method, SOLVE_BROYDEN);
    assert_int_equal(c.solver.backward.method, SOLVE_PICARD);
    assert_int_equal(config_set(&c, "model.cutoffs=", &err), STATUS_OK);
    assert_int_equal(c.model.cutoffs.count, 0);

    set_refused("model.d_modle=3",
                "--set: model.d_modle: unknown key; the nearest known one is model.d_model");
    set_refused("train.lr", "--set train.lr: want KEY=VALUE, as in train.lr=0.001");
    set_refused("=3", "--set =3: want KEY=VALUE, as in train.lr=0.001");
    set_refused("train.lr=nan", "--set: train.lr: want 0 < x <= 100, got \"nan\"");
    set_refused("train.lr=", "--set: train.lr: want 0 < x <= 100, got \"\"");
    set_refused("train.lr=0x10", "--set: train.lr: want 0 < x <= 100, got \"0x10\"");
    set_refused("train.batch=0", "--set: train.batch: want 1..1048576, got 0");
    set_refused("train.batch=16 ,", "--set: train.batch: want 1..1048576, got \"16 ,\"");
    set_refused("model.wnorm=yes", "--set: model.wnorm: want true or false, got \"yes\"");
    set_refused("model.norm=batch", "--set: model.norm: want layer or rms, got \"batch\"");
    assert_int_equal(config_set(&c, "solver.forward=1", &err), STATUS_CONFIG);
    assert_non_null(strstr(err.text, "--set: solver.forward: a section"));
}

static void test_resolve_refusals(void **state)
{
    (void)state;
    not_resolved(LIST("model.d_model=100"), 0, "model.n_head: 8 does not divide model.d_model 100");
    not_resolved(LIST("model.d_head=16"), 0,
                 "model.d_head: n_head 8 x d_head 16 must be d_model 256; set d_head to 0 to have "
                 "it derived");
    not_resolved(LIST("model.cell=modern", "model.n_kv_head=3"), 0,
                 "model.n_kv_head: 3 does not divide model.n_head 8");
    not_resolved(LIST("model.cell=modern", "model.d_head=5"), 0,
                 "model.rope_base: heads of 5 numbers have none to pair the last with; set "
                 "model.d_head to an even number, or model.rope_base to 0");
    not_resolved(LIST("model.cell=modern", "model.pre_lnorm=true"), 0,
                 "model.pre_lnorm: a modern cell takes model.norm_place; set it to false");
    not_resolved(LIST("model.cell=modern", "model.outer_norm=true", "model.norm_place=post"), 0,
                 "model.outer_norm: with model.norm_place post or sandwich the last block's output "
                 "is normalised; set it to false");
    not_resolved(
        LIST("model.cell=modern", "model.layers=2", "model.tie_layers=false", "model.coda=1"), 0,
        "model.coda: untied layers are all there is; set it to 0 and count its blocks in "
        "model.layers");
    not_resolved(LIST("model.cutoffs=40,20"), 0, "model.cutoffs: must ascend, but 20 follows 40");
    not_resolved(LIST("model.cutoffs=20,40"), 40,
                 "model.cutoffs: 40 must be below the vocabulary of 40 tokens");
    not_resolved(LIST("model.div_val=4"), 0,
                 "model.div_val: 4 has no meaning without model.cutoffs; set it to 1");
    not_resolved(LIST("model.cutoffs=20,40", "model.div_val=17"), 0,
                 "model.div_val: 17 to the power 2 is more than model.d_embed 256: the last "
                 "cluster would have no width");
    not_resolved(LIST("model.tie_projs=true,false"), 0,
                 "model.tie_projs: want 1 entries, one more than model.cutoffs, or none; got 2");
    not_resolved(LIST("model.vocab_size=10"), 11,
                 "model.vocab_size: the configuration says 10, the data in data/kjv has 11 "
                 "tokens; set it to 0 to take the data's");
    not_resolved(LIST("solver.backward.min_iter=7"), 0,
                 "solver.backward.min_iter: 7 is more than max_iter 6");
    not_resolved(LIST("solver.forward.line_search=true"), 0,
                 "solver.forward.line_search: only the method broyden has one; set it to false");
    not_resolved(LIST("train.lr_min=1"), 0, "train.lr_min: 1 is more than train.lr 0.001");
    not_resolved(LIST("train.accumulate=3"), 0,
                 "train.accumulate: 3 does not divide train.batch 16");
}

/* A preset's equilibrium becomes an explicit network by model.layers alone. */
static void test_layers_alone(void **state)
{
    (void)state;
    struct config c;
    struct error err = {0};
    config_defaults(&c);
    assert_int_equal(config_set(&c, "model.start=linear", &err), STATUS_OK);
    assert_int_equal(config_resolve(&c, 100, &err), STATUS_OK);
    assert_int_equal(c.model.start, START_LINEAR);
    assert_int_equal(config_set(&c, "model.layers=16", &err), STATUS_OK);
    assert_int_equal(config_resolve(&c, 100, &err), STATUS_OK);
    assert_int_equal(c.model.start, START_ZERO);
    assert_int_equal(c.train.pretrain_steps, 0);
}

static void round_trip(const struct config *config)
{
    for (int pretty = 0; pretty < 2; pretty++) {
        struct config back;
        struct error err = {0};
        char *text;
        assert_int_equal(config_to_json(config, pretty != 0, &text, &err), STATUS_OK);
        if (pretty == 0)
            assert_null(strchr(text, '\n'));
        /* start from something else, so that a key left out shows */
        memset(&back, 0x5A, sizeof back);
        config_defaults(&back);
        back.train.lr = 3;
        back.model.d_model = 77;
        if (config_parse(&back, text, "text", &err) != STATUS_OK)
            fail_msg("%s", err.text);
        assert_memory_equal(&back, config, sizeof back);
        mem_free(text);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    struct config c;
    struct error err;
    config_defaults(&c);
    round_trip(&c);
    assert_int_equal(config_set(&c, "model.cutoffs=20,40,80", &err), STATUS_OK);
    assert_int_equal(config_set(&c, "model.div_val=2", &err), STATUS_OK);
    assert_int_equal(config_resolve(&c, 100, &err), STATUS_OK);
    strcpy(c.data.dir, "odd \"name\"\\ \xC3\xA9");
    c.train.lr = 1.0 / 3;
    c.train.seed = (int64_t)1 << 53;
    c.solver.forward.ridge = 1.5e-45;
    round_trip(&c);
}

/* Every key takes an allowed value other than its default, and no other field changes with it. */
static void test_every_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char assignment[256], value[64] = "x";
        struct config c, plain;
        struct error err = {0};
        config_defaults(&plain);
        config_defaults(&c);
        if (key->type == CONFIG_INT || key->type == CONFIG_REAL) {
            double step = key->type == CONFIG_INT ? 1 : 0.0625;
            bool up = key->initial + step < key->max;
            snprintf(value, sizeof value, "%.15g", key->initial + (up ? step : -step));
        }
        if (key->type == CONFIG_BOOL)
            strcpy(value, key->initial != 0 ? "false" : "true");
        if (key->type == CONFIG_ENUM &&
            !config_choice(key->choices, key->initial > key->min ? 0 : 1, value, sizeof value))
            continue; /* one choice only */
        if (key->type == CONFIG_INT_LIST)
            strcpy(value, "5");
        if (key->type == CONFIG_BOOL_LIST)
            strcpy(value, "true");
        snprintf(assignment, sizeof assignment, "%s=%s", key->path, value);
        if (config_set(&c, assignment, &err) != STATUS_OK)
            fail_msg("%s", err.text);
        assert_memory_not_equal(&c, &plain, sizeof c);
        round_trip(&c);
        /* nothing but this field was changed */
        size_t next = sizeof c;
        for (size_t k = 0; k < config_key_count; k++)
            if (config_keys[k].offset > key->offset && config_keys[k].offset < next)
                next = config_keys[k].offset;
        memcpy((char *)&c + key->offset, (char *)&plain + key->offset, next - key->offset);
        assert_memory_equal(&c, &plain, sizeof c);
    }
}

/* Any change of any byte is accepted or refused with a message. What was accepted resolves or is
 * refused with a message. */
static void test_damaged(void **state)
{
    (void)state;
    static const char bytes[] = "\0\n\"\\{}[],:0-9eE.tn \xFF";
    struct config plain, c;
    struct error err = {0};
    char *text;
    config_defaults(&plain);
    assert_int_equal(config_to_json(&plain, false, &text, &err), STATUS_OK);
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at++) {
        for (size_t i = 0; i < sizeof bytes - 1; i++) {
            char old = text[at];
            text[at] = bytes[i];
            config_defaults(&c);
            err.text[0] = '\0';
            enum status status = config_parse(&c, text, "damaged", &err);
            if (status == STATUS_OK)
                status = config_resolve(&c, 1000, &err);
            assert_true(status == STATUS_OK || status == STATUS_CONFIG);
            assert_true(status == STATUS_OK || err.text[0] != '\0');
            text[at] = old;
        }
    }
    mem_free(text);
}

static void test_reference(void **state)
{
    (void)state;
    for (int markdown = 0; markdown < 2; markdown++) {
        char *text;
        struct error err;
        assert_int_equal(config_reference(markdown != 0, NULL, &text, &err), STATUS_OK);
        for (size_t i = 0; i < config_key_count; i++) {
            assert_non_null(strstr(text, config_keys[i].path));
            assert_non_null(strstr(text, config_keys[i].meaning));
        }
        if (markdown != 0)
            assert_non_null(strstr(text, "| `train.lr` | number | `0.001` | 0 < x <= 100 |"));
        mem_free(text);
    }
}

static void test_load(void **state)
{
    (void)state;
    struct config c;
    struct error err;
    config_defaults(&c);
    assert_int_equal(config_load(&c, "no/such.json", &err), STATUS_NOINPUT);
    char path[] = "/tmp/deq-config-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    fputs("{\"train\": {\"batch\": 3}}", file);
    fclose(file);
    assert_int_equal(config_load(&c, path, &err), STATUS_OK);
    assert_int_equal(c.train.batch, 3);
    assert_int_equal(c.train.steps, 20000);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_table),
        cmocka_unit_test(test_unknown_keys), cmocka_unit_test(test_types_and_ranges),
        cmocka_unit_test(test_set),          cmocka_unit_test(test_resolve_refusals),
        cmocka_unit_test(test_layers_alone), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_key),    cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_reference),    cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests_name("model/config", tests, NULL, NULL);
}
