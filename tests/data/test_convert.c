/* Tokens that go from one form of files to another and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shards.h"

#include "data/convert.h"

static struct error err;

static void expect(enum status got, enum status want, const char *message)
{
    if (got != want || strstr(err.text, message) == NULL)
        fail_msg("status %d, \"%s\"; want %d, \"%s\"", got, err.text, want, message);
}

/* Checks that a split of the folder has the tokens shards_id(i, range). */
static void expect_tokens(const char *dir, const char *split, int64_t count, int64_t range)
{
    struct shard_set *set = NULL;
    uint32_t words[1024];
    int32_t got[1024];
    int64_t found;
    const struct shard_buffer buffer = {words, sizeof words};
    const struct shard_source source = {.dir = dir, .split = split};
    expect(shard_set_open(&set, &source, &err), STATUS_OK, "");
    if (shard_set_is_foreign(set))
        shard_set_take_vocabulary(set, range, 1);
    expect(shard_set_verify(set, &buffer, -1, &found, &err), STATUS_OK, "");
    assert_int_equal(shard_set_header(set)->split_tokens, count);
    for (int64_t at = 0; at < count; at += 1000) {
        int64_t n = count - at < 1000 ? count - at : 1000;
        expect(shard_set_read(set, at, n, got, &buffer, &err), STATUS_OK, "");
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(got[i], shards_id(at + i, range));
    }
    shard_set_close(set);
}

/* Shards to llm.c and back, with many files and blocks that do not fill up. */
static void there_and_back(int64_t V, int64_t tokens, int64_t file_tokens)
{
    struct tokenize_result r;
    struct convert_config c = {.from = {.dir = "d", .end = -1},
                               .to = CONVERT_LLMC,
                               .out = "llmc",
                               .force = true,
                               .file_tokens = file_tokens};
    shards_make("d", tokens, 7777, V);
    expect(convert_run(&c, &r, &err), STATUS_OK, "");
    assert_int_equal(r.tokens[SPLIT_TRAIN], tokens);
    assert_int_equal(r.tokens[SPLIT_VALID], 0);
    assert_int_equal(r.vocab, V);
    assert_int_equal(r.shards, (tokens + file_tokens - 1) / file_tokens);
    expect_tokens("llmc", "train", tokens, V);
    c = (struct convert_config){.from = {.dir = "llmc", .end = -1}, .out = "back", .force = true};
    expect(convert_run(&c, &r, &err), STATUS_OK, "");
    assert_int_equal(r.shards, 1);
    expect_tokens("back", "train", tokens, V);
    system("rm -rf llmc back d");
}

static void test_there_and_back(void **state)
{
    (void)state;
    there_and_back(50, 1, 10);
    there_and_back(50, 12345, 1000);
    there_and_back(70000, 12345, 6000);
    there_and_back(300, 300000, 1 << 20);
}

static void test_refused(void **state)
{
    (void)state;
    struct tokenize_result r;
    struct convert_config c = {.from = {.dir = "d", .end = -1}, .out = "out"};
    expect(convert_run(&c, &r, &err), STATUS_NOINPUT, "d/vocab.txt");
    mkdir("d", 0777);
    uint16_t ids[4] = {1, 2, 3, 9};
    scratch_write("d/train.bin", ids, sizeof ids);
    expect(convert_run(&c, &r, &err), STATUS_CONFIG, "d/train.bin: token files without");
    c.from.vocab_size = 9;
    for (int form = 0; form < 2; form++) {
        c.to = form;
        expect(convert_run(&c, &r, &err), STATUS_DATA, "token id 9 in a vocabulary of 9");
        assert_int_not_equal(access("out", F_OK), 0); /* nothing is left */
    }
    c.from.vocab_size = 10;
    expect(convert_run(&c, &r, &err), STATUS_OK, "");
    expect(convert_run(&c, &r, &err), STATUS_CANTCREATE, "out: not empty");
}

/* A file of llm.c that was written is removed when the next one fails. */
static void test_a_failure_leaves_nothing(void **state)
{
    (void)state;
    struct tokenize_result r;
    struct convert_config c = {
        .from = {.dir = "d", .end = -1, .vocab_size = 9}, .out = "out", .to = CONVERT_LLMC};
    uint16_t ids[4] = {1, 2, 3, 4};
    mkdir("d", 0777);
    scratch_write("d/train.bin", ids, sizeof ids);
    ids[3] = 9;
    scratch_write("d/val.bin", ids, sizeof ids);
    c.file_tokens = 3;
    expect(convert_run(&c, &r, &err), STATUS_DATA, "d/val.bin: token id 9");
    assert_int_not_equal(access("out", F_OK), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_there_and_back),
        CASE(test_refused),
        CASE(test_a_failure_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
