/* Stop texts found in texts that grow by pieces, compared with a search of the whole text. */
#include "base/rng.h"
#include "generate/stop_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Where the whole text would be cut. */
static size_t whole(const struct stop_text *s, const char *text, size_t from)
{
    size_t cut = strlen(text);
    for (int i = 0; i < s->count; i++) {
        const char *hit = strstr(text + from, s->text[i]);
        if (hit != NULL && (size_t)(hit - text) < cut)
            cut = (size_t)(hit - text);
    }
    return cut;
}

/* Lets the text grow by pieces of random lengths, and shows what may be shown. What was shown must
 * be a part of what the whole text is cut to, and in the end all of it. */
static void check(const struct stop_text *s, const char *text, size_t from, uint64_t seed)
{
    struct rng_key key = {seed, 2};
    size_t len = from, shown = 0, at = 0, all = strlen(text), want = whole(s, text, from);
    uint64_t drawn = 0;
    int found = -1;
    while (len < all && found < 0) {
        size_t known = len, grow = 1 + rng_word(key, drawn++) % 5;
        len = len + grow < all ? len + grow : all;
        found = stop_text_find(s, text, len, from, known, &at);
        shown = found >= 0 ? at : len - stop_text_pending(s, text, len, from);
        assert_true(shown <= want);
    }
    if (found < 0)
        shown = len;
    assert_int_equal(shown, want);
}

static void test_pieces(void **state)
{
    (void)state;
    static const char *const stops[] = {"abab", "ba b", "\n\n", "c"};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        static const char letters[] = "ab \nabab \nc";
        struct stop_text s = {stops, (int)(seed % 4) + 1};
        struct rng_key key = {seed, 1};
        char text[41];
        for (uint64_t i = 0; i < 40; i++)
            text[i] = letters[rng_word(key, i) % (sizeof letters - 1)];
        text[40] = '\0';
        check(&s, text, seed % 7, seed);
    }
}

static void test_order(void **state)
{
    (void)state;
    static const char *const stops[] = {"bc", "abcd", "bcd"};
    const struct stop_text s = {stops, 3}, none = {NULL, 0};
    size_t at = 0;
    assert_int_equal(stop_text_find(&s, "xabcd", 5, 0, 0, &at), 1);
    assert_int_equal(at, 1);
    assert_int_equal(stop_text_find(&s, "xabcd", 5, 2, 2, &at), 0);
    assert_int_equal(at, 2);
    assert_int_equal(stop_text_find(&s, "xabcd", 5, 4, 4, &at), -1);
    assert_int_equal(stop_text_find(&none, "xabcd", 5, 0, 0, &at), -1);
    assert_int_equal(stop_text_pending(&none, "xabcd", 5, 0), 0);
    assert_int_equal(stop_text_pending(&s, "xab", 3, 0), 2);
    assert_int_equal(stop_text_pending(&s, "xab", 3, 2), 1);
    assert_int_equal(stop_text_pending(&s, "xab", 3, 3), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
