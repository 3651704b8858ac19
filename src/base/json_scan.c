/* A recursive-descent check of JSON that builds nothing but the offsets of all values. */
#include "base/json_scan.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* cJSON copies a number into a buffer of 64 bytes, so a longer one would be cut. */
enum { NUMBER_MAX = 60 };

static enum status scan_value(struct json_scan *s, size_t place, struct error *err);

static enum status fault(struct json_scan *s, size_t at, const char *what)
{
    s->fault = what;
    s->fault_at = at;
    return STATUS_DATA;
}

static int peek(const struct json_scan *s)
{
    return s->at < s->len ? (unsigned char)s->text[s->at] : -1;
}

/* The message for text that JSON does not allow here but other languages do, or else `want`. */
static const char *explain(const struct json_scan *s, const char *want)
{
    int c = peek(s);
    size_t before = s->at;
    while (before > 0 && strchr(" \t\r\n", s->text[before - 1]) != NULL)
        before--;
    if ((c == '}' || c == ']') && before > 0 && s->text[before - 1] == ',')
        return "a comma before the end of an object or array: remove it";
    if (c == '/' || c == '#')
        return "a comment: JSON has none, remove it";
    if (c == '\'')
        return "strings and keys need double quotes, not single ones";
    if (c == '+' || c == '.')
        return "want a number as 5, 0.5 or 1e-3";
    return want;
}

static bool take(struct json_scan *s, int c)
{
    if (peek(s) != c)
        return false;
    s->at++;
    return true;
}

static void skip_space(struct json_scan *s)
{
    int c = peek(s);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        s->at++;
        c = peek(s);
    }
}

static enum status record(struct json_scan *s, size_t place, struct error *err)
{
    if (s->count == s->capacity) {
        size_t bigger = s->capacity == 0 ? 64 : 2 * s->capacity;
        TRY(mem_grow((void **)&s->place, s->count, bigger, sizeof *s->place, err));
        TRY(mem_grow((void **)&s->value, s->count, bigger, sizeof *s->value, err));
        s->capacity = bigger;
    }
    s->place[s->count] = place;
    s->value[s->count++] = s->at;
    return STATUS_OK;
}

/* Reads the four digits of \uXXXX. Returns -1 if they are none. */
static int32_t hex4(struct json_scan *s)
{
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(s);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
        s->at++;
    }
    return code;
}

static enum status scan_escape(struct json_scan *s)
{
    size_t start = s->at - 1; /* the backslash */
    int c = peek(s);
    s->at++;
    if (c >= 0 && c != 0 && strchr("\"\\/bfnrt", c) != NULL)
        return STATUS_OK;
    if (c != 'u')
        return fault(s, start, "unknown escape in a string");
    int32_t code = hex4(s);
    if (code < 0)
        return fault(s, start, "\\u wants four hexadecimal digits");
    if (code == 0)
        return fault(s, start, "NUL is not allowed in a string");
    if (code >= 0xDC00 && code <= 0xDFFF)
        return fault(s, start, "half of a surrogate pair");
    if (code >= 0xD800 && code <= 0xDBFF) {
        int32_t low = take(s, '\\') && take(s, 'u') ? hex4(s) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return fault(s, start, "half of a surrogate pair");
    }
    return STATUS_OK;
}

static enum status scan_string(struct json_scan *s)
{
    size_t start = s->at++;
    for (;;) {
        int c = peek(s);
        if (c < 0)
            return fault(s, start, "string without an end");
        if (take(s, '"'))
            return STATUS_OK;
        if (c < 0x20)
            return fault(s, s->at, "control character in a string: write \\n, \\t or \\u00XX");
        if (take(s, '\\')) {
            TRY(scan_escape(s));
            continue;
        }
        size_t n = utf8_length(s->text + s->at, s->len - s->at);
        if (n == 0)
            return fault(s, s->at, "not UTF-8");
        s->at += n;
    }
}

static bool take_digits(struct json_scan *s)
{
    size_t start = s->at;
    while (peek(s) >= '0' && peek(s) <= '9')
        s->at++;
    return s->at > start;
}

static enum status scan_number(struct json_scan *s)
{
    size_t start = s->at;
    take(s, '-');
    if (take(s, '0')) {
        if (peek(s) >= '0' && peek(s) <= '9')
            return fault(s, start, "a number must not begin with 0");
    } else if (!take_digits(s)) {
        return fault(s, start, "wrong number");
    }
    if (take(s, '.') && !take_digits(s))
        return fault(s, start, "wrong number: no digit after the point");
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            take(s, '-');
        if (!take_digits(s))
            return fault(s, start, "wrong number: no digit in the exponent");
    }
    size_t n = s->at - start;
    if (n > NUMBER_MAX)
        return fault(s, start, "number of more than 60 characters");
    char copy[NUMBER_MAX + 1];
    memcpy(copy, s->text + start, n);
    copy[n] = '\0';
    if (!isfinite(strtod(copy, NULL)))
        return fault(s, start, "number too large for a double");
    return STATUS_OK;
}

static enum status scan_word(struct json_scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return fault(s, s->at, explain(s, "want a value (strings and keys need double quotes)"));
    s->at += n;
    return STATUS_OK;
}

static enum status scan_array(struct json_scan *s, struct error *err)
{
    s->at++;
    skip_space(s);
    if (take(s, ']'))
        return STATUS_OK;
    for (;;) {
        skip_space(s);
        TRY(scan_value(s, s->at, err));
        skip_space(s);
        if (take(s, ']'))
            return STATUS_OK;
        if (!take(s, ','))
            return fault(s, s->at, explain(s, "want ',' or ']' in an array"));
    }
}

static enum status scan_object(struct json_scan *s, struct error *err)
{
    s->at++;
    skip_space(s);
    if (take(s, '}'))
        return STATUS_OK;
    for (;;) {
        skip_space(s);
        size_t key = s->at;
        if (peek(s) != '"')
            return fault(s, s->at, explain(s, "want a key in double quotes"));
        TRY(scan_string(s));
        skip_space(s);
        if (!take(s, ':'))
            return fault(s, s->at, "want ':' after a key");
        skip_space(s);
        TRY(scan_value(s, key, err));
        skip_space(s);
        if (take(s, '}'))
            return STATUS_OK;
        if (!take(s, ','))
            return fault(s, s->at, explain(s, "want ',' or '}' in an object"));
    }
}

static enum status scan_value(struct json_scan *s, size_t place, struct error *err)
{
    TRY(record(s, place, err));
    int c = peek(s);
    if (c == '{' || c == '[') {
        if (s->depth == JSON_MAX_DEPTH)
            return fault(s, s->at, "nested deeper than 64 levels");
        s->depth++;
        TRY(c == '{' ? scan_object(s, err) : scan_array(s, err));
        s->depth--;
        return STATUS_OK;
    }
    if (c == '"')
        return scan_string(s);
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(s);
    if (c < 0)
        return fault(s, s->at, "the text ends where a value is wanted");
    return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

enum status json_scan_text(struct json_scan *scan, const char *text, size_t len, struct error *err)
{
    *scan = (struct json_scan){.text = text, .len = len};
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        return fault(scan, 0, "byte order mark: save the file as UTF-8 without one");
    skip_space(scan);
    TRY(scan_value(scan, scan->at, err));
    skip_space(scan);
    if (scan->at != len)
        return fault(scan, scan->at, explain(scan, "something follows the end of the value"));
    return STATUS_OK;
}

void json_scan_free(struct json_scan *scan)
{
    mem_free(scan->place);
    mem_free(scan->value);
    *scan = (struct json_scan){0};
}

void json_scan_place(const char *text, size_t len, size_t at, int64_t *line, int64_t *column)
{
    *line = 1;
    size_t start = 0;
    for (size_t i = 0; i < at && i < len; i++) {
        if (text[i] == '\n') {
            ++*line;
            start = i + 1;
        }
    }
    *column = (int64_t)(at - start) + 1;
}
