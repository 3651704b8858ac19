/* Tokenisation. The rules of words and lines are compared with a plain implementation for many
 * sizes of blocks and numbers of threads. The choice of the vocabulary, refusals and what is left
 * in the folder are tested too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "data/stream.h"
#include "data/text_decode.h"
#include "data/tokenize.h"

#include "shards.h"

static struct error err;
static struct tokenize_result result;

/* The text of one file. */
#define ONE(path) ((struct text_files){(const char *const[]){path}, 1})

static struct tokenize_config config(void)
{
    static const char *const train[] = {"train.txt"};
    return (struct tokenize_config){
        .text = {{train, 1}}, .split = TOKENIZE_SPLIT_BLANKS, .out = "d", .force = true};
}

static void expect(enum status got, enum status want, const char *message)
{
    if (got != want || (want != STATUS_OK && strstr(err.text, message) == NULL))
        fail_msg("status %d, \"%s\"; want %d, \"%s\"", got, err.text, want, message);
}

static void run(const struct tokenize_config *c, const char *train)
{
    scratch_write("train.txt", train, strlen(train));
    expect(tokenize_run(c, &result, &err), STATUS_OK, "");
}

static void refuse(const struct tokenize_config *c, const char *train, enum status want,
                   const char *message)
{
    scratch_write("train.txt", train, strlen(train));
    expect(tokenize_run(c, &result, &err), want, message);
    assert_true(scratch_entries("d") <= 0);
}

/* The folder's vocabulary and the tokens of a split, as text: words joined by blanks. */
static char *decoded(const char *split)
{
    struct vocab *v = NULL;
    struct shard_set *s = NULL;
    static char text[1 << 20];
    uint32_t words[64];
    const struct shard_buffer buffer = {words, sizeof words};
    int64_t found;
    char *to = text;
    assert_int_equal(vocab_load(&v, "d/vocab.txt", &err), STATUS_OK);
    expect(shard_set_open(&s, &(struct shard_source){.dir = "d", .split = split}, &err), STATUS_OK,
           "");
    assert_int_equal(shard_set_verify(s, &buffer, -1, &found, &err), STATUS_OK);
    assert_true(shard_set_header(s)->vocab_hash == vocab_hash(v));
    for (int64_t i = 0; i < shard_set_header(s)->split_tokens; i++) {
        int32_t id;
        size_t n;
        assert_int_equal(shard_set_read(s, i, 1, &id, &buffer, &err), STATUS_OK);
        const char *w = vocab_word(v, id, &n);
        if (i > 0)
            *to++ = ' ';
        memcpy(to, w, n);
        to += n;
    }
    *to = '\0';
    shard_set_close(s);
    vocab_free(v);
    return text;
}

static void assert_vocab(const char *want)
{
    size_t n;
    char *got = scratch_read("d/vocab.txt", &n);
    assert_string_equal(got, want);
    free(got);
}

static void test_lines(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    run(&c, "b a\n\n  a \tc\vd\fe\r\n");
    assert_string_equal(decoded("train"), "b a <eos> <eos> a c d e <eos>");
    assert_vocab("<eos>\na\nb\nc\nd\ne\n");
    run(&c, "b a");
    assert_string_equal(decoded("train"), "b a <eos>");
    run(&c, "b a ");
    assert_string_equal(decoded("train"), "b a <eos>");
    run(&c, "b a\n ");
    assert_string_equal(decoded("train"), "b a <eos> <eos>");
    run(&c, "b <eos> a <eos> <eos>\n");
    assert_string_equal(decoded("train"), "b <eos> a <eos> <eos> <eos>");
    assert_vocab("<eos>\nb\na\n");
    c.block_bytes = 4; /* the text ends with a full block that ends with a blank */
    run(&c, "b a b a ");
    assert_string_equal(decoded("train"), "b a b a <eos>");
    c.block_bytes = 0;
    run(&c, "no\xc2\xa0"
            "break \x1c\x01\n");
    assert_string_equal(decoded("train"), "no\xc2\xa0"
                                          "break \x1c\x01 <eos>");
}

static void test_totals(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    c.text[SPLIT_VALID] = ONE("valid.txt");
    c.shard_tokens = 3;
    scratch_write("valid.txt", "a b\n\na", 6);
    run(&c, "a b <eos> c\n");
    assert_int_equal(result.vocab, 4);
    assert_int_equal(result.tokens[SPLIT_TRAIN], 5);
    assert_int_equal(result.tokens[SPLIT_VALID], 6);
    assert_int_equal(result.tokens[SPLIT_TEST], 0);
    assert_int_equal(result.bytes, 18);
    assert_int_equal(result.shards, 4);
    assert_int_equal(scratch_entries("d"), 5);
    struct stream_config sc = {.dir = "d", .split = "train", .batch = 1, .length = 2};
    struct stream *s = NULL;
    assert_int_equal(stream_open(&s, &sc, &err), STATUS_OK);
    assert_int_equal(stream_words(s), 3); /* a word <eos> is not counted either */
    stream_close(s);
    sc.split = "valid";
    assert_int_equal(stream_open(&s, &sc, &err), STATUS_OK);
    assert_int_equal(stream_text_bytes(s), 6);
    assert_int_equal(stream_words(s), 3);
    assert_int_equal(stream_tokens(s), 6);
    stream_close(s);
}

static void test_choice(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    static const char text[] = "x y y z z w w w v\n";
    run(&c, text);
    assert_vocab("<eos>\nw\ny\nz\nx\nv\n");
    c.min_count = 2;
    run(&c, text);
    assert_vocab("<eos>\nw\n<unk>\ny\nz\n"); /* <unk>: 2, from place 0 */
    assert_string_equal(decoded("train"), "<unk> y y z z w w w <unk> <eos>");
    assert_int_equal(result.unknown[SPLIT_TRAIN], 2);
    c.min_count = 3;
    run(&c, text);
    assert_vocab("<eos>\n<unk>\nw\n");
    c.min_count = 1;
    run(&c, text);
    assert_vocab("<eos>\nw\ny\nz\nx\nv\n");
    c.max_vocab = 6;
    run(&c, text);
    assert_vocab("<eos>\nw\ny\nz\nx\nv\n");
    c.max_vocab = 5;
    run(&c, text);
    assert_vocab("<eos>\nw\n<unk>\ny\nz\n");
    c.max_vocab = 4;
    run(&c, text);
    assert_vocab("<eos>\n<unk>\nw\ny\n");
    c.max_vocab = 2;
    run(&c, text);
    assert_vocab("<eos>\n<unk>\n");
    c = config();
    c.min_count = 2;
    run(&c, "a <unk> b a <unk> <unk> a a\n"); /* <unk> is a word of the text: 3 + 1 */
    assert_vocab("<eos>\na\n<unk>\n");
    c.lower = true;
    run(&c, "A a \xc3\x89\n\xc3\x89 Z\xc3\xa9 z\xc3\xa9 @[`{\n@[`{");
    assert_vocab("# split: blanks, lower\n<eos>\na\n\xc3\x89\nz\xc3\xa9\n@[`{\n");
}

static void test_unknown(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    scratch_write("valid.txt", "a\na new\n", 8);
    c.text[SPLIT_VALID] = ONE("valid.txt");
    refuse(&c, "a a b\n", STATUS_DATA, "valid.txt:2: \"new\" is not in the vocabulary; --unk map");
    c.unk = TOKENIZE_UNK_ERROR;
    refuse(&c, "a a <unk>\n", STATUS_DATA, "valid.txt:2: \"new\" is not in the vocabulary; --unk");
    c.unk = TOKENIZE_UNK_AUTO;
    run(&c, "a a <unk>\n");
    assert_string_equal(decoded("valid"), "a <eos> a <unk> <eos>");
    assert_int_equal(result.unknown[SPLIT_VALID], 1);
    /* A given vocabulary, in its own order, for the training text too. */
    scratch_write("v.txt", "x\n<unk>\n<eos>\na\n", 16);
    c.vocab = "v.txt";
    run(&c, "a q x\n");
    assert_string_equal(decoded("train"), "a <unk> x <eos>");
    assert_vocab("x\n<unk>\n<eos>\na\n");
    /* One without <unk> cannot be given one: it is a model's. */
    scratch_write("v.txt", "x\n<eos>\na\n", 10);
    c.unk = TOKENIZE_UNK_MAP;
    scratch_write("train.txt", "a x\n", 4);
    expect(tokenize_run(&c, &result, &err), STATUS_DATA,
           "\"new\" is not in the vocabulary v.txt, which has no <unk>");
    c.vocab = NULL; /* A counted one is given <unk>, last of the words. */
    run(&c, "a a b\n");
    assert_vocab("<eos>\na\nb\n<unk>\n");
    assert_int_equal(result.unknown[SPLIT_TRAIN], 0);
    assert_int_equal(result.unknown[SPLIT_VALID], 1);
    c.max_vocab = 3;
    run(&c, "a a b\n");
    assert_vocab("<eos>\na\n<unk>\n");
    c.max_vocab = 0;
    c.vocab = "v.txt";
    c.unk = TOKENIZE_UNK_AUTO;
    scratch_write("v.txt", "x\na\n", 4);
    expect(tokenize_run(&c, &result, &err), STATUS_DATA, "v.txt: no <eos> in the vocabulary");
    c.bytes = true;
    expect(tokenize_run(&c, &result, &err), STATUS_DATA, "v.txt: a vocabulary of words");
}

static void test_bytes(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    unsigned char all[600];
    for (int i = 0; i < 600; i++)
        all[i] = (unsigned char)(i * 7);
    c.bytes = true;
    c.block_bytes = 64;
    c.threads = 3;
    c.shard_tokens = 100;
    scratch_write("train.txt", all, sizeof all);
    expect(tokenize_run(&c, &result, &err), STATUS_OK, "");
    assert_int_equal(result.vocab, 256);
    assert_int_equal(result.tokens[SPLIT_TRAIN], 600);
    assert_int_equal(result.shards, 6);
    struct shard_set *s = NULL;
    int32_t ids[600];
    uint32_t words[64];
    const struct shard_buffer buffer = {words, sizeof words};
    expect(shard_set_open(&s, &(struct shard_source){.dir = "d", .split = "train"}, &err),
           STATUS_OK, "");
    assert_true(shard_set_header(s)->bytes);
    assert_int_equal(shard_set_read(s, 0, 600, ids, &buffer, &err), STATUS_OK);
    for (int i = 0; i < 600; i++)
        assert_int_equal(ids[i], all[i]);
    shard_set_close(s);
    /* Its vocabulary is a valid one to give. */
    rename("d/vocab.txt", "v.txt");
    c.vocab = "v.txt";
    expect(tokenize_run(&c, &result, &err), STATUS_OK, "");
    c.bytes = false;
    expect(tokenize_run(&c, &result, &err), STATUS_DATA,
           "v.txt: a vocabulary of bytes: use it with");
}

/* Words are what white space separates, wherever blocks cut them. */
static void test_words_of_bytes(void **state)
{
    (void)state;
    static const char text[] = "\n one two\tthree  x\n\nfour";
    struct tokenize_config c = config();
    struct stream_config sc = {.dir = "d", .split = "train", .batch = 1, .length = 2};
    struct stream *s = NULL;
    c.bytes = true;
    for (size_t block = 1; block <= sizeof text; block++) {
        c.block_bytes = block;
        c.threads = (int)(block % 3) + 1;
        run(&c, text);
        assert_int_equal(stream_open(&s, &sc, &err), STATUS_OK);
        assert_int_equal(stream_words(s), 5);
        stream_close(s);
    }
    run(&c, "\n \n ");
    assert_int_equal(stream_open(&s, &sc, &err), STATUS_OK);
    assert_int_equal(stream_words(s), 0);
    stream_close(s);
}

/* Older programs gave the number of bytes for that of words. */
static void test_uncounted_words(void **state)
{
    (void)state;
    static const uint16_t ids[] = {'o', 'l', 'd', ' ', 'o', 'n', 'e'};
    enum { N = sizeof ids / sizeof *ids };
    struct tokenize_config c = config();
    struct stream_config sc = {.dir = "d", .split = "train", .batch = 1, .length = 2};
    struct shard_writer *w = NULL;
    struct stream *s = NULL;
    c.bytes = true;
    run(&c, "text");
    assert_int_equal(stream_open(&s, &sc, &err), STATUS_OK);
    const struct shard_writer_config bytes = {.dir = "d",
                                              .split = "train",
                                              .shard_tokens = N,
                                              .vocab_size = 256,
                                              .vocab_hash = stream_vocab_hash(s),
                                              .bytes = true};
    stream_close(s);
    assert_int_equal(shard_writer_open(&w, &bytes, &err), STATUS_OK);
    assert_int_equal(shard_writer_append(w, ids, N, &err), STATUS_OK);
    assert_int_equal(shard_writer_finish(w, N, N, &err), STATUS_OK);
    assert_int_equal(shard_writer_commit(w, &err), STATUS_OK);
    shard_writer_close(w);
    assert_int_equal(stream_open(&s, &sc, &err), STATUS_OK);
    assert_int_equal(stream_words(s), 0);
    stream_close(s);
}

/* A text with short and long words, long lines, blank lines. */
static char *random_text(size_t size, uint64_t seed)
{
    struct rng_key key = {.seed = seed, .stream = 0};
    char *text = malloc(size + 64);
    size_t n = 0;
    for (uint32_t i = 0; n < size; i++) {
        uint32_t r = rng_word(key, i);
        int word = (int)((r & 0xff) * (r >> 8 & 0xff) >> 8);
        n += (size_t)sprintf(text + n, word % 3 ? "w%d" : "longer-word-%d", word);
        text[n++] = (r >> 16 & 0x3f) == 0 ? '\n' : ' ';
        if ((r >> 24 & 0x7f) == 0)
            text[n++] = '\n';
    }
    text[n] = '\0';
    return text;
}

/* The same bytes out of any cut into blocks and any number of threads, and the same tokens as a
 * plain loop finds. */
static void test_blocks_and_threads(void **state)
{
    (void)state;
    char *text = random_text(60000, 5), *want = NULL;
    struct tokenize_config c = config();
    size_t want_size = 0, size;
    c.min_count = 3;
    for (int threads = 1; threads <= 5; threads += 2) {
        for (size_t block = 24; block < 200000; block = block * 5 / 2) {
            c.threads = threads;
            c.block_bytes = block;
            run(&c, text);
            char *shard = scratch_read("d/train-00000.bin", &size);
            if (want == NULL) {
                want = shard;
                want_size = size;
                continue;
            }
            assert_int_equal(size, want_size);
            assert_memory_equal(shard, want, size);
            free(shard);
        }
    }
    c.min_count = 0;
    run(&c, text);
    char *got = decoded("train"), *at = got;
    for (char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strchr(line, '\n') == NULL)
            strcat(line, "\n");
        for (char *p = line; *p != '\n';) {
            size_t n = strcspn(p, " \n");
            assert_memory_equal(at, p, n);
            at += n + (n > 0);
            p += n + (p[n] == ' ');
        }
        assert_memory_equal(at, "<eos>", 5);
        at += 6;
    }
    assert_int_equal(at - got, strlen(got) + 1);
    free(text);
    free(want);
}

/* Prose comes back from its shards, byte for byte, and they are the same out of any cut into blocks
 * and any number of threads. Blocks end with lines, or with single blanks. */
static void test_prose(void **state)
{
    (void)state;
    static const char *const parts[] = {
        " ",    " ",   " ",     "a", "word",  "It", "don't", ", ", ". ",  "\n",
        "\n\n", "  ",  " \t",   "(", "-well", "@",  "\"Go",  "' ", "...", "\xC3\xA9t\xC3\xA9",
        "\r\n", " \n", "<unk> "};
    enum { PARTS_OF_TEXT = sizeof parts / sizeof *parts, SIZE = 30000 };
    struct rng_key key = {.seed = 11, .stream = 0};
    char *text = calloc(SIZE + 16, 1), *lines = calloc(SIZE + 16, 1), *want = NULL, *to = lines;
    size_t size = 0, want_size = 0;
    for (uint32_t i = 0; size < SIZE; i++)
        size += (size_t)sprintf(text + size, "%s", parts[rng_word(key, i) % PARTS_OF_TEXT]);
    text[size++] = '\n';
    for (size_t i = 0; i < size; i++)
        if (text[i] != '\r')
            *to++ = text[i];
    struct tokenize_config c = config();
    c.split = TOKENIZE_SPLIT_PUNCTUATION;
    c.min_count = 1;
    for (int threads = 1; threads <= 3; threads += 2) {
        for (size_t block = 64; block < 100000; block = block * 7 / 2) {
            c.threads = threads;
            c.block_bytes = block;
            run(&c, text);
            char *shard = scratch_read("d/train-00000.bin", &size);
            if (want == NULL) {
                want = shard;
                want_size = size;
                continue;
            }
            assert_int_equal(size, want_size);
            assert_memory_equal(shard, want, size);
            free(shard);
        }
    }
    struct vocab *v = NULL;
    assert_int_equal(vocab_load(&v, "d/vocab.txt", &err), STATUS_OK);
    assert_int_equal(vocab_rule(v).split, TEXT_SPLIT_PUNCTUATION);
    struct text_decoder d = text_decoder_begin(v, TEXT_DECODE_RAW);
    const char *at = lines;
    for (size_t i = SHARD_HEADER_BYTES; i < want_size; i += 2) {
        uint16_t id;
        memcpy(&id, want + i, sizeof id);
        struct text_bytes b = text_decode(&d, id);
        assert_true(!b.blank || *at++ == ' ');
        assert_memory_equal(at, b.text, b.len);
        at += b.len;
    }
    assert_ptr_equal(at, to);
    vocab_free(v);
    free(text);
    free(lines);
    free(want);
}

static void test_bad_text(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    refuse(&c, "", STATUS_DATA, "train.txt: empty");
    refuse(&c, " \n\n", STATUS_DATA, "train.txt: no words in it");
    refuse(&c, "a\nb \xff\n", STATUS_DATA, "train.txt:2: invalid UTF-8 byte 0xFF (byte 4 of");
    refuse(&c, "a\n\n\nb \xe2\x82", STATUS_DATA, "train.txt:4: invalid UTF-8 byte 0xE2 (byte 6 of");
    scratch_write("train.txt", "a\nb\0c\n", 6);
    expect(tokenize_run(&c, &result, &err), STATUS_DATA, "train.txt:2: NUL byte 0x00 (byte 3 of");
    assert_int_equal(scratch_entries("d"), -1); /* made for nothing, removed */
    c.out = "d//";
    expect(tokenize_run(&c, &result, &err), STATUS_DATA, "train.txt:2: NUL byte");
    assert_int_equal(scratch_entries("d"), -1);
    c.out = "d";
    c.block_bytes = 8;
    c.threads = 2;
    refuse(&c, "a\nb\nlongerthan8 x\n", STATUS_DATA, "train.txt:3: a word of more than 8 bytes");
    c.split = TOKENIZE_SPLIT_PUNCTUATION;
    refuse(&c, "a b\nlong-than-8 x\n", STATUS_DATA, "train.txt:2: a line without a blank of more");
    c.split = TOKENIZE_SPLIT_BLANKS;
    /* The first of many is named, in any order of the threads. */
    for (int i = 0; i < 50; i++)
        refuse(&c, "a\nb\n\xff\n\xff\n\xff\n\xff\nb\n\xff\n\xff\n\xff\n\xff\n\xff\n", STATUS_DATA,
               "train.txt:3: ");
    c = config();
    unlink("train.txt");
    expect(tokenize_run(&c, &result, &err), STATUS_NOINPUT, "train.txt");
    mkdir("train.txt", 0777);
    expect(tokenize_run(&c, &result, &err), STATUS_NOINPUT, "train.txt: a folder");
    rmdir("train.txt");
    c.text[SPLIT_TEST] = ONE("none.txt");
    refuse(&c, "a\n", STATUS_NOINPUT, "none.txt: cannot read the text of the split test");
    c = config();
    c.text[SPLIT_VALID] = ONE("/dev/null");
    refuse(&c, "a\n", STATUS_DATA, "/dev/null: empty");
    c.text[SPLIT_TRAIN] = ONE("/dev/null");
    expect(tokenize_run(&c, &result, &err), STATUS_DATA, "/dev/null: empty");
}

static void test_folder(void **state)
{
    (void)state;
    struct tokenize_config c = config();
    c.force = false;
    c.out = "d/e/f";
    c.shard_tokens = 1;
    run(&c, "a b c\n");
    assert_int_equal(scratch_entries("d/e/f"), 5);
    scratch_write("d/e/f/notes", "mine", 4);
    scratch_write("d/e/f/valid-00003.bin", "old", 3);
    scratch_write("d/e/f/test-00000.bin.tmp-1-0", "old", 3);
    expect(tokenize_run(&c, &result, &err), STATUS_CANTCREATE, "d/e/f: not empty; choose another");
    assert_int_equal(scratch_entries("d/e/f"), 8);
    c.force = true;
    run(&c, "a\n");
    assert_int_equal(scratch_entries("d/e/f"), 4); /* vocab.txt, two shards, notes */
    assert_int_equal(access("d/e/f/notes", F_OK), 0);
    assert_int_equal(access("d/e/f/train-00002.bin", F_OK), -1);
    /* A failure leaves the old content as it was. */
    size_t before, after;
    char *old = scratch_read("d/e/f/train-00000.bin", &before);
    scratch_write("train.txt", "a\n\xff", 3);
    expect(tokenize_run(&c, &result, &err), STATUS_DATA, "train.txt:2");
    char *now = scratch_read("d/e/f/train-00000.bin", &after);
    assert_int_equal(scratch_entries("d/e/f"), 4);
    assert_int_equal(before, after);
    assert_memory_equal(old, now, after);
    free(old);
    free(now);
    c.out = "train.txt";
    expect(tokenize_run(&c, &result, &err), STATUS_CANTCREATE, "train.txt: cannot make the folder");
    c.out = "train.txt/x";
    expect(tokenize_run(&c, &result, &err), STATUS_CANTCREATE, "train.txt: cannot make the folder");
}

/* The published counts of the shared texts, where they are at hand. */
static void test_corpora(void **state)
{
    static const struct {
        const char *name;
        int64_t vocab, tokens[SPLITS];
    } corpora[] = {{"kjv", 7070, {862666, 45587, 46644}}, {"books", 35185, {6817279, 361863, 0}}};
    const char *shared = getenv("DEQ_SHARED");
    char path[SPLITS][512];
    const char *names[SPLITS];
    (void)state;
    if (shared == NULL || shared[0] != '/') {
        print_message("# skipped: set DEQ_SHARED to the folder that holds corpus/\n");
        skip();
    }
    for (size_t k = 0; k < sizeof corpora / sizeof corpora[0]; k++) {
        struct tokenize_config c = config();
        for (int i = 0; i < SPLITS; i++) {
            snprintf(path[i], sizeof path[i], "%s/corpus/%s/%s.tokens", shared, corpora[k].name,
                     split_name(i));
            names[i] = path[i];
            c.text[i] = (struct text_files){&names[i], corpora[k].tokens[i] > 0};
        }
        if (access(path[0], R_OK) != 0) {
            print_message("# skipped: no %s\n", path[0]);
            skip();
        }
        expect(tokenize_run(&c, &result, &err), STATUS_OK, "");
        assert_int_equal(result.vocab, corpora[k].vocab);
        assert_memory_equal(result.tokens, corpora[k].tokens, sizeof result.tokens);
    }
}

/* The default ../shared is relative to where the tests start, before they enter their folders. */
static int find_shared(void **state)
{
    (void)state;
    const char *given = getenv("DEQ_SHARED");
    char *full = realpath(given != NULL ? given : "../shared", NULL);
    if (full != NULL)
        setenv("DEQ_SHARED", full, 1);
    free(full);
    return 0;
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_lines),           CASE(test_totals),
        CASE(test_choice),          CASE(test_unknown),
        CASE(test_bytes),           CASE(test_words_of_bytes),
        CASE(test_uncounted_words), CASE(test_blocks_and_threads),
        CASE(test_prose),           CASE(test_bad_text),
        CASE(test_folder),          CASE(test_corpora),
    };
    return cmocka_run_group_tests(tests, find_shared, NULL);
}
