/* What base/json refuses, where complaints point, and that the writer's text reads back. */
#include "base/json.h"
#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum status parse(struct json **doc, const char *text, struct error *err)
{
    return json_parse(doc, text, strlen(text), "a.json", STATUS_CONFIG, err);
}

/* The text must be refused with exactly this message. */
static void refused(const char *text, const char *message)
{
    struct json *doc;
    struct error err = {0};
    assert_int_equal(parse(&doc, text, &err), STATUS_CONFIG);
    assert_null(doc);
    assert_string_equal(err.text, message);
}

static void test_grammar_faults(void **state)
{
    (void)state;
    refused("", "a.json:1:1: the text ends where a value is wanted");
    refused("{} x", "a.json:1:4: something follows the end of the value");
    refused("{}{}", "a.json:1:3: something follows the end of the value");
    refused("{\n  \"a\": 01}", "a.json:2:8: a number must not begin with 0");
    refused("[1.]", "a.json:1:2: wrong number: no digit after the point");
    refused("[1e]", "a.json:1:2: wrong number: no digit in the exponent");
    refused("[-]", "a.json:1:2: wrong number");
    refused("[1e999]", "a.json:1:2: number too large for a double");
    refused("[+1]", "a.json:1:2: want a number as 5, 0.5 or 1e-3");
    refused("[.5]", "a.json:1:2: want a number as 5, 0.5 or 1e-3");
    refused("[NaN]", "a.json:1:2: want a value (strings and keys need double quotes)");
    refused("[Infinity]", "a.json:1:2: want a value (strings and keys need double quotes)");
    refused("[-Infinity]", "a.json:1:2: wrong number");
    refused("[TRUE]", "a.json:1:2: want a value (strings and keys need double quotes)");
    refused("[1,]", "a.json:1:4: a comma before the end of an object or array: remove it");
    refused("{\"a\":1, \n}", "a.json:2:1: a comma before the end of an object or array: remove it");
    refused("{,}", "a.json:1:2: want a key in double quotes");
    refused("{// a\n}", "a.json:1:2: a comment: JSON has none, remove it");
    refused("{\"a\":1 # a\n}", "a.json:1:8: a comment: JSON has none, remove it");
    refused("[1 /* a */]", "a.json:1:4: a comment: JSON has none, remove it");
    refused("{} // a", "a.json:1:4: a comment: JSON has none, remove it");
    refused("{'a':1}", "a.json:1:2: strings and keys need double quotes, not single ones");
    refused("{a:1}", "a.json:1:2: want a key in double quotes");
    refused("{\"a\" 1}", "a.json:1:6: want ':' after a key");
    refused("[1 2]", "a.json:1:4: want ',' or ']' in an array");
    refused("{\"a\":1 \"b\":2}", "a.json:1:8: want ',' or '}' in an object");
    refused("[\"abc", "a.json:1:2: string without an end");
    refused("[\"a\nb\"]", "a.json:1:4: control character in a string: write \\n, \\t or \\u00XX");
    refused("[\"\\x\"]", "a.json:1:3: unknown escape in a string");
    refused("[\"\\u12G4\"]", "a.json:1:3: \\u wants four hexadecimal digits");
    refused("[\"\\u0000\"]", "a.json:1:3: NUL is not allowed in a string");
    refused("[\"\\ud800\"]", "a.json:1:3: half of a surrogate pair");
    refused("[\"\\udc00\"]", "a.json:1:3: half of a surrogate pair");
    refused("[\"\xC0\xAF\"]", "a.json:1:3: not UTF-8");
    refused("[\"\xED\xA0\x80\"]", "a.json:1:3: not UTF-8");
    refused("\xEF\xBB\xBF{}", "a.json:1:1: byte order mark: save the file as UTF-8 without one");
}

static void test_nul_in_text(void **state)
{
    (void)state;
    struct json *doc;
    struct error err = {0};
    assert_int_equal(json_parse(&doc, "{}\0", 3, "a", STATUS_DATA, &err), STATUS_DATA);
    assert_int_equal(json_parse(&doc, "[\"\0\"]", 5, "a", STATUS_DATA, &err), STATUS_DATA);
}

static void test_duplicates(void **state)
{
    (void)state;
    refused("{\"a\":1,\n\"b\":{\"c\":1},\n \"a\":2}",
            "a.json:3:2: a: given twice, first on line 1");
    refused("[{\"x\":{\"y\":1,\"\\u0079\":2}}]", "a.json:1:14: y: given twice, first on line 1");
    struct json *doc;
    struct error err;
    assert_int_equal(parse(&doc, "{\"a\":1,\"A\":2,\"b\":{\"a\":3}}", &err), STATUS_OK);
    int64_t v = 0;
    assert_int_equal(json_get_int(doc, json_root(doc), "A", &v, &err), STATUS_OK);
    assert_int_equal(v, 2);
    assert_null(json_get(json_root(doc), "B"));
    json_free(doc);
}

static void test_depth(void **state)
{
    (void)state;
    char text[4 * JSON_MAX_DEPTH];
    struct json *doc;
    struct error err;
    for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        enum status want = depth <= JSON_MAX_DEPTH ? STATUS_OK : STATUS_CONFIG;
        assert_int_equal(parse(&doc, text, &err), want);
        json_free(doc);
    }
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } cases[] = {
        {"[0]", true, 0},
        {"[-0]", true, 0},
        {"[1.0]", true, 1},
        {"[1e3]", true, 1000},
        {"[1.9]", false, 0},
        {"[1e-1]", false, 0},
        {"[9007199254740992]", true, 9007199254740992},
        {"[-9007199254740992]", true, -9007199254740992},
        {"[9007199254740993]", false, 0},
        {"[-9007199254740993]", false, 0},
        {"[1e17]", false, 0},
        {"[99999999999999999999]", false, 0},
        {"[\"1\"]", false, 0},
        {"[true]", false, 0},
        {"[null]", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json *doc;
        struct error err;
        int64_t value = -1;
        assert_int_equal(parse(&doc, cases[i].text, &err), STATUS_OK);
        enum status got = json_int(doc, json_first(json_root(doc)), &value, &err);
        assert_int_equal(got, cases[i].good ? STATUS_OK : STATUS_CONFIG);
        if (cases[i].good)
            assert_int_equal(value, cases[i].value);
        json_free(doc);
    }
}

static void test_complaints(void **state)
{
    (void)state;
    struct json *doc;
    struct error err;
    assert_int_equal(parse(&doc, "{\n \"a\": [1, 2.5],\n \"b\": \"x\" }", &err), STATUS_OK);
    const struct cJSON *root = json_root(doc);
    const struct cJSON *second = json_next(json_first(json_get(root, "a")));
    int64_t n;
    assert_int_equal(json_int(doc, second, &n, &err), STATUS_CONFIG);
    assert_string_equal(err.text, "a.json:2:11: want an integer within +-2^53, got 2.5");
    assert_int_equal(json_get_int(doc, root, "b", &n, &err), STATUS_CONFIG);
    assert_string_equal(err.text, "a.json:3:2: b: want an integer, got a string");
    assert_int_equal(json_get_int(doc, root, "c", &n, &err), STATUS_CONFIG);
    assert_string_equal(err.text, "a.json:1:1: \"c\" is missing");
    assert_int_equal(json_size(root), 2);
    json_free(doc);
}

/* Every prefix of a document is refused, and no changed byte reads outside the text. */
static void test_truncated_and_changed(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":[1,-2.5e3,true,null],\"b\\u00e9\":{\"c\":\"\\ud83d\\ude00\"}}";
    struct json *doc;
    struct error err;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *cut = malloc(n + 1); /* exactly n bytes, so that a sanitizer sees a byte too far */
        memcpy(cut, text, n);
        assert_int_equal(json_parse(&doc, cut, n, "cut", STATUS_DATA, &err), STATUS_DATA);
        free(cut);
    }
    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char changed[sizeof text];
            memcpy(changed, text, sizeof text);
            changed[at] = (char)byte;
            enum status got = json_parse(&doc, changed, sizeof text - 1, "x", STATUS_DATA, &err);
            assert_true(got == STATUS_OK || got == STATUS_DATA);
            json_free(doc);
        }
    }
}

static void test_many_members(void **state)
{
    (void)state;
    enum { MEMBERS = 20000, ROOM = 16 * MEMBERS };
    char *text = malloc(ROOM);
    size_t len = (size_t)snprintf(text, ROOM, "{\"k0\":0");
    for (int i = 1; i < MEMBERS; i++)
        len += (size_t)snprintf(text + len, ROOM - len, ",\"k%d\":%d", i, i);
    snprintf(text + len, ROOM - len, "}");
    struct json *doc;
    struct error err;
    assert_int_equal(parse(&doc, text, &err), STATUS_OK);
    int64_t i = 0, value;
    for (const struct cJSON *m = json_first(json_root(doc)); m != NULL; m = json_next(m), i++) {
        assert_int_equal(json_int(doc, m, &value, &err), STATUS_OK);
        assert_int_equal(value, i);
    }
    assert_int_equal(i, MEMBERS);
    json_free(doc);
    free(text);
}

static void test_writer(void **state)
{
    (void)state;
    struct json_writer w;
    char *text;
    struct error err;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_int(&w, "i", INT64_MIN);
    json_write_real(&w, "nan", NAN);
    json_write_real(&w, "inf", INFINITY);
    json_write_real(&w, "tenth", 0.1);
    json_write_string(&w, "s", "a\"\\\n\t\x01\xFF\xC3\xA9");
    json_write_string(&w, "none", NULL);
    json_write_array(&w, "l");
    json_write_bool(&w, NULL, true);
    json_write_object(&w, NULL);
    json_write_end(&w);
    json_write_end(&w);
    json_write_raw(&w, "raw", "{\"x\":1}");
    json_write_end(&w);
    assert_int_equal(json_write_finish(&w, &text, &err), STATUS_OK);
    assert_string_equal(text, "{\"i\":-9223372036854775808,\"nan\":null,\"inf\":null,\"tenth\":0.1,"
                              "\"s\":\"a\\\"\\\\\\n\\t\\u0001\\ufffd\xC3\xA9\",\"none\":null,"
                              "\"l\":[true,{}],\"raw\":{\"x\":1}}");
    struct json *doc;
    assert_int_equal(parse(&doc, text, &err), STATUS_OK);
    json_free(doc);
    mem_free(text);
}

static void test_writer_pretty(void **state)
{
    (void)state;
    struct json_writer w;
    char *text;
    struct error err;
    json_write_begin(&w, true);
    json_write_object(&w, NULL);
    json_write_object(&w, "a");
    json_write_int(&w, "b", 1);
    json_write_array(&w, "c");
    json_write_int(&w, NULL, 1);
    json_write_int(&w, NULL, 2);
    json_write_end(&w);
    json_write_end(&w);
    json_write_object(&w, "e");
    json_write_end(&w);
    json_write_end(&w);
    assert_int_equal(json_write_finish(&w, &text, &err), STATUS_OK);
    assert_string_equal(text,
                        "{\n  \"a\": {\n    \"b\": 1,\n    \"c\": [1, 2]\n  },\n  \"e\": {}\n}\n");
    mem_free(text);
}

static void test_writer_copy(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,-2.5,true,false,null,\"x\\ny\",{},[]],"
                               "\"b\":{\"c\":9007199254740992,\"\":1e+300}}";
    struct json_writer w;
    struct json *doc;
    struct error err;
    char *copy;
    assert_int_equal(parse(&doc, text, &err), STATUS_OK);
    json_write_begin(&w, false);
    json_write_copy(&w, NULL, json_root(doc));
    assert_int_equal(json_write_finish(&w, &copy, &err), STATUS_OK);
    assert_string_equal(copy, text);
    mem_free(copy);
    json_free(doc);
}

static void test_numbers_round_trip(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252u; /* xorshift64, fixed seed */
    struct error err;
    for (int i = 0; i < 20000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        double real;
        memcpy(&real, &x, sizeof real);
        if (!isfinite(real))
            continue;
        struct json_writer w;
        struct json *doc;
        char *text;
        double back;
        json_write_begin(&w, false);
        json_write_array(&w, NULL);
        json_write_real(&w, NULL, real);
        json_write_end(&w);
        assert_int_equal(json_write_finish(&w, &text, &err), STATUS_OK);
        assert_int_equal(parse(&doc, text, &err), STATUS_OK);
        const struct cJSON *item = json_first(json_root(doc));
        assert_int_equal(json_real(doc, item, &back, &err), STATUS_OK);
        assert_memory_equal(&back, &real, sizeof back);
        json_free(doc);
        mem_free(text);
    }
}

static void test_load(void **state)
{
    (void)state;
    struct json *doc;
    struct error err;
    assert_int_equal(json_load(&doc, "no/such.json", 100, STATUS_CONFIG, &err), STATUS_NOINPUT);
    assert_non_null(strstr(err.text, "no/such.json"));
    assert_int_equal(json_load(&doc, "/", 100, STATUS_CONFIG, &err), STATUS_NOINPUT);
    char path[] = "/tmp/deq-json-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    fputs("{\"a\": 1}\n", file);
    fclose(file);
    assert_int_equal(json_load(&doc, path, 9, STATUS_CONFIG, &err), STATUS_OK);
    json_free(doc);
    assert_int_equal(json_load(&doc, path, 8, STATUS_CONFIG, &err), STATUS_CONFIG);
    assert_null(doc);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grammar_faults),
        cmocka_unit_test(test_nul_in_text),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_truncated_and_changed),
        cmocka_unit_test(test_many_members),
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_pretty),
        cmocka_unit_test(test_writer_copy),
        cmocka_unit_test(test_numbers_round_trip),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
