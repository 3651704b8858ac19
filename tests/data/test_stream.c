/* Streams. Which token is where, each target once, resuming, memory, refusal of bad folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/stream.h"

#include "shards.h"

static struct error err;

static struct stream *open_stream(int64_t batch, int64_t length, int64_t buffer_tokens)
{
    struct stream_config c = {.dir = "d",
                              .split = "train",
                              .batch = batch,
                              .length = length,
                              .buffer_tokens = buffer_tokens};
    struct stream *s = NULL;
    if (stream_open(&s, &c, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return s;
}

static void refuse(int64_t batch, int64_t length, enum status want, const char *message)
{
    struct stream_config c = {.dir = "d", .split = "train", .batch = batch, .length = length};
    struct stream *s = NULL;
    enum status status = stream_open(&s, &c, &err);
    assert_null(s);
    if (status != want || strstr(err.text, message) == NULL)
        fail_msg("status %d, \"%s\"; want %d, \"%s\"", status, err.text, want, message);
}

/* Checks a batch against the definition. */
static void check_batch(const struct batch *x, int64_t tokens, int64_t B, int64_t L, int64_t V,
                        int64_t number)
{
    int64_t segments = (tokens / B - 2 + L) / L, epoch = number / segments;
    int64_t segment = number % segments;
    int64_t n_step = tokens / B, i = segment * L;
    int64_t length = n_step - 1 - i < L ? n_step - 1 - i : L;
    assert_int_equal(x->B, B);
    assert_int_equal(x->L, length);
    assert_int_equal(x->epoch, epoch);
    assert_int_equal(x->segment, segment);
    assert_int_equal(x->first, segment == 0);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t t = 0; t < length; t++) {
            assert_int_equal(x->input[b * length + t], shards_id(b * n_step + i + t, V));
            assert_int_equal(x->target[b * length + t], shards_id(b * n_step + i + t + 1, V));
        }
    }
}

/* All shapes of a small split, in each of which every target occurs once an epoch. */
static void test_every_target_once(void **state)
{
    (void)state;
    enum { N = 97 };
    static const int64_t buffers[] = {1, 40, 100, 0};
    shards_make("d", N, 13, 50);
    for (int64_t B = 1; B <= N / 2; B += B < 9 ? 1 : 13) {
        for (int64_t L = 1; L <= 110; L += L < 12 ? 1 : 31) {
            struct stream *s = open_stream(B, L, buffers[(B + L) % 4]);
            struct batch x;
            int64_t n_step = N / B, targets = 0;
            assert_int_equal(stream_segments(s), (n_step - 1 + L - 1) / L);
            assert_int_equal(stream_tokens_per_epoch(s), B * (n_step - 1));
            assert_int_equal(stream_tokens(s), N);
            for (int64_t k = 0; k < 2 * stream_segments(s); k++) {
                assert_int_equal(stream_next(s, &x, &err), STATUS_OK);
                check_batch(&x, N, B, L, 50, k);
                targets += x.B * x.L;
            }
            assert_int_equal(targets, 2 * B * (n_step - 1));
            assert_int_equal(stream_next(s, &x, &err), STATUS_OK);
            assert_int_equal(x.epoch, 2);
            assert_true(x.first);
            stream_close(s);
        }
    }
}

static void test_totals(void **state)
{
    (void)state;
    shards_make("d", 100, 30, 70000);
    struct stream *s = open_stream(3, 4, 0);
    assert_true(stream_vocab_hash(s) == shards_vocab("e", 70000));
    assert_int_equal(stream_text_bytes(s), 500);
    assert_int_equal(stream_words(s), 90);
    stream_close(s);
    stream_close(NULL);
}

/* From any position, also while the thread is reading ahead, the same batches follow. */
static void test_seek(void **state)
{
    (void)state;
    enum { N = 5000, B = 4, L = 7 };
    shards_make("d", N, 333, 300);
    struct stream *s = open_stream(B, L, 500);
    struct batch x;
    int64_t segments = stream_segments(s);
    for (int64_t k = 0; k < 400; k++) {
        int64_t epoch = k % 3, segment = k * 101 % segments;
        assert_int_equal(stream_seek(s, epoch, segment, &err), STATUS_OK);
        for (int64_t n = 0; n < k % 40; n++) {
            assert_int_equal(stream_next(s, &x, &err), STATUS_OK);
            int64_t at = segment + n;
            check_batch(&x, N, B, L, 300, epoch * segments + at);
        }
    }
    assert_int_equal(stream_seek(s, 0, segments, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "segments here"));
    assert_int_equal(stream_seek(s, 0, -1, &err), STATUS_DATA);
    assert_int_equal(stream_seek(s, -1, 0, &err), STATUS_DATA);
    stream_close(s);
    /* Closing while the thread is busy. */
    for (int k = 0; k < 50; k++)
        stream_close(open_stream(B, L, 0));
}

static int64_t resident_bytes(void)
{
    long long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lld %lld", &size, &resident) != 2)
        fail_msg("cannot read /proc/self/statm");
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

/* A split far larger than the bound is read within the bound. */
static void test_memory_bound(void **state)
{
    (void)state;
    enum { N = 24000000, V = 70000 }; /* 96 MB in shards of 32 MB */
    shards_make("d", N, N / 3, V);
    int64_t before = resident_bytes();
    struct stream *s = open_stream(16, 64, 0);
    size_t bound = 4u * STREAM_BUFFER_TOKENS + 8u * 16 * 64 + (256u << 10) + 3 * 128 + 4096;
    assert_true(stream_memory(s) <= bound);
    struct batch x;
    for (int64_t k = 0; k < stream_segments(s); k++) {
        assert_int_equal(stream_next(s, &x, &err), STATUS_OK);
        if (k % 997 == 0)
            check_batch(&x, N, 16, 64, V, k);
    }
    int64_t grown = resident_bytes() - before;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* 8 MB for the vocabulary's freed memory, stacks and the C library. */
    if (grown > (int64_t)bound + (8 << 20))
        fail_msg("grew by %lld bytes; bound %zu", (long long)grown, bound);
#else
    (void)grown;
#endif
    stream_close(s);
    /* A small buffer is raised to two segments, not more. */
    s = open_stream(16, 64, 1);
    assert_true(stream_memory(s) <=
                4u * 2 * 16 * 65 + 8u * 16 * 64 + (256u << 10) + 3 * 128 + 4096);
    stream_close(s);
}

static void test_too_short(void **state)
{
    (void)state;
    shards_make("d", 25, 10, 50);
    refuse(13, 5, STATUS_DATA, "25 tokens, too few for a batch of 13: at most 12");
    refuse(0, 5, STATUS_CONFIG, "batch 0");
    refuse(1, 0, STATUS_CONFIG, "length 0");
    struct stream *s = open_stream(12, 5, 0);
    assert_int_equal(stream_segments(s), 1);
    stream_close(s);
    shards_make("d", 1, 10, 50);
    refuse(1, 5, STATUS_DATA, "has 1 tokens: at least 2");
    shards_make("d", 0, 10, 50);
    refuse(1, 5, STATUS_DATA, "has 0 tokens");
}

static void test_bad_folders(void **state)
{
    (void)state;
    refuse(2, 5, STATUS_NOINPUT, "d/train-00000.bin");
    shards_make("d", 100, 30, 50);
    unlink("d/vocab.txt");
    refuse(2, 5, STATUS_NOINPUT, "d/vocab.txt: missing: run deq tokenize");
    scratch_write("d/vocab.txt", "a\nb\n", 4);
    refuse(2, 5, STATUS_DATA, "of 50 words) than vocab.txt beside it (2 words)");
    scratch_write("d/vocab.txt", "a\na\n", 4);
    refuse(2, 5, STATUS_DATA, "d/vocab.txt:2: ");
    shards_make("d", 100, 30, 50);
    size_t n;
    char *b = scratch_read("d/train-00002.bin", &n);
    b[n - 1] ^= 4;
    scratch_write("d/train-00002.bin", b, n);
    free(b);
    refuse(2, 5, STATUS_DATA, "d/train-00002.bin: damaged (wrong checksum");
    unlink("d/train-00003.bin");
    refuse(2, 5, STATUS_NOINPUT, "d/train-00003.bin: missing");
}

/* Damage after opening gives an error at that place and again on the next call, but none after a
 * seek to sound segments. */
static void test_damage_while_reading(void **state)
{
    (void)state;
    enum { N = 100000 };
    shards_make("d", N, N / 2, 50);
    struct stream *s = open_stream(1, 10, 100);
    struct batch x;
    FILE *f = fopen("d/train-00001.bin", "r+b");
    assert_non_null(f);
    fseek(f, 128 + 2 * (N / 4), SEEK_SET);
    fputs("\xff\xff", f);
    fclose(f);
    enum status status = STATUS_OK;
    int64_t k = 0;
    while (status == STATUS_OK && k < 2 * stream_segments(s)) {
        status = stream_next(s, &x, &err);
        k += status == STATUS_OK;
    }
    assert_int_equal(status, STATUS_DATA);
    assert_non_null(strstr(err.text, "d/train-00001.bin: token id 65535"));
    assert_in_range(k, 3 * N / 40 - 10, 3 * N / 40);
    assert_int_equal(stream_next(s, &x, &err), STATUS_DATA);
    assert_int_equal(stream_seek(s, 0, 5, &err), STATUS_OK);
    assert_int_equal(stream_next(s, &x, &err), STATUS_OK);
    check_batch(&x, N, 1, 10, 50, 5);
    assert_int_equal(stream_seek(s, 0, N / 20, &err), STATUS_OK);
    assert_int_equal(truncate("d/train-00001.bin", 128 + N / 4), 0);
    status = STATUS_OK;
    for (k = 0; status == STATUS_OK && k < stream_segments(s); k++)
        status = stream_next(s, &x, &err);
    assert_int_equal(status, STATUS_DATA);
    assert_non_null(strstr(err.text, "cut short"));
    stream_close(s);
}

/* The slices of all ranks are together the batch, and each holds its streams in their order. */
static void check_partition(int64_t batch, const struct stream_partition *p, int64_t *seen)
{
    enum { N = 500, L = 5, V = 50 };
    struct stream_config c = {
        .dir = "d", .split = "train", .batch = batch, .length = L, .partition = *p};
    struct stream *s;
    struct batch x;
    enum status status = stream_open(&s, &c, &err);
    if (batch % (p->groups * p->ranks) != 0) {
        assert_int_equal(status, STATUS_CONFIG);
        return;
    }
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(stream_tokens_per_epoch(s), batch * (N / batch - 1));
    assert_int_equal(stream_next(s, &x, &err), STATUS_OK);
    assert_int_equal(x.B, batch / p->ranks);
    int64_t group = batch / p->groups, slice = group / p->ranks;
    for (int64_t b = 0; b < x.B; b++) {
        int64_t whole = b / slice * group + p->rank * slice + b % slice;
        *seen += 1;
        for (int64_t t = 0; t < L; t++)
            assert_int_equal(x.input[b * L + t], shards_id(whole * (N / batch) + t, V));
    }
    stream_close(s);
}

static void test_partitions(void **state)
{
    (void)state;
    shards_make("d", 500, 500, 50);
    for (int64_t groups = 1; groups <= 3; groups++)
        for (int64_t ranks = 1; ranks <= 5; ranks++) {
            int64_t seen = 0;
            for (int64_t rank = 0; rank < ranks; rank++)
                check_partition(12, &(struct stream_partition){groups, ranks, rank}, &seen);
            assert_int_equal(seen, 12 % (groups * ranks) == 0 ? 12 : 0);
        }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_every_target_once),
        CASE(test_partitions),
        CASE(test_totals),
        CASE(test_seek),
        CASE(test_memory_bound),
        CASE(test_too_short),
        CASE(test_bad_folders),
        CASE(test_damage_while_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
