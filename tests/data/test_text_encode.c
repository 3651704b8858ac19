/* A text in memory is encoded as tokenize encodes a file, with an end that is open or closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/mem.h"
#include "data/text_encode.h"

#include <stdio.h>
#include <string.h>

static struct error err;
static struct text_unknown unknown;

static struct vocab *vocab_of(const char *text)
{
    struct vocab *v = NULL;
    assert_ok(vocab_from_text(&v, text, strlen(text), "list", &err), &err);
    return v;
}

/* The ids of a text as "0 2 1", or what it is refused with. */
static const char *ids_of(const char *list, const char *text, size_t size, enum text_end end)
{
    static char out[256];
    struct vocab *v = vocab_of(list);
    struct text_encoding e;
    size_t used = 0;
    if (text_encode(&e, v, text, size, end, true, &err) != STATUS_OK) {
        assert_null(e.ids);
        assert_int_equal(err.status, STATUS_DATA);
        snprintf(out, sizeof out, "%s", err.text);
    }
    for (int64_t i = 0; i < e.count; i++) {
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%d", i > 0 ? " " : "", e.ids[i]);
        assert_true(e.ranges[i].from <= e.ranges[i].until && e.ranges[i].until <= size);
        assert_true(i == 0 || e.ranges[i].from >= e.ranges[i - 1].until);
    }
    unknown = e.unknown;
    text_encoding_free(&e);
    vocab_free(v);
    return out;
}

#define IDS(list, text) ids_of(list, text, sizeof text - 1, TEXT_OPEN)
#define CLOSED(list, text) ids_of(list, text, sizeof text - 1, TEXT_CLOSED)

#define WORDS "<eos>\nthe\nking\nsaid\n" /* 0 to 3 */

static void test_lines(void **state)
{
    (void)state;
    assert_string_equal(IDS(WORDS, "the king"), "1 2");
    assert_string_equal(IDS(WORDS, " the\t king \v"), "1 2");
    assert_string_equal(IDS(WORDS, "the\nking"), "1 0 2");
    assert_string_equal(IDS(WORDS, "the\r\nking\r\n"), "1 0 2 0");
    assert_string_equal(IDS(WORDS, "the\n\n\nking\n"), "1 0 0 0 2 0");
    assert_string_equal(IDS(WORDS, "the <eos> king"), "1 0 2");
    assert_string_equal(IDS(WORDS, "\xEF\xBB\xBFthe"), "1");
    assert_string_equal(IDS(WORDS, ""), "0");
    assert_string_equal(IDS(WORDS, "  "), "0");
    assert_string_equal(IDS(WORDS, "\n"), "0");
    assert_string_equal(IDS(WORDS, "\xEF\xBB\xBF"), "0");
    assert_string_equal(CLOSED(WORDS, "the king"), "1 2 0");
    assert_string_equal(CLOSED(WORDS, "the king\r\n"), "1 2 0");
    assert_string_equal(CLOSED(WORDS, "the\nking "), "1 0 2 0");
    assert_string_equal(CLOSED(WORDS, ""), "0");
    assert_string_equal(CLOSED(WORDS, "\n\n"), "0 0");
    assert_string_equal(CLOSED(WORDS, "\xEF\xBB\xBFthe"), "1 0");
    assert_string_equal(IDS("# split: blanks, lower\n" WORDS, "THE King"), "1 2");
}

#define PIECES "# split: punctuation\n<eos>\nthe\n@,\n\"@\n@\"\n(\n(@\n<sp>\n,\n<unk>\n"

static void test_punctuation(void **state)
{
    (void)state;
    assert_string_equal(IDS(PIECES, "\"the, the\""), "3 1 2 1 4");
    assert_string_equal(CLOSED(PIECES, "\"the, the\""), "3 1 2 1 4 0");
    assert_string_equal(IDS(PIECES, "the (the"), "1 6 1");
    /* What follows an open end is not known. A blank there belongs to it. */
    assert_string_equal(IDS(PIECES, "the "), "1");
    assert_string_equal(CLOSED(PIECES, "the "), "1 7 0");
    assert_string_equal(IDS(PIECES, "the ("), "1 6");
    assert_string_equal(CLOSED(PIECES, "the ("), "1 5 0");
    assert_string_equal(IDS(PIECES, "the \""), "1 3");
    assert_string_equal(IDS(PIECES, "the\""), "1 4");
    assert_string_equal(IDS(PIECES, "the ,"), "1 8");
    assert_string_equal(IDS(PIECES, "the \n"), "1 7 0");
    /* The special tokens cannot be written. */
    assert_string_equal(IDS(PIECES, "<unk>"), "9 9 9");
    assert_int_equal(unknown.count, 3);
    assert_string_equal(unknown.first, "<");
    assert_string_equal(unknown.near, "");
    assert_string_equal(IDS(PIECES, "the<eos>"), "1 9 9 9");
    assert_string_equal(IDS(PIECES, "thee\tthe"), "9 9 1");
    assert_string_equal(unknown.first, "thee");
    assert_string_equal(unknown.near, "the");
    assert_string_equal(IDS(PIECES, "the\tthe"), "1 9 1");
    assert_string_equal(unknown.first, "<tab>");
}

/* Ranges lead back to the source, behind a mark and in another case. */
static void test_ranges(void **state)
{
    (void)state;
    static const char text[] = "\xEF\xBB\xBFThe, the\r\n (\n\nX";
    static const char *const want[] = {"The", ",", "the", "\r\n", " ", "(", "\n", "\n", "X", ""};
    struct vocab *v = vocab_of("# split: punctuation, lower\n<eos>\nthe\n@,\n(\n<sp>\n<unk>\n");
    struct text_encoding e;
    assert_ok(text_encode(&e, v, text, sizeof text - 1, TEXT_CLOSED, true, &err), &err);
    assert_int_equal(e.count, sizeof want / sizeof *want);
    for (int64_t i = 0; i < e.count; i++) {
        assert_int_equal(e.ranges[i].until - e.ranges[i].from, strlen(want[i]));
        assert_memory_equal(text + e.ranges[i].from, want[i], strlen(want[i]));
    }
    assert_int_equal(e.ids[0], e.ids[2]);
    assert_string_equal(e.unknown.first, "X");
    text_encoding_free(&e);
    assert_ok(text_encode(&e, v, "the", 3, TEXT_CLOSED, false, &err), &err);
    assert_null(e.ranges);
    text_encoding_free(&e);
    vocab_free(v);
}

static void test_unknown_words(void **state)
{
    (void)state;
    assert_string_equal(IDS(WORDS, "the kign"),
                        "\"kign\" is not in the vocabulary; did you mean \"king\"?");
    assert_non_null(strstr(IDS(WORDS, "Nebuchadnezzar"), "is not in the vocabulary (deq info"));
    assert_string_equal(IDS(WORDS "<unk>\n", "the kign went\nsaid"), "1 4 4 0 3");
    assert_int_equal(unknown.count, 2);
    assert_string_equal(unknown.first, "kign");
    assert_string_equal(unknown.near, "king");
    assert_string_equal(IDS(WORDS "<unk>\n", "the <unk> king"), "1 4 2");
    assert_int_equal(unknown.count, 0);
}

static void test_refused(void **state)
{
    (void)state;
    assert_non_null(strstr(IDS(WORDS "<unk>\n", "the\nki\0ng"), "line 2: NUL byte 0x00 (byte 6)"));
    assert_non_null(strstr(IDS(WORDS "<unk>\n", "the \xFF"), "line 1: invalid UTF-8 byte 0xFF"));
    assert_non_null(
        strstr(IDS("the\nking\n", "the\nking"), "a line end, and the vocabulary has no"));
    assert_non_null(strstr(IDS("the\nking\n", ""), "empty, and the vocabulary has no <eos>"));
    assert_string_equal(IDS("the\nking\n", "the king"), "0 1");
}

static void test_bytes(void **state)
{
    (void)state;
    static char list[256 * 7 + 1];
    for (int i = 0; i < 256; i++)
        snprintf(list + 7 * i, 8, "<0x%02X>\n", (unsigned)i);
    assert_string_equal(ids_of(list, "\xEF\xBB\xBF\r\n\0z\xFF", 8, TEXT_OPEN),
                        "239 187 191 13 10 0 122 255");
    assert_string_equal(ids_of(list, "", 0, TEXT_CLOSED), "10");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),   cmocka_unit_test(test_punctuation),
        cmocka_unit_test(test_ranges),  cmocka_unit_test(test_unknown_words),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
