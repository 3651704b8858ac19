/* A text read in pieces has the tokens that it has as a whole. */
#include "base/assert_ok.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "data/text_encode.h"
#include "data/text_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LONG = 700000 };

static const char blanks[] = "<eos>\n<unk>\nthe\nking\nof\nson\n";
static const char punctuation[] =
    "# split: punctuation, lower\n<eos>\n<unk>\nthe\nking\nof\nson\n@,\n"
    "@.\n<sp2>\n";

/* Words, punctuation, blanks and line ends, of which some lines are longer than a block. */
static char *make_text(size_t *size)
{
    static const char *const part[] = {"the", "King", "of", "son",      "zebra",
                                       ",",   ".",    "  ", "\xc3\xa9t"};
    char *text = malloc(LONG + 64);
    assert_non_null(text);
    uint32_t x = 7;
    *size = 0;
    while (*size < LONG) {
        x = x * 1664525 + 1013904223;
        bool line = *size < LONG / 4 || *size > LONG * 9 / 10 ? (x >> 8) % 9 == 0 : false;
        const char *p = line ? "\n" : part[(x >> 16) % 9];
        *size += (size_t)sprintf(text + *size, "%s%s", p, line || (x >> 28) < 4 ? "" : " ");
    }
    return text;
}

/* Reads text[size] from a file, and compares it with its encoding. */
static void compare(const struct vocab *v, const char *text, size_t size, size_t mark)
{
    struct text_encoding whole;
    struct text_reader *r;
    const struct text_token *t;
    struct error err;
    int64_t at = 0, bytes = 0, lines = 0, newlines = 0;
    int count = 1;
    scratch_write("text", text, size);
    assert_ok(text_encode(&whole, v, text, size, TEXT_CLOSED, false, &err), &err);
    struct text_source source = text_reader_source("text");
    assert_ok(text_reader_open(&r, &source, v, &err), &err);
    while (count > 0) {
        assert_ok(text_reader_next(r, &t, &count, &err), &err);
        for (int i = 0; i < count; i++, at++) {
            assert_true(at < whole.count);
            if (t[i].id != whole.ids[at])
                fail_msg("token %lld: %d, not %d", (long long)at, t[i].id, whole.ids[at]);
            bytes += t[i].bytes;
            lines += t[i].line_end;
            assert_int_equal(t[i].unknown, vocab_unk(v) >= 0 && t[i].id == vocab_unk(v));
        }
    }
    assert_int_equal(at, whole.count);
    assert_int_equal(bytes + (int64_t)mark, size);
    assert_int_equal(text_reader_bytes(r), size);
    for (size_t i = 0; i < size; i++)
        newlines += text[i] == '\n';
    bool open = !vocab_is_bytes(v) && text[size - 1] != '\n';
    assert_int_equal(lines, newlines + open);
    text_reader_close(r);
    text_encoding_free(&whole);
}

static struct vocab *of(const char *text)
{
    struct vocab *v;
    struct error err;
    assert_ok(vocab_from_text(&v, text, strlen(text), "words", &err), &err);
    return v;
}

static void test_tokens(void **state)
{
    (void)state;
    struct error err;
    struct vocab *all[3] = {of(blanks), of(punctuation), NULL};
    size_t size;
    char *text = make_text(&size);
    assert_ok(vocab_make_bytes(&all[2], &err), &err);
    for (int i = 0; i < 3; i++) {
        compare(all[i], text, size, 0);
        compare(all[i], "the king\r\n\nof", 12, 0);
        compare(all[i], "\xEF\xBB\xBFking", 7, i < 2 ? 3 : 0);
        vocab_free(all[i]);
    }
    free(text);
}

static void refuse(const struct vocab *v, const char *text, size_t size, const char *why)
{
    struct text_reader *r;
    const struct text_token *t;
    struct error err;
    enum status status = STATUS_OK;
    int count = 1;
    scratch_write("text", text, size);
    struct text_source source = text_reader_source("text");
    assert_ok(text_reader_open(&r, &source, v, &err), &err);
    while (status == STATUS_OK && count > 0)
        status = text_reader_next(r, &t, &count, &err);
    assert_int_equal(status, STATUS_DATA);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", err.text, why);
    text_reader_close(r);
}

static void test_faults(void **state)
{
    (void)state;
    struct vocab *v = of(blanks), *known = of("<eos>\nthe\nking\n"),
                 *ids = of("# split: ids\n0\n1\n");
    struct error err;
    struct text_reader *r;
    refuse(v, "the\n\0", 5, "text:2: NUL byte");
    refuse(v, "the\n\nking\xff", 10, "text:3: invalid UTF-8 byte 0xFF");
    refuse(known, "the\nkingg", 9, "text:2: \"kingg\" is not in the vocabulary; did you mean");
    struct text_source source = text_reader_source("/nonexistent");
    assert_int_equal(text_reader_open(&r, &source, v, &err), STATUS_NOINPUT);
    assert_int_equal(text_reader_open(&r, &source, ids, &err), STATUS_DATA);
    assert_null(r);
    vocab_free(v);
    vocab_free(known);
    vocab_free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokens),
                                       cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
