/* The copy-memory task. What a sequence holds, how streams hand the sequences out, resuming. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/scratch.h"
#include "data/copy_memory.h"
#include "data/stream.h"

static struct error err;

enum { DELAY = 5, LENGTH = DELAY + 20, COUNT = 23 };

static struct copy_memory_config setting(const char *out, int64_t shard_tokens)
{
    return (struct copy_memory_config){.delay = DELAY,
                                       .out = out,
                                       .sequences = {COUNT, 4, 7},
                                       .shard_tokens = shard_tokens,
                                       .seed = 3};
}

static void make(const char *out, int64_t shard_tokens)
{
    struct copy_memory_config c = setting(out, shard_tokens);
    struct tokenize_result r;
    if (copy_memory_run(&c, &r, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(r.vocab, 10);
    assert_int_equal(r.tokens[SPLIT_TRAIN], COUNT * LENGTH);
    assert_int_equal(r.tokens[SPLIT_TEST], 7 * LENGTH);
}

static struct stream *open_stream(const char *dir, const char *split, int64_t batch, int64_t length,
                                  int64_t buffer_tokens)
{
    struct stream_config c = {.dir = dir,
                              .split = split,
                              .batch = batch,
                              .length = length,
                              .buffer_tokens = buffer_tokens};
    struct stream *s;
    if (stream_open(&s, &c, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return s;
}

static void check_sequence(const int32_t *input, const int32_t *target)
{
    for (int t = 0; t < LENGTH; t++) {
        if (t < 10)
            assert_in_range(input[t], 1, 8);
        else
            assert_int_equal(input[t], t == DELAY + 9 ? 9 : 0);
        assert_int_equal(target[t], t < LENGTH - 10 ? 0 : input[t - (LENGTH - 10)]);
    }
}

/* Every sequence once an epoch, whole, each a fresh start; two epochs; sequences differ. */
static void sequences(void **state)
{
    (void)state;
    make("d", 0);
    for (int64_t batch = 1; batch <= 4; batch++) {
        int32_t first[LENGTH];
        struct stream *s = open_stream("d", "train", batch, LENGTH + 3, 0);
        struct batch b;
        assert_int_equal(stream_segments(s), COUNT / batch);
        assert_int_equal(stream_tokens_per_epoch(s), COUNT / batch * batch * LENGTH);
        assert_int_equal(stream_tokens(s), COUNT * LENGTH);
        assert_int_equal(stream_recall(s), 10);
        for (int64_t k = 0; k < 2 * stream_segments(s); k++) {
            assert_int_equal(stream_next(s, &b, &err), STATUS_OK);
            assert_int_equal(b.B, batch);
            assert_int_equal(b.L, LENGTH);
            assert_true(b.first);
            assert_int_equal(b.epoch, k / stream_segments(s));
            for (int64_t i = 0; i < batch; i++)
                check_sequence(b.input + i * LENGTH, b.target + i * LENGTH);
            if (k == 0)
                memcpy(first, b.input, sizeof first);
            else if (k == stream_segments(s))
                assert_memory_equal(first, b.input, sizeof first);
            else if (k < stream_segments(s))
                assert_memory_not_equal(first, b.input, sizeof first);
        }
        stream_close(s);
    }
}

/* The same whatever the shards and the buffers, and from any segment on. */
static void seek(void **state)
{
    (void)state;
    make("whole", 0);
    make("cut", 7);
    struct stream *a = open_stream("whole", "train", 3, LENGTH, 0);
    struct stream *b = open_stream("cut", "train", 3, LENGTH, 1);
    for (int64_t k = 0; k < stream_segments(a); k++) {
        struct batch x, y;
        assert_int_equal(stream_seek(b, 1, stream_segments(a) - 1 - k, &err), STATUS_OK);
        assert_int_equal(stream_seek(a, 0, stream_segments(a) - 1 - k, &err), STATUS_OK);
        assert_int_equal(stream_next(a, &x, &err), STATUS_OK);
        assert_int_equal(stream_next(b, &y, &err), STATUS_OK);
        assert_memory_equal(x.input, y.input, 3 * LENGTH * sizeof *x.input);
        assert_memory_equal(x.target, y.target, 3 * LENGTH * sizeof *x.target);
    }
    stream_close(a);
    stream_close(b);
}

static void refuse(const char *split, int64_t batch, int64_t length, enum status want,
                   const char *message)
{
    struct stream_config c = {.dir = "r", .split = split, .batch = batch, .length = length};
    struct stream *s = NULL;
    assert_int_equal(stream_open(&s, &c, &err), want);
    assert_null(s);
    if (strstr(err.text, message) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", err.text, message);
}

static void refusals(void **state)
{
    (void)state;
    make("r", 0);
    refuse("train", 1, LENGTH - 1, STATUS_CONFIG, "set train.tgt_len and eval.tgt_len to 25");
    refuse("valid", 5, LENGTH, STATUS_DATA, "has 4 sequences, too few for a batch of 5");
    struct copy_memory_config c = setting("r", 0);
    struct tokenize_result r;
    assert_int_equal(copy_memory_run(&c, &r, &err), STATUS_CANTCREATE);
    c.force = true;
    assert_int_equal(copy_memory_run(&c, &r, &err), STATUS_OK);
}

/* Another seed gives other symbols, and the splits differ from each other. */
static void seeds(void **state)
{
    (void)state;
    struct copy_memory_config c = setting("other", 0);
    struct tokenize_result r;
    struct batch x, y;
    c.seed = 4;
    assert_int_equal(copy_memory_run(&c, &r, &err), STATUS_OK);
    make("base", 0);
    const char *const dir[] = {"other", "base"}, *const split[] = {"train", "test"};
    for (int i = 0; i < 2; i++) {
        struct stream *a = open_stream("base", "train", 1, LENGTH, 0);
        struct stream *b = open_stream(dir[i], split[i], 1, LENGTH, 0);
        assert_int_equal(stream_next(a, &x, &err), STATUS_OK);
        assert_int_equal(stream_next(b, &y, &err), STATUS_OK);
        assert_memory_not_equal(x.input, y.input, 10 * sizeof *x.input);
        stream_close(a);
        stream_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences),
        cmocka_unit_test(seek),
        cmocka_unit_test(refusals),
        cmocka_unit_test(seeds),
    };
    return cmocka_run_group_tests_name("copy memory", tests, scratch_enter, scratch_leave);
}
