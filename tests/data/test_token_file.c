/* Token files of other programs: llm.c, nanoGPT and NumPy, and what is wrong with damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shards.h"

#include "data/stream.h"
#include "data/token_file.h"

static struct error err;

static void expect(enum status got, enum status want, const char *message)
{
    if (got != want || strstr(err.text, message) == NULL)
        fail_msg("status %d, \"%s\"; want %d, \"%s\"", got, err.text, want, message);
}

/* Writes `head` and then `count` tokens from `first` on, each one higher, in `width` bytes. */
static void write_file(const char *path, const void *head, size_t head_size, int64_t first,
                       int64_t count, int width)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(head, 1, head_size, f);
    for (int64_t i = 0; i < count; i++) {
        uint32_t id = (uint32_t)(first + i);
        fwrite(&id, 1, (size_t)width, f); /* little endian */
    }
    fclose(f);
}

static void write_llmc(const char *path, int64_t first, int64_t count, int width)
{
    int32_t head[256] = {width == 2 ? 20240520 : 20240801, width == 2 ? 1 : 7, (int32_t)count};
    write_file(path, head, sizeof head, first, count, width);
}

/* An array as numpy.save writes it, with 118 bytes of description. */
static void write_npy(const char *path, const char *type, const char *shape, int64_t count,
                      int width)
{
    char head[129] = "\x93NUMPY\x01";
    head[8] = 118;
    snprintf(head + 10, 119, "%-117s\n", "");
    char text[118];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                     type, shape);
    memcpy(head + 10, text, (size_t)n);
    write_file(path, head, 128, 0, count, width);
}

static enum status open_one(const char *path, enum token_format format, struct token_file *f)
{
    enum status status = token_file_open(f, path, format, &err);
    struct token_file opened = *f;
    if (status == STATUS_OK)
        token_file_close(&opened);
    return status;
}

static void test_formats_are_told_apart(void **state)
{
    (void)state;
    struct token_file f;
    write_llmc("a", 0, 300, 2);
    assert_int_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    assert_true(f.width == 2 && f.offset == 1024 && f.tokens == 300);
    write_llmc("a", 0, 300, 4);
    assert_int_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    assert_true(f.width == 4 && f.offset == 1024 && f.tokens == 300);
    write_npy("a", "<u2", "(77,)", 77, 2);
    assert_int_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    assert_true(f.width == 2 && f.offset == 128 && f.tokens == 77);
    write_npy("a", "<u4", "(77,)", 77, 4);
    assert_int_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    assert_true(f.width == 4 && f.offset == 128 && f.tokens == 77);
    write_file("a", "", 0, 5, 12, 2);
    assert_int_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    assert_true(f.width == 2 && f.offset == 0 && f.tokens == 12);
    assert_int_equal(open_one("a", TOKENS_U32, &f), STATUS_OK);
    assert_true(f.width == 4 && f.offset == 0 && f.tokens == 6);
    /* One token. */
    write_file("a", "", 0, 5, 1, 2);
    assert_int_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    assert_int_equal(f.tokens, 1);
}

static void test_damaged_files(void **state)
{
    (void)state;
    struct token_file f;
    int32_t head[256] = {20240520, 1, 300};
    write_file("a", head, sizeof head, 0, 299, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "a: 1622 bytes where its header says 1624");
    write_file("a", head, sizeof head, 0, 301, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "something was appended");
    head[1] = 2;
    write_file("a", head, sizeof head, 0, 300, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "of version 2");
    head[1] = 1;
    head[2] = -1;
    write_file("a", head, sizeof head, 0, 300, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "counts -1 tokens");
    head[2] = 0;
    write_file("a", head, sizeof head, 0, 0, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "a: holds no token");
    write_npy("a", "<f4", "(77,)", 77, 4);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "an array of '<f4'");
    write_npy("a", "<u2", "(7, 11)", 77, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "another shape than (n,)");
    write_npy("a", "<u2", "(77,)", 76, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "room for 76 tokens");
    write_file("a", "abc", 3, 0, 0, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "3 bytes, which are no tokens of 2");
    write_file("a", "", 0, 0, 0, 2);
    expect(open_one("a", TOKENS_AUTO, &f), STATUS_DATA, "a: holds no token");
    write_file("a", "", 0, 0, 100, 2);
    expect(open_one("a", TOKENS_LLMC, &f), STATUS_DATA, "does not begin as a token file of llm.c");
    expect(open_one("a", TOKENS_NPY, &f), STATUS_DATA, "does not begin as a token file of NumPy");
    expect(open_one("none", TOKENS_AUTO, &f), STATUS_NOINPUT, "none: cannot open");
    mkdir("b", 0777);
    expect(open_one("b", TOKENS_AUTO, &f), STATUS_NOINPUT, "not a file but a folder");
    /* A beginning of every length, as a copy that broke off leaves it. */
    write_npy("a", "<u2", "(77,)", 77, 2);
    for (int n = 128 + 153; n >= 0; n--) {
        assert_int_equal(truncate("a", n), 0);
        if (n < 6 && n > 0 && n % 2 == 0)
            continue; /* raw tokens, as far as anyone can tell */
        assert_int_not_equal(open_one("a", TOKENS_AUTO, &f), STATUS_OK);
    }
}

/* The sorted names of a split, joined. */
static void expect_split(const char *split, const char *want)
{
    struct token_files files;
    char got[512] = "";
    enum status status = token_files_open(&files, "d", split, TOKENS_AUTO, &err);
    if (want[0] == '\0') {
        expect(status, STATUS_NOINPUT, "d: no token files of the split");
        return;
    }
    expect(status, STATUS_OK, "");
    for (int64_t i = 0; i < files.count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s ", files.list[i].path);
    assert_string_equal(got, want);
    token_files_close(&files);
}

static void test_names_of_a_split(void **state)
{
    (void)state;
    static const char *const names[] = {"d/fineweb_train_000002.bin",
                                        "d/fineweb_train_000001.bin",
                                        "d/fineweb_val_000000.bin",
                                        "d/Test.bin",
                                        "d/training.bin",
                                        "d/train.txt",
                                        "d/trains.bin",
                                        "d/meta.pkl",
                                        "d/x-validation.bin"};
    mkdir("d", 0777);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        write_file(names[i], "", 0, 0, 4, 2);
    expect_split("train", "d/fineweb_train_000001.bin d/fineweb_train_000002.bin ");
    expect_split("valid", "d/fineweb_val_000000.bin d/x-validation.bin ");
    expect_split("test", "d/Test.bin ");
    unlink("d/Test.bin");
    expect_split("test", "");
    /* Shards are not files of another program. */
    write_file("d/test-00000.bin", "", 0, 0, 4, 2);
    expect_split("test", "");
    /* A file that is there and cannot be read is not the same as none. */
    mkdir("d/test.bin", 0777);
    struct token_files files;
    expect(token_files_open(&files, "d", "test", TOKENS_AUTO, &err), STATUS_IO, "d/test.bin");
}

/* Reads a whole epoch of one stream, whose inputs must be 0, 1, ..., count - 2. */
static void expect_stream(const struct stream_config *c, int64_t count)
{
    struct stream *s = NULL;
    struct batch b;
    int64_t at = 0;
    expect(stream_open(&s, c, &err), STATUS_OK, "");
    assert_int_equal(stream_tokens(s), count);
    while (at < count - 1) {
        expect(stream_next(s, &b, &err), STATUS_OK, "");
        for (int64_t i = 0; i < b.L; i++, at++) {
            assert_int_equal(b.input[i], at);
            assert_int_equal(b.target[i], at + 1);
        }
    }
    assert_int_equal(stream_text_bytes(s), 0);
    assert_int_equal(stream_words(s), 0);
    assert_false(stream_is_bytes(s));
    stream_close(s);
}

static struct vocab *make_vocab(int64_t words)
{
    struct vocab *v = NULL;
    char text[8192] = "";
    for (int64_t i = 0; i < words; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "w%lld\n", (long long)i);
    expect(vocab_from_text(&v, text, strlen(text), "v", &err), STATUS_OK, "");
    return v;
}

static void test_streams_of_several_files(void **state)
{
    (void)state;
    struct vocab *v = make_vocab(1000);
    struct stream_config c = {.dir = "d", .split = "train", .batch = 1, .length = 7, .vocab = v};
    mkdir("d", 0777);
    for (int width = 2; width <= 4; width += 2) {
        write_llmc("d/x_train_0.bin", 0, 300, width);
        write_llmc("d/x_train_1.bin", 300, 1, width);
        write_llmc("d/x_train_2.bin", 301, 699, width);
        expect_stream(&c, 1000);
    }
    /* Another width in the middle. */
    struct stream *s = NULL;
    write_llmc("d/x_train_1.bin", 300, 1, 2);
    expect(stream_open(&s, &c, &err), STATUS_DATA,
           "d/x_train_1.bin: tokens of 2 bytes, and d/x_train_0.bin has 4");
    vocab_free(v);
}

static void test_vocabularies(void **state)
{
    (void)state;
    struct vocab *v = make_vocab(300), *small = make_vocab(299);
    struct stream *s = NULL;
    struct stream_config c = {.dir = "d", .split = "train", .batch = 1, .length = 7};
    mkdir("d", 0777);
    write_file("d/train.bin", "", 0, 0, 300, 2);
    expect(stream_open(&s, &c, &err), STATUS_CONFIG, "set model.vocab_size");
    c.vocab = small;
    expect(stream_open(&s, &c, &err), STATUS_DATA,
           "d/train.bin: token id 299 in a vocabulary of 299, at token 299");
    c.vocab = v;
    expect_stream(&c, 300);
    /* The same numbers as 4 bytes: every second one is 0 in 2 bytes. */
    write_file("d/train.bin", "", 0, 0, 300, 4);
    c.format = TOKENS_U32;
    expect_stream(&c, 300);
    /* A vocabulary beside the files. */
    size_t size;
    const char *text = vocab_text(v, &size);
    write_file("d/vocab.txt", text, size, 0, 0, 2);
    c.vocab = NULL;
    expect_stream(&c, 300);
    vocab_free(small);
    vocab_free(v);
}

static void test_another_text_has_another_digest(void **state)
{
    (void)state;
    struct vocab *v = make_vocab(301);
    struct stream *s = NULL;
    struct stream_config c = {.dir = "d", .split = "train", .batch = 1, .length = 7, .vocab = v};
    uint64_t digest[3];
    mkdir("d", 0777);
    for (int i = 0; i < 3; i++) {
        write_llmc("d/train.bin", i == 1, 300, 2);
        expect(stream_open(&s, &c, &err), STATUS_OK, "");
        digest[i] = stream_digest(s);
        stream_close(s);
    }
    assert_true(digest[0] == digest[2] && digest[0] != digest[1]);
    vocab_free(v);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_formats_are_told_apart), CASE(test_damaged_files),
        CASE(test_names_of_a_split),       CASE(test_streams_of_several_files),
        CASE(test_vocabularies),           CASE(test_another_text_has_another_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
