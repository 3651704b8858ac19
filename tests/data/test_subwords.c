/* Subwords are those of SentencePiece, and texts come back from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/mem.h"
#include "data/sentencepiece_shim.h"
#include "data/subword_text.h"
#include "data/subword_train.h"

static struct error err;
static char *text;
static size_t text_size;

/* Models of all kinds, of which the first are lossless. */
static const struct kind {
    const char *name, *options;
    bool lossless;
} kinds[] = {
    {"like ours",
     "--vocab_size=420 --byte_fallback --normalization_rule_name=identity --add_dummy_prefix=false "
     "--remove_extra_whitespaces=false --allow_whitespace_only_pieces=true",
     true},
    {"like LLaMA's",
     "--vocab_size=420 --model_type=bpe --byte_fallback --normalization_rule_name=identity "
     "--remove_extra_whitespaces=false --allow_whitespace_only_pieces=true --split_digits=true",
     true},
    {"pieces across blanks",
     "--vocab_size=420 --byte_fallback --normalization_rule_name=identity "
     "--remove_extra_whitespaces=false --split_by_whitespace=false",
     true},
    {"a newline of its own",
     "--vocab_size=420 --byte_fallback --normalization_rule_name=identity "
     "--remove_extra_whitespaces=false --user_defined_symbols=<x>,\n,a\tb --control_symbols=<mask>",
     true},
    {"like T5's", "--vocab_size=150 --character_coverage=0.99", false},
    {"BPE with NFKC", "--vocab_size=420 --model_type=bpe --byte_fallback", false},
    {"blanks behind words", "--vocab_size=150 --treat_whitespace_as_suffix=true", false},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static char *models[KINDS];
static size_t sizes[KINDS];

static struct vocab *vocab_of(int kind, void **peer)
{
    struct vocab *v = NULL;
    if (models[kind] == NULL)
        models[kind] = spm_peer_train(kinds[kind].options, text, &sizes[kind]);
    assert_non_null(models[kind]);
    assert_ok(vocab_from_model(&v, models[kind], sizes[kind], kinds[kind].name, &err), &err);
    *peer = spm_peer_open(models[kind], sizes[kind]);
    assert_non_null(*peer);
    return v;
}

/* The rules of models are read right, and so are their pieces, which the library names too. */
static void test_pieces(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        void *peer;
        struct vocab *v = vocab_of(kind, &peer);
        assert_int_equal(subwords_lossless(vocab_subwords(v)), kinds[kind].lossless);
        assert_int_equal(vocab_size(v), spm_peer_pieces(peer));
        for (int64_t id = 0; id < vocab_size(v); id++) {
            size_t len;
            const char *name = vocab_word(v, id, &len), *want = spm_peer_piece(peer, id);
            if (strpbrk(want, "\n\t") != NULL)
                continue; /* in hex */
            assert_int_equal(len, strlen(want));
            assert_memory_equal(name, want, len);
            assert_int_equal(vocab_find(v, name, len), id);
        }
        spm_peer_close(peer);
        vocab_free(v);
    }
}

/* Any ids, also such as no text has, are the text that the library makes of them. */
static void test_decode(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        void *peer;
        struct vocab *v = vocab_of(kind, &peer);
        uint64_t draw = 7;
        for (int k = 0; k < 2000; k++) {
            int32_t ids[8];
            int64_t count = 1 + k % 8;
            for (int64_t i = 0; i < count; i++) {
                do {
                    draw = draw * 6364136223846793005u + 1442695040888963407u;
                    ids[i] = (int32_t)((draw >> 33) % (uint64_t)vocab_size(v));
                } while (ids[i] == vocab_eos(v));
                if (vocab_kind(v, ids[i]) == SUBWORD_BYTE) /* one that is text by itself */
                    ids[i] = (int32_t)vocab_find(v, "<0x41>", 6);
            }
            size_t got, wanted;
            char *back = subword_decode(v, ids, count, &got);
            char *want = spm_peer_decode(peer, ids, count, &wanted);
            if (got != wanted || memcmp(back, want, got) != 0)
                fail_msg("%s: got \"%.*s\", want \"%s\"", kinds[kind].name, (int)got, back, want);
            free(back);
            free(want);
        }
        spm_peer_close(peer);
        vocab_free(v);
    }
}

static int by_id(const void *a, const void *b)
{
    int32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Lines are divided as the library divides them, though word by word where that can be. */
static void test_encode(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        void *peer;
        struct vocab *v = vocab_of(kind, &peer);
        struct subword_tokens t = {.remember = true};
        assert_ok(subwords_encode(vocab_subwords(v), &t, text, text_size, false, &err), &err);
        int64_t at = 0;
        for (const char *line = text; *line != '\0';) {
            const char *stop = strchr(line, '\n');
            int64_t count;
            int32_t *want = spm_peer_encode(peer, line, (size_t)(stop - line), &count);
            assert_true(at + count < t.count);
            if (strstr(kinds[kind].options, "bpe") == NULL) { /* equal scores, in another order */
                qsort(want, (size_t)count, sizeof *want, by_id);
                qsort(t.ids + at, (size_t)count, sizeof *want, by_id);
            }
            assert_memory_equal(t.ids + at, want, (size_t)count * sizeof *want);
            at += count;
            assert_int_equal(t.ids[at++], vocab_eos(v));
            free(want);
            line = stop + 1;
        }
        assert_int_equal(at, t.count);
        subword_tokens_free(&t);
        spm_peer_close(peer);
        vocab_free(v);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "\n",
        "\n\n",
        " ",
        "  \n ",
        "a",
        "a\n",
        " a b  c   \n\n",
        "\t\ttab\tx\r\ny\v\f",
        "\xE2\x96\x81",
        "a\xE2\x96\x81\xE2\x96\x81 b\xE2\x96\x81",
        "\xE2\x96\x81the \xE2\x96\x81\n\xE2\x96\x81",
        "\xE2\x96\x85 \xE2\x81\x87",
        "<0x0A> <s> </s> <unk> <0x41>",
        "\xF0\x9F\x98\x80 \xC2\xA0\xE3\x80\x80",
        "a\tb a\tb<x>",
        "\xEF\xAC\x81 \xEF\xBC\xA1",
        "\x01\x02\x7F",
        "a \xEF\xBB\xBF b",
    };
    for (int kind = 0; kinds[kind].lossless; kind++) {
        void *peer;
        struct vocab *v = vocab_of(kind, &peer);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            if (!subword_round_trip(v, texts[i], strlen(texts[i])))
                fail_msg("%s: \"%s\"", kinds[kind].name, texts[i]);
        assert_true(subword_round_trip(v, text, text_size));
        spm_peer_close(peer);
        vocab_free(v);
    }
}

/* A text in parts, cut where it may be, has the tokens of the whole. */
static void test_parts(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        void *peer;
        struct vocab *v = vocab_of(kind, &peer);
        struct subword_tokens whole = {0}, part = {.remember = true};
        assert_ok(subwords_encode(vocab_subwords(v), &whole, text, 4000, false, &err), &err);
        for (size_t size = 150; size < 600; size += 17) {
            int64_t at = 0;
            for (size_t from = 0, n; from < 4000; from += n) {
                n = from + size < 4000 ? subwords_cut(text + from, size) : 4000 - from;
                assert_ok(subwords_encode(vocab_subwords(v), &part, text + from, n,
                                          from > 0 && text[from - 1] != '\n', &err),
                          &err);
                assert_true(at + part.count <= whole.count);
                assert_memory_equal(whole.ids + at, part.ids,
                                    (size_t)part.count * sizeof *part.ids);
                at += part.count;
            }
            assert_int_equal(at, whole.count);
        }
        subword_tokens_free(&whole);
        subword_tokens_free(&part);
        spm_peer_close(peer);
        vocab_free(v);
    }
}

/* The text form is enough to decode, and takes the model it was made from, and no other. */
static void test_attach(void **state)
{
    (void)state;
    void *peer;
    struct vocab *v = vocab_of(0, &peer), *copy = NULL;
    size_t size, len;
    const void *model = subwords_model(vocab_subwords(v), &size);
    const char *form = vocab_text(v, &len);
    assert_ok(vocab_from_text(&copy, form, len, "copy", &err), &err);
    assert_int_equal(vocab_hash(copy), vocab_hash(v));
    assert_int_equal(vocab_eos(copy), vocab_eos(v));
    struct text_encoding e;
    assert_int_equal(text_encode(&e, copy, "a", 1, TEXT_OPEN, false, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "tokenizer.model"));
    assert_ok(vocab_attach_tokenizer(copy, model, size, "model", &err), &err);
    assert_true(subword_round_trip(copy, text, text_size));

    void *other_peer;
    struct vocab *other = vocab_of(1, &other_peer);
    model = subwords_model(vocab_subwords(other), &size);
    assert_int_equal(vocab_attach_tokenizer(copy, model, size, "other", &err), STATUS_DATA);
    assert_true(subword_round_trip(copy, text, text_size));
    spm_peer_close(peer);
    spm_peer_close(other_peer);
    vocab_free(v);
    vocab_free(copy);
    vocab_free(other);
}

/* A model that is cut off anywhere, or changed, is refused or is another model. */
static void test_damage(void **state)
{
    (void)state;
    void *peer;
    struct vocab *v = vocab_of(3, &peer), *damaged = NULL;
    size_t size;
    const char *model = subwords_model(vocab_subwords(v), &size);
    char *copy = malloc(size);
    int refused = 0;
    for (size_t i = 0; i < 800; i++) {
        memcpy(copy, model, size);
        size_t cut = i < 400 ? i * 35 % size : size;
        if (i >= 400)
            copy[(i * 7919) % size] ^= (char)(1 << i % 8);
        enum status status = vocab_from_model(&damaged, copy, cut, "damaged", &err);
        assert_true(status == STATUS_OK || status == STATUS_DATA);
        refused += status == STATUS_DATA;
        struct text_encoding e;
        if (status == STATUS_OK && i % 50 == 0 &&
            text_encode(&e, damaged, "said well", 9, TEXT_OPEN, false, &err) == STATUS_OK)
            text_encoding_free(&e);
        vocab_free(damaged);
    }
    assert_true(refused > 200);
    free(copy);
    spm_peer_close(peer);
    vocab_free(v);
}

/* A prompt may end with the blank that the next piece brings. */
static void test_open_end(void **state)
{
    (void)state;
    void *peer;
    struct vocab *v = vocab_of(0, &peer);
    struct text_encoding a, b;
    assert_ok(text_encode(&a, v, "the king", 8, TEXT_OPEN, false, &err), &err);
    assert_ok(text_encode(&b, v, "the king ", 9, TEXT_OPEN, false, &err), &err);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.ids, b.ids, (size_t)a.count * sizeof *a.ids);
    text_encoding_free(&a);
    text_encoding_free(&b);
    assert_int_equal(text_encode(&a, v, "a\nb\xFF", 4, TEXT_OPEN, false, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "line 2: invalid UTF-8 byte 0xFF"));
    spm_peer_close(peer);
    vocab_free(v);
}

static char *train(size_t bytes, uint64_t seed, size_t block, int64_t pieces, size_t *size)
{
    struct subword_sample *s;
    char *model;
    assert_ok(subword_sample_new(&s, bytes, seed, &err), &err);
    for (size_t at = 0; at < text_size;) {
        const char *stop = text + (at + block < text_size ? at + block : text_size);
        while (stop < text + text_size && stop[-1] != '\n')
            stop++;
        size_t n = (size_t)(stop - text) - at;
        assert_ok(subword_sample_add(s, text + at, n, (int64_t)at, &err), &err);
        at += n;
        assert_true(subword_sample_taken(s) <= 2 * (int64_t)bytes); /* whatever came */
    }
    assert_int_equal(subword_sample_seen(s), text_size);
    enum status status = subword_sample_train(s, "unigram", pieces, &model, size, &err);
    assert_true(subword_sample_taken(s) <= (int64_t)bytes && subword_sample_taken(s) > 0);
    assert_true(subword_sample_taken(s) > (int64_t)bytes / 4 || bytes > text_size);
    subword_sample_free(s);
    assert_true((status == STATUS_OK) == (model != NULL));
    return model;
}

/* The sample depends on the text and the seed alone, and keeps its size. */
static void test_sample(void **state)
{
    (void)state;
    size_t size[3];
    char *a = train(15000, 1, 1000, 330, &size[0]), *b = train(15000, 1, 7777, 330, &size[1]),
         *c = train(15000, 2, 1000, 330, &size[2]);
    assert_non_null(a);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(a, b, size[0]);
    assert_true(size[0] != size[2] || memcmp(a, c, size[0]) != 0);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    assert_null(train(15000, 1, 1000, 100000, size));
    assert_int_equal(err.status, STATUS_DATA);
    assert_non_null(strstr(err.text, "at most "));
    long long most = atoll(strstr(err.text, "at most ") + 8);
    assert_null(train(15000, 1, 1000, 260, size));
    long long least = atoll(strstr(err.text, "at least ") + 9);
    mem_free(a = train(15000, 1, 1000, most, size)); /* the numbers of the remedies are right */
    assert_non_null(a);
    mem_free(a = train(15000, 1, 1000, least, size));
    assert_non_null(a);
}

int main(void)
{
    if (spm_peer_open == NULL) {
        printf("built without SentencePiece (scripts/deps.sh subwords)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encode), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_parts),  cmocka_unit_test(test_attach),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_open_end),
        cmocka_unit_test(test_sample),
    };
    text = subword_text(400, &text_size);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int kind = 0; kind < KINDS; kind++)
        free(models[kind]);
    free(text);
    return failed;
}
