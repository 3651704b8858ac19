/* Shares of texts: every unit is in one part, parts keep the order, stretches give one unit each,
 * and a seed gives the same parts. The units are found at any cut of the reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/rng.h"
#include "base/scratch.h"
#include "data/text_share.h"

#include <unistd.h>

static struct error err;
static struct text_drawn drawn;

/* The text of a part, which the caller frees. */
static char *part_text(const struct text_source *s, size_t *size)
{
    char *text = calloc(1 << 20, 1);
    int64_t bytes;
    int fd;
    bool end;
    *size = 0;
    assert_ok(text_source_begin(s, true, &fd, &bytes, &err), &err);
    assert_ok(text_source_read(s, fd, 0, text, 1 << 20, size, &end, &err), &err);
    text_source_end(s, fd);
    return text;
}

/* The end of the unit at `at`, by the plain definition. */
static const char *unit_end(const char *at, bool paragraphs)
{
    bool text = false, blank = false;
    while (*at != '\0') {
        size_t n = strcspn(at, "\n");
        bool is_blank = strspn(at, " \t\r\v\f") >= n;
        if (paragraphs && blank && !is_blank)
            return at;
        text |= !is_blank;
        blank = text && is_blank;
        at += n + (at[n] == '\n');
        if (!paragraphs)
            return at;
    }
    return at;
}

/* Draws shares of a text, and checks the parts against the units of the text in order. */
static void check(const char *text, double valid, double test, bool paragraphs)
{
    const double share[PARTS] = {0, valid, test};
    struct text_source source = text_source_file("text"), out[PARTS];
    char *part[PARTS] = {NULL};
    const char *at[PARTS];
    size_t size[PARTS] = {0}, whole = strlen(text);
    int64_t units = 0, found[PARTS] = {0}, last = -1;
    scratch_write("text", text, whole);
    assert_ok(text_share(&source, share, 7, ".", out, &drawn, &err), &err);
    assert_int_equal(drawn.paragraphs, paragraphs);
    for (int i = 0; i < PARTS; i++) {
        at[i] = NULL;
        if (i == PART_REST || share[i] > 0)
            at[i] = part[i] = part_text(&out[i], &size[i]);
        assert_int_equal(size[i], drawn.bytes[i]);
        text_source_close(&out[i]);
    }
    for (const char *p = text; *p != '\0'; units++) {
        const char *end = unit_end(p, paragraphs);
        int i = 0;
        while (i < PARTS && (at[i] == NULL || strncmp(at[i], p, (size_t)(end - p)) != 0))
            i++;
        assert_true(i < PARTS);
        at[i] += end - p;
        found[i]++;
        p = end;
        if (i == PART_VALID) {
            int64_t all = drawn.units, n = drawn.drawn[i];
            assert_true(units >= (last + 1) * all / n && units < (last + 2) * all / n);
            last++;
        }
    }
    assert_int_equal(units, drawn.units);
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(found[i], drawn.drawn[i]);
        assert_true(at[i] == NULL || *at[i] == '\0');
        free(part[i]);
    }
}

static void test_parts(void **state)
{
    (void)state;
    char *text = calloc(1 << 20, 1), *to = text;
    for (int i = 0; i < 3000; i++) /* unequal ones, so that no two units are the same */
        to += sprintf(to, "line %d of the text\n%s", i, i % 7 == 0 ? " \t\r\n\n" : "");
    check(text, 0.05, 0, true);
    check(text, 0.05, 0.1, true);
    check(text, 0.1, 0.5, true);
    check(text, 0, 0.1, true);
    check(text, 0.013, 0, false); /* five of 429 paragraphs would be too few */
    to[-1] = '\0';
    check(text, 0.1, 0.1, true);
    to = text;
    for (int i = 0; i < 100; i++)
        to += sprintf(to, "%d\n", i);
    check(text, 0.01, 0, false);
    check(text, 0.5, 0.49, false);
    to[-1] = '\0';
    check(text, 0.5, 0.1, false);
    /* blank lines before the first paragraph are part of it */
    to = text + sprintf(text, "\n \n");
    for (int i = 0; i < 40; i++)
        to += sprintf(to, "  %d\n  more\n\n", i);
    check(text, 0.25, 0.25, true);
    for (int blank = 0; blank < 2; blank++) { /* units that buffers cut */
        to = text;
        for (int i = 0; i < 60; i++) {
            to += sprintf(to, "%d ", i);
            memset(to, i % 2 ? 'x' : ' ', 9000);
            to += 9000;
            to += sprintf(to, "\n%s", blank && i % 3 == 0 ? "\n" : "");
        }
        check(text, 0.5, 0, blank);
    }
    free(text);
}

static void test_refused(void **state)
{
    (void)state;
    const double share[PARTS] = {0, 0.1, 0}, halves[PARTS] = {0, 0.5, 0.5};
    struct text_source source = text_source_file("text"), out[PARTS];
    scratch_write("text", "one\ntwo\n\nthree\n", 15);
    assert_int_equal(text_share(&source, share, 7, ".", out, &drawn, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "text: a text of 4 lines: too short to draw 10 % of them;"));
    assert_int_equal(out[PART_VALID].spool, -1);
    assert_int_equal(text_share(&source, halves, 7, ".", out, &drawn, &err), STATUS_DATA);
    scratch_write("text", "", 0);
    assert_int_equal(text_share(&source, share, 7, ".", out, &drawn, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "text: empty"));
    scratch_write("text", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", 21);
    assert_int_equal(text_share(&source, share, 7, "none", out, &drawn, &err), STATUS_CANTCREATE);
    assert_non_null(strstr(err.text, "none: cannot make a temporary file in it"));
    unlink("text");
    assert_int_equal(text_share(&source, share, 7, ".", out, &drawn, &err), STATUS_NOINPUT);
    assert_int_equal(scratch_entries("."), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {CASE(test_parts), CASE(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
