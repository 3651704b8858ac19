/* Text form, look-up and refusals of vocabularies, the byte vocabulary, keys of words, and UTF-8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "data/vocab.h"

#include "base/scratch.h"

static struct error err;

static struct vocab *make(const char *text)
{
    struct vocab *v = NULL;
    assert_int_equal(vocab_from_text(&v, text, strlen(text), "list", &err), STATUS_OK);
    return v;
}

static void refuse(const char *text, size_t size, const char *message)
{
    struct vocab *v = NULL;
    assert_int_equal(vocab_from_text(&v, text, size, "list", &err), STATUS_DATA);
    assert_null(v);
    if (strstr(err.text, message) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.text, message);
}

static void test_words(void **state)
{
    (void)state;
    static const char text[] =
        "<eos>\nthe\n<unk>\nEightsym\nninechars\nsixteenletters!!\n\xc3\xa9t\xc3\xa9\n";
    struct vocab *v = make(text);
    size_t n;
    assert_int_equal(vocab_size(v), 7);
    assert_int_equal(vocab_eos(v), 0);
    assert_int_equal(vocab_unk(v), 2);
    assert_false(vocab_is_bytes(v));
    for (int64_t id = 0; id < 7; id++) {
        const char *w = vocab_word(v, id, &n);
        assert_int_equal(vocab_find(v, w, n), id);
        assert_int_equal(vocab_find(v, w, n - 1), -1);
    }
    assert_memory_equal(vocab_word(v, 3, &n), "Eightsym", 8);
    assert_int_equal(n, 8);
    assert_int_equal(vocab_find(v, "eightsym", 8), -1);
    assert_int_equal(vocab_find(v, "ninechart", 9), -1);
    assert_int_equal(vocab_find(v, "", 0), -1);
    assert_int_equal(vocab_find(v, "the\0", 4), -1);
    assert_memory_equal(vocab_text(v, &n), text, sizeof text - 1);
    assert_int_equal(n, sizeof text - 1);
    vocab_free(v);
    vocab_free(NULL);
}

static void test_hash_and_round_trip(void **state)
{
    (void)state;
    size_t n;
    struct vocab *a = make("x\ny\n"), *b = make("x\ny"), *c = make("y\nx\n"), *d = NULL;
    assert_true(vocab_hash(a) == vocab_hash(b));
    assert_true(vocab_hash(a) != vocab_hash(c));
    const char *text = vocab_text(b, &n);
    assert_int_equal(vocab_from_text(&d, text, n, "copy", &err), STATUS_OK);
    assert_true(vocab_hash(d) == vocab_hash(a));
    assert_int_equal(vocab_eos(a), -1);
    assert_int_equal(vocab_unk(a), -1);
    vocab_free(a);
    vocab_free(b);
    vocab_free(c);
    vocab_free(d);
}

static void test_bytes(void **state)
{
    (void)state;
    struct vocab *v = NULL, *copy = NULL;
    size_t n;
    assert_int_equal(vocab_make_bytes(&v, &err), STATUS_OK);
    assert_true(vocab_is_bytes(v));
    assert_int_equal(vocab_size(v), 256);
    assert_int_equal(vocab_eos(v), -1);
    for (int i = 0; i < 256; i++) {
        const char *w = vocab_word(v, i, &n);
        assert_int_equal(n, 1);
        assert_int_equal((unsigned char)w[0], i);
        assert_int_equal(vocab_find(v, w, 1), i);
    }
    assert_int_equal(vocab_find(v, "ab", 2), -1);
    const char *text = vocab_text(v, &n);
    assert_memory_equal(text, "<0x00>\n<0x01>\n", 14);
    assert_int_equal(vocab_from_text(&copy, text, n, "copy", &err), STATUS_OK);
    assert_true(vocab_is_bytes(copy));
    vocab_free(copy);
    /* Without its last line it is a list of words. */
    assert_int_equal(vocab_from_text(&copy, text, n - 7, "copy", &err), STATUS_OK);
    assert_false(vocab_is_bytes(copy));
    assert_int_equal(vocab_find(copy, "<0x41>", 6), 0x41);
    vocab_free(copy);
    vocab_free(v);
}

/* Editors add a byte order mark and carriage returns, and leave out the last newline. */
static void test_marks_and_line_ends(void **state)
{
    (void)state;
    static const char *const forms[] = {"<eos>\na\nb\n",
                                        "<eos>\na\nb",
                                        "\xEF\xBB\xBF<eos>\na\nb\n",
                                        "<eos>\r\na\r\nb\r\n",
                                        "\xEF\xBB\xBF<eos>\r\na\nb\r",
                                        "\xEF\xBB\xBF\xEF\xBB\xBF<eos>\na\nb"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct vocab *v = NULL;
        size_t size;
        assert_int_equal(vocab_from_text(&v, forms[i], strlen(forms[i]), "list", &err), STATUS_OK);
        assert_int_equal(vocab_size(v), 3);
        assert_int_equal(vocab_eos(v), 0);
        assert_memory_equal(vocab_text(v, &size), forms[0], strlen(forms[0]));
        assert_int_equal(size, strlen(forms[0]));
        vocab_free(v);
    }
    struct vocab *v = NULL;
    static char text[256 * 8 + 1];
    for (int i = 0; i < 256; i++)
        snprintf(text + 8 * i, 9, "<0x%02X>\r\n", (unsigned)i);
    assert_int_equal(vocab_from_text(&v, text, 256 * 8, "list", &err), STATUS_OK);
    assert_true(vocab_is_bytes(v));
    vocab_free(v);
}

static void test_refused(void **state)
{
    (void)state;
    refuse("", 0, "list: empty");
    refuse("a\n\nb\n", 5, "list:2: empty line");
    refuse("a\nb\n\n", 5, "list:3: empty line");
    refuse("a\nb\na\n", 6, "list:3: \"a\" again: it stands in line 1");
    refuse("longer than\n", 12, "list:1: white space in column 7");
    refuse("a\rb\n", 4, "list:1: white space in column 2: one word a line");
    refuse("\xEF\xBB\xBF\r\n", 5, "list:1: empty line");
    refuse("\xEF\xBB\xBF", 3, "list: empty");
    refuse("a\nb\0c\n", 6, "list:2: NUL byte");
    refuse("a\nb\n\xff\n", 6, "list:3: invalid UTF-8");
    struct vocab *v = NULL;
    assert_int_equal(vocab_load(&v, "none.txt", &err), STATUS_NOINPUT);
    assert_non_null(strstr(err.text, "none.txt"));
    assert_int_equal(vocab_load(&v, ".", &err), STATUS_NOINPUT);
}

/* A header is a line of the text form and no word. */
static void test_header(void **state)
{
    (void)state;
    struct vocab *plain = make("<eos>\nthe\n"), *v = make("# split: punctuation\n<eos>\nthe");
    struct text_rule rule = vocab_rule(plain);
    size_t n;
    assert_int_equal(rule.split, TEXT_SPLIT_BLANKS);
    assert_false(rule.lower);
    rule = vocab_rule(v);
    assert_int_equal(rule.split, TEXT_SPLIT_PUNCTUATION);
    assert_false(rule.lower);
    assert_int_equal(vocab_size(v), 2);
    assert_int_equal(vocab_eos(v), 0);
    assert_memory_equal(vocab_word(v, 1, &n), "the", 3);
    assert_memory_equal(vocab_text(v, &n), "# split: punctuation\n<eos>\nthe\n", 31);
    assert_int_equal(n, 31);
    assert_true(vocab_hash(v) != vocab_hash(plain));
    vocab_free(v);
    v = make("\xEF\xBB\xBF# split: punctuation, lower\r\n<eos>\r\nthe");
    assert_true(vocab_rule(v).lower);
    assert_memory_equal(vocab_text(v, &n), "# split: punctuation, lower\n<eos>\nthe\n", 38);
    vocab_free(v);
    v = make("# split: blanks, lower\n<eos>\nthe\n");
    assert_int_equal(vocab_rule(v).split, TEXT_SPLIT_BLANKS);
    assert_true(vocab_rule(v).lower);
    vocab_free(v);
    /* One that says nothing is none. */
    v = make("# split: blanks\n<eos>\nthe\n");
    assert_true(vocab_hash(v) == vocab_hash(plain));
    vocab_free(v);
    vocab_free(plain);
    v = make("#\n#split:\n"); /* these are words */
    assert_int_equal(vocab_size(v), 2);
    vocab_free(v);
    refuse("# split: punctuation\n", 21, "list: no word behind the header");
    refuse("# split: subwords\na\n", 20, "list:1: \"# split: subwords\" is no rule that this");
    refuse("# split: punctuation, upper\na\n", 30, "upper\" is no rule");
    refuse("# other\na\n", 10, "list:1: \"# other\" is no rule");
    refuse("# split: punctuation\na\nb\na\n", 27, "list:4: \"a\" again: it stands in line 2");
    refuse("a\n# split: punctuation\n", 23, "list:2: white space in column 2");
}

static void test_load(void **state)
{
    (void)state;
    struct vocab *v = NULL;
    scratch_write("v.txt", "<eos>\nx\n", 8);
    assert_int_equal(vocab_load(&v, "v.txt", &err), STATUS_OK);
    assert_int_equal(vocab_find(v, "x", 1), 1);
    vocab_free(v);
    scratch_write("v.txt", "x\nx\n", 4);
    assert_int_equal(vocab_load(&v, "v.txt", &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "v.txt:2: "));
    assert_null(v);
}

/* Many words, so that slots collide, and batches against single look-ups. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 20000 };
    char *text = malloc((size_t)N * 24);
    size_t size = 0;
    for (int i = 0; i < N; i++)
        size += (size_t)sprintf(text + size, i % 2 ? "%d\n" : "word-number-%d\n", i);
    struct vocab *v = NULL;
    assert_int_equal(vocab_from_text(&v, text, size, "list", &err), STATUS_OK);
    struct word words[WORD_BATCH];
    int32_t ids[WORD_BATCH];
    for (int64_t id = 0; id + WORD_BATCH <= N; id += WORD_BATCH) {
        for (int i = 0; i < WORD_BATCH; i++) {
            size_t n;
            const char *w = vocab_word(v, id + i, &n);
            n -= i == 5; /* one that may be missing */
            words[i] = (struct word){.text = w, .key = word_key(w, n), .len = (uint32_t)n};
        }
        vocab_find_words(v, words, WORD_BATCH, ids);
        for (int i = 0; i < WORD_BATCH; i++)
            assert_int_equal(ids[i], i == 5 ? vocab_find(v, words[i].text, words[i].len) : id + i);
    }
    vocab_free(v);
    free(text);
}

/* word_scan finds the end and the key that the plain definitions give, at every length, behind
 * every separator, with control characters and high bytes inside. */
static void test_word_scan(void **state)
{
    (void)state;
    static const char spaces[] = " \t\n\v\f\r";
    struct rng_key key = {.seed = 20240, .stream = 1};
    char buffer[80];
    uint32_t draw = 0;
    for (int round = 0; round < 200; round++) {
        for (size_t len = 1; len <= 40; len++) {
            for (size_t i = 0; i < sizeof buffer; i++) {
                uint32_t r = rng_word(key, draw++);
                char c = (char)(r % 8 == 0 ? r >> 8 : 'a' + (r >> 8) % 26);
                buffer[i] = c == '\0' || word_is_space(c) ? 'z' : c;
            }
            buffer[len] = spaces[rng_word(key, draw++) % 6];
            struct word w = word_scan(buffer);
            assert_int_equal(w.len, len);
            assert_true(w.key == word_key(buffer, len));
            assert_ptr_equal(w.text, buffer);
        }
    }
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "plain",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "\x7f\x01"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xc3"
                                      "a",
                                      "\xe2\x82"
                                      "a",
                                      "\xf0\x9f\x98"
                                      "a"};
    char text[128];
    for (size_t before = 0; before < 70; before++) {
        memset(text, 'a', sizeof text);
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            size_t n = strlen(good[i]);
            memcpy(text + before, good[i], n);
            assert_int_equal(utf8_check(text, before + n), before + n);
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            size_t n = strlen(bad[i]);
            memcpy(text + before, bad[i], n);
            assert_int_equal(utf8_check(text, before + n), before);
        }
        text[before] = '\0';
        assert_int_equal(utf8_check(text, before + 40), before);
    }
}

static void test_ids(void **state)
{
    (void)state;
    struct vocab *v = NULL;
    size_t n;
    assert_int_equal(vocab_make_ids(&v, 300, 299, &err), STATUS_OK);
    assert_int_equal(vocab_size(v), 300);
    assert_int_equal(vocab_rule(v).split, TEXT_SPLIT_IDS);
    assert_int_equal(vocab_eos(v), 299);
    assert_int_equal(vocab_unk(v), -1);
    assert_int_equal(vocab_find(v, "17", 2), 17);
    assert_int_equal(vocab_find(v, "017", 3), -1);
    assert_memory_equal(vocab_text(v, &n), "# split: ids, end 299\n0\n1\n", 26);
    /* The text form reads as the same vocabulary. */
    struct vocab *again = NULL;
    const char *text = vocab_text(v, &n);
    assert_int_equal(vocab_from_text(&again, text, n, "list", &err), STATUS_OK);
    assert_true(vocab_hash(again) == vocab_hash(v) && vocab_eos(again) == 299);
    vocab_free(again);
    vocab_free(v);
    assert_int_equal(vocab_make_ids(&v, 2, -1, &err), STATUS_OK);
    assert_memory_equal(vocab_text(v, &n), "# split: ids\n0\n1\n", 17);
    assert_int_equal(vocab_eos(v), -1);
    vocab_free(v);
    assert_int_equal(vocab_make_ids(&v, 2, 2, &err), STATUS_CONFIG);
    assert_null(v);
    refuse("# split: ids, end 2\n0\n1\n", 24, "list:1: 2 ends a text, and the largest id is 1");
    refuse("# split: ids, end 02\n0\n1\n", 25, "is no rule that this program knows");
    refuse("# split: ids, end 99999999999999999999\n0\n", 41, "is no rule");
    refuse("# split: ids\n0\n2\n", 17, "list:3: \"2\" where the id 1 is expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_hash_and_round_trip),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_marks_and_line_ends),
        cmocka_unit_test_setup_teardown(test_refused, scratch_enter, scratch_leave),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_ids),
        cmocka_unit_test_setup_teardown(test_load, scratch_enter, scratch_leave),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_word_scan),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
