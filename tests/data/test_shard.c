/* The format of shards, writing, reading across shards, refusal of everything damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shards.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static struct error err;

static void expect(enum status got, enum status want, const char *message)
{
    if (got != want || strstr(err.text, message) == NULL)
        fail_msg("status %d, \"%s\"; want %d, \"%s\"", got, err.text, want, message);
}

/* Opens and verifies the train split of folder d. */
static enum status check(void)
{
    struct shard_set *s = NULL;
    uint32_t words[64];
    const struct shard_buffer buffer = {words, sizeof words};
    int64_t found;
    enum status status =
        shard_set_open(&s, &(struct shard_source){.dir = "d", .split = "train"}, &err);
    if (status == STATUS_OK)
        status = shard_set_verify(s, &buffer, -1, &found, &err);
    shard_set_close(s);
    return status;
}

static void test_layout(void **state)
{
    (void)state;
    struct shard_header h = {.width = 4,
                             .bytes = false,
                             .index = 1,
                             .count = 3,
                             .tokens = 0x1122,
                             .first = 0x3344,
                             .split_tokens = 0x11223344,
                             .vocab_size = 70000,
                             .vocab_hash = 0x0123456789abcdefu,
                             .text_bytes = 99,
                             .words = 88,
                             .payload_hash = 77};
    unsigned char b[SHARD_HEADER_BYTES];
    struct shard_header back;
    shard_header_encode(&h, b);
    static const unsigned char start[] = {'D', 'E', 'Q', 'S', 'H', 'A', 'R', 'D', 1,    0,   0, 0,
                                          128, 0,   0,   0,   4,   0,   0,   0,   0,    0,   0, 0,
                                          1,   0,   0,   0,   3,   0,   0,   0,   0x22, 0x11};
    assert_memory_equal(b, start, sizeof start);
    assert_int_equal(b[64], 0xef);
    assert_int_equal(b[80], 88);
    assert_int_equal(shard_header_decode(&back, b, "x", &err), STATUS_OK);
    assert_memory_equal(&h.vocab_hash, &back.vocab_hash, 8);
    assert_int_equal(back.split_tokens, h.split_tokens);
    assert_int_equal(back.first, h.first);
    assert_int_equal(back.words, 88);
    assert_int_equal(back.payload_hash, 77);
    /* No single flipped bit goes unseen. */
    for (int bit = 0; bit < 8 * SHARD_HEADER_BYTES; bit++) {
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_equal(shard_header_decode(&back, b, "x", &err), STATUS_DATA);
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_int_equal(shard_width(65536), 2);
    assert_int_equal(shard_width(65537), 4);
}

static void test_names(void **state)
{
    (void)state;
    char name[SHARD_NAME_MAX];
    shard_name(name, "valid", 12);
    assert_string_equal(name, "valid-00012.bin");
    assert_true(shard_owns_name("valid-00012.bin"));
    assert_true(shard_owns_name("vocab.txt"));
    assert_true(shard_owns_name("test-00000.bin.tmp-12-0"));
    assert_true(shard_owns_name("vocab.txt.tmp-1-0"));
    static const char *const foreign[] = {
        "vocab.txt~", "train-0001.bin",     "train-000001.bin",  "x",
        "train.txt",  "train-00001.bin.gz", "retrain-00001.bin", ""};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        assert_false(shard_owns_name(foreign[i]));
}

/* Every range of a split over several shards, both widths, with a buffer that does not fit. */
static void test_read(void **state)
{
    (void)state;
    for (int64_t V = 50; V <= 70000; V += 69950) {
        shards_make("d", 103, 10, V);
        struct shard_set *s = NULL;
        uint32_t words[3];
        const struct shard_buffer buffer = {words, sizeof words};
        int64_t found;
        int32_t got[103];
        assert_int_equal(
            shard_set_open(&s, &(struct shard_source){.dir = "d", .split = "train"}, &err),
            STATUS_OK);
        const struct shard_header *h = shard_set_header(s);
        assert_int_equal(h->count, 11);
        assert_int_equal(h->split_tokens, 103);
        assert_int_equal(h->text_bytes, 515);
        assert_int_equal(h->words, 93);
        assert_int_equal(shard_set_verify(s, &buffer, -1, &found, &err), STATUS_OK);
        assert_int_equal(found, 0);
        int64_t id = shards_id(70, V), want = 0;
        for (int64_t a = 0; a < 103; a++)
            want += shards_id(a, V) == id;
        assert_int_equal(shard_set_verify(s, &buffer, id, &found, &err), STATUS_OK);
        assert_int_equal(found, want);
        for (int64_t a = 0; a <= 103; a++) {
            for (int64_t n = 0; a + n <= 103; n++) {
                memset(got, -1, sizeof got);
                assert_int_equal(shard_set_read(s, a, n, got, &buffer, &err), 0);
                for (int64_t i = 0; i < n; i++)
                    assert_int_equal(got[i], shards_id(a + i, V));
            }
        }
        shard_set_close(s);
    }
}

static void test_writer_leaves_nothing(void **state)
{
    (void)state;
    struct shard_writer *w = NULL;
    uint16_t ids[100] = {0};
    mkdir("d", 0777);
    struct shard_writer_config c = {
        .dir = "d", .split = "test", .shard_tokens = 7, .vocab_size = 5, .vocab_hash = 1};
    assert_int_equal(shard_writer_open(&w, &c, &err), STATUS_OK);
    assert_int_equal(shard_writer_append(w, ids, 100, &err), STATUS_OK);
    assert_int_equal(shard_writer_shards(w), 15);
    assert_int_equal(shard_writer_tokens(w), 100);
    assert_int_equal(shard_writer_finish(w, 1, 1, &err), STATUS_OK);
    assert_int_equal(scratch_entries("d"), 15);
    shard_writer_close(w);
    assert_int_equal(scratch_entries("d"), 0);
    c.dir = "none";
    assert_int_equal(shard_writer_open(&w, &c, &err), STATUS_OK);
    expect(shard_writer_append(w, ids, 1, &err), STATUS_CANTCREATE, "none/test-00000.bin");
    shard_writer_close(w);
}

/* Puts one byte at `offset` of a shard. With `seal` the header's checksum is made right again. */
static void poke(const char *path, size_t offset, unsigned char value, bool seal)
{
    size_t n;
    char *b = scratch_read(path, &n);
    b[offset] = (char)value;
    if (seal) {
        uint64_t hash = XXH3_64bits(b, 120);
        memcpy(b + 120, &hash, 8);
    }
    scratch_write(path, b, n);
    free(b);
}

static void test_damaged(void **state)
{
    (void)state;
    static const char *const a = "d/train-00000.bin", *const b = "d/train-00001.bin";
    expect(check(), STATUS_NOINPUT, "d/train-00000.bin: No such file or directory; make it with");
    shards_make("d", 25, 10, 50);
    assert_int_equal(check(), STATUS_OK);
    poke(b, 128 + 7, 49, false);
    expect(check(), STATUS_DATA, "train-00001.bin: damaged (wrong checksum of the ids)");
    shards_make("d", 25, 10, 50);
    poke(a, 40, 1, false);
    expect(check(), STATUS_DATA, "train-00000.bin: damaged header");
    shards_make("d", 25, 10, 50);
    poke(a, 8, 2, true);
    expect(check(), STATUS_DATA, "train-00000.bin: shard of version 2, this program reads");
    shards_make("d", 25, 10, 50);
    poke(a, 0, 'X', true);
    expect(check(), STATUS_DATA, "train-00000.bin: not a shard");
    shards_make("d", 25, 10, 50);
    poke(a, 16, 3, true);
    expect(check(), STATUS_DATA, "train-00000.bin: header with impossible numbers");
    shards_make("d", 25, 10, 50);
    assert_int_equal(truncate(b, 128 + 19), 0);
    expect(check(), STATUS_DATA, "train-00001.bin: 147 bytes where its header says 148: cut short");
    assert_int_equal(truncate(b, 128 + 22), 0);
    expect(check(), STATUS_DATA, "something was appended");
    assert_int_equal(truncate(b, 20), 0);
    expect(check(), STATUS_DATA, "too short to be a shard");
    unlink(b);
    expect(check(), STATUS_NOINPUT, "train-00001.bin: missing: the split has 3 shards");
    mkdir(b, 0777);
    expect(check(), STATUS_DATA, "train-00001.bin: not a plain file");
}

static void test_mixed(void **state)
{
    (void)state;
    shards_make("d", 25, 10, 50);
    shards_make("e", 25, 10, 51);
    rename("e/train-00001.bin", "d/train-00001.bin");
    expect(check(), STATUS_DATA, "train-00001.bin: made with another vocabulary than shard 0");
    shards_make("d", 25, 10, 50);
    rename("d/train-00001.bin", "d/train-00002.bin");
    const struct shard_writer_config other = {
        .dir = "d", .split = "valid", .shard_tokens = 10, .vocab_size = 50};
    shards_split(&other, 25, 50);
    shards_make("e", 26, 10, 50);
    rename("e/train-00001.bin", "d/train-00001.bin");
    expect(check(), STATUS_DATA, "train-00001.bin: not part 1 of this split");
    shards_make("d", 25, 10, 50);
    rename("d/train-00001.bin", "d/train-00000.bin");
    expect(check(), STATUS_DATA, "train-00000.bin: not part 0 of this split");
}

static void test_ids_out_of_range(void **state)
{
    (void)state;
    struct shard_writer_config c = {.dir = "d",
                                    .split = "train",
                                    .shard_tokens = 10,
                                    .vocab_size = 50,
                                    .vocab_hash = shards_vocab("d", 50)};
    struct shard_set *s = NULL;
    int32_t got[25];
    uint32_t words[64];
    const struct shard_buffer buffer = {words, sizeof words};
    shards_split(&c, 25, 51 + 1000);
    expect(check(), STATUS_DATA, "in a vocabulary of 50, at token 1: damaged");
    assert_int_equal(shard_set_open(&s, &(struct shard_source){.dir = "d", .split = "train"}, &err),
                     STATUS_OK);
    expect(shard_set_read(s, 0, 25, got, &buffer, &err), STATUS_DATA, "token id");
    shard_set_close(s);
    c.vocab_size = 70000;
    c.vocab_hash = shards_vocab("d", 70000);
    shards_split(&c, 25, INT64_C(0xffffffff));
    expect(check(), STATUS_DATA, "in a vocabulary of 70000, at token ");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_layout),
        CASE(test_names),
        CASE(test_read),
        CASE(test_writer_leaves_nothing),
        CASE(test_damaged),
        CASE(test_mixed),
        CASE(test_ids_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
