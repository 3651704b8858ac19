/* Nothing that a text holds can end the element that it stands in, and every byte of a token is
 * shown. */
#include "base/assert_ok.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "report/page.h"
#include "report/shading.h"

static struct error err;

static const char nasty[] = "</script><!--<script><img onerror=alert(1) src=x>&amp;\"'\\u003c";

static void test_no_bracket_survives_and_the_text_does(void **state)
{
    (void)state;
    struct json_writer w;
    struct json *doc;
    char *json, *escaped;
    const char *text;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, nasty, nasty);
    json_write_end(&w);
    ASSERT_OK(json_write_finish(&w, &json, &err));
    ASSERT_OK(page_escape(json, &escaped, &err));
    assert_null(strchr(escaped, '<'));
    ASSERT_OK(json_parse(&doc, escaped, strlen(escaped), "page", STATUS_DATA, &err));
    ASSERT_OK(json_get_string(doc, json_root(doc), nasty, &text, &err));
    assert_string_equal(text, nasty);
    json_free(doc);
    mem_free(escaped);
    mem_free(json);
}

/* How often `part` stands in `text`. */
static int occurrences(const char *text, const char *part)
{
    int count = 0;
    while ((text = strstr(text, part)) != NULL) {
        count++;
        text++;
    }
    return count;
}

static void test_a_page_has_the_scripts_of_its_template(void **state)
{
    (void)state;
    size_t bytes, plain, size;
    if (page_check_library(&err) != STATUS_OK) {
        assert_int_equal(err.status, STATUS_DEVICE);
        assert_non_null(strstr(err.text, "libjs-chart.js"));
    }
    ASSERT_OK(page_write("plain.html", "{}", &plain, &err));
    ASSERT_OK(page_write("nasty.html", "{\"a\":\"</script><script><!--\"}", &bytes, &err));
    char *text = scratch_read("nasty.html", &size);
    assert_int_equal(size, bytes);
    assert_true(bytes > plain);
    assert_int_equal(occurrences(text, "<script"), 3);
    assert_int_equal(occurrences(text, "</script"), 3);
    assert_int_equal(occurrences(text, "Permission is hereby granted, free of charge"), 1);
    assert_null(strstr(text, "@DATA@"));
    assert_non_null(strstr(text, "\\u003c/script>\\u003cscript>\\u003c!--"));
    free(text);
}

static void check_spelling(const char *bytes, size_t len, const char *want)
{
    char *text;
    ASSERT_OK(shading_spell(bytes, len, &text, &err));
    assert_string_equal(text, want);
    mem_free(text);
}

static void test_bytes_that_are_no_text_are_spelled(void **state)
{
    (void)state;
    check_spelling("", 0, "");
    check_spelling("a\xC3\xA9z", 4, "a\xC3\xA9z");
    check_spelling("\xC3", 1, "<0xC3>");
    check_spelling("a\0\xFF", 3, "a<0x00><0xFF>");
}

static void test_a_character_in_parts_is_waited_for(void **state)
{
    (void)state;
    assert_true(shading_is_open("\xC3", 1));
    assert_true(shading_is_open("ab\xE2\x82", 4));
    assert_true(shading_is_open("\xF0\x9F\x98", 3));
    assert_false(shading_is_open("", 0));
    assert_false(shading_is_open("a", 1));
    assert_false(shading_is_open("\xE2\x82\xAC", 3));
    assert_false(shading_is_open("\xC3z", 2));
    assert_false(shading_is_open("\x82", 1));
    assert_false(shading_is_open("\xFF", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_bracket_survives_and_the_text_does),
        cmocka_unit_test_setup_teardown(test_a_page_has_the_scripts_of_its_template, scratch_enter,
                                        scratch_leave),
        cmocka_unit_test(test_bytes_that_are_no_text_are_spelled),
        cmocka_unit_test(test_a_character_in_parts_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
