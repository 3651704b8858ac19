/* A prompt is read as tokenize reads a text, but for its end, which stays open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/mem.h"
#include "data/prompt.h"

#include <stdio.h>
#include <string.h>

static struct error err;
static struct prompt_unknown unknown;

static struct vocab *vocab_of(const char *text)
{
    struct vocab *v = NULL;
    assert_ok(vocab_from_text(&v, text, strlen(text), "list", &err), &err);
    return v;
}

/* The ids of a prompt as "0 2 1", or what it is refused with. */
static const char *ids_of(const char *list, const char *text, size_t size)
{
    static char out[256];
    struct vocab *v = vocab_of(list);
    int32_t *ids = NULL;
    int64_t count;
    size_t used = 0;
    if (prompt_encode(v, text, size, &ids, &count, &unknown, &err) != STATUS_OK) {
        assert_null(ids);
        assert_int_equal(err.status, STATUS_DATA);
        snprintf(out, sizeof out, "%s", err.text);
    }
    for (int64_t i = 0; ids != NULL && i < count; i++)
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%d", i > 0 ? " " : "", ids[i]);
    mem_free(ids);
    vocab_free(v);
    return out;
}

#define IDS(list, text) ids_of(list, text, sizeof text - 1)

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
    assert_string_equal(ids_of(list, "\xEF\xBB\xBF\r\n\0z\xFF", 8), "239 187 191 13 10 0 122 255");
    assert_string_equal(ids_of(list, "", 0), "10");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_unknown_words),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
