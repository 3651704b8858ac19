/* The JSON writer. */
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct json_writer *w, const char *text, size_t n)
{
    if (w->failed)
        return;
    if (w->capacity - w->len < n + 1) {
        size_t bigger = 2 * w->capacity + n + 256;
        struct error ignored;
        if (mem_grow((void **)&w->text, w->len, bigger, 1, &ignored) != STATUS_OK) {
            w->failed = true;
            return;
        }
        w->capacity = bigger;
    }
    memcpy(w->text + w->len, text, n);
    w->len += n;
    w->text[w->len] = '\0';
}

static void put_text(struct json_writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_quoted(struct json_writer *w, const char *value)
{
    size_t len = strlen(value);
    put(w, "\"", 1);
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)value[i];
        size_t n = utf8_length(value + i, len - i);
        char escape[8];
        if (c == '"' || c == '\\') {
            snprintf(escape, sizeof escape, "\\%c", c);
            put_text(w, escape);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            put_text(w, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
        } else if (c < 0x20 || c == 0x7F) {
            snprintf(escape, sizeof escape, "\\u%04x", c);
            put_text(w, escape);
        } else if (n == 0) {
            put_text(w, "\\ufffd");
        } else {
            put(w, value + i, n);
        }
        i += n == 0 ? 1 : n;
    }
    put(w, "\"", 1);
}

static void new_line(struct json_writer *w)
{
    if (!w->pretty || w->array[w->depth])
        return;
    put(w, "\n", 1);
    for (int i = 0; i < w->depth; i++)
        put(w, "  ", 2);
}

/* Writes comma, new line and key in front of the next value. */
static void lead(struct json_writer *w, const char *key)
{
    bool member = w->depth > 0 && !w->array[w->depth];
    assert(member == (key != NULL));
    if (w->filled[w->depth])
        put_text(w, w->array[w->depth] && w->pretty ? ", " : ",");
    w->filled[w->depth] = true;
    if (w->depth > 0)
        new_line(w);
    if (key != NULL) {
        put_quoted(w, key);
        put_text(w, w->pretty ? ": " : ":");
    }
}

void json_write_begin(struct json_writer *w, bool pretty)
{
    *w = (struct json_writer){.pretty = pretty};
}

static void open(struct json_writer *w, const char *key, bool array)
{
    lead(w, key);
    assert(w->depth < JSON_MAX_DEPTH);
    w->depth++;
    w->filled[w->depth] = false;
    w->array[w->depth] = array;
    put_text(w, array ? "[" : "{");
}

void json_write_object(struct json_writer *w, const char *key)
{
    open(w, key, false);
}

void json_write_array(struct json_writer *w, const char *key)
{
    open(w, key, true);
}

void json_write_end(struct json_writer *w)
{
    assert(w->depth > 0);
    bool array = w->array[w->depth], filled = w->filled[w->depth];
    w->depth--;
    if (filled && !array) {
        /* The closing brace of an object inside an array stands on a line of its own all the same.
         */
        bool outer = w->array[w->depth];
        w->array[w->depth] = false;
        new_line(w);
        w->array[w->depth] = outer;
    }
    put_text(w, array ? "]" : "}");
}

void json_write_int(struct json_writer *w, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    json_write_raw(w, key, text);
}

void json_write_real(struct json_writer *w, const char *key, double value)
{
    char text[40] = "null";
    for (int digits = 15; isfinite(value) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    json_write_raw(w, key, text);
}

void json_write_bool(struct json_writer *w, const char *key, bool value)
{
    json_write_raw(w, key, value ? "true" : "false");
}

void json_write_string(struct json_writer *w, const char *key, const char *value)
{
    lead(w, key);
    if (value == NULL)
        put_text(w, "null");
    else
        put_quoted(w, value);
}

void json_write_raw(struct json_writer *w, const char *key, const char *json)
{
    lead(w, key);
    put_text(w, json);
}

static void copy_number(struct json_writer *w, const char *key, double value)
{
    /* json_write_real would write integers such as 1e15 with an exponent. */
    if (value == trunc(value) && fabs(value) <= 0x1p53)
        json_write_int(w, key, (int64_t)value);
    else
        json_write_real(w, key, value);
}

void json_write_copy(struct json_writer *w, const char *key, const struct cJSON *value)
{
    switch (json_kind(value)) {
    case JSON_NULL:
        json_write_raw(w, key, "null");
        return;
    case JSON_BOOL:
        json_write_bool(w, key, cJSON_IsTrue(value));
        return;
    case JSON_NUMBER:
        copy_number(w, key, value->valuedouble);
        return;
    case JSON_STRING:
        json_write_string(w, key, value->valuestring);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    open(w, key, json_kind(value) == JSON_ARRAY);
    for (const struct cJSON *item = json_first(value); item != NULL; item = json_next(item))
        json_write_copy(w, json_key(item), item);
    json_write_end(w);
}

enum status json_write_finish(struct json_writer *w, char **out, struct error *err)
{
    assert(w->depth == 0 && w->filled[0]);
    *out = NULL;
    if (w->pretty)
        put_text(w, "\n");
    if (w->failed) {
        mem_free(w->text);
        *w = (struct json_writer){0};
        return error_set(err, STATUS_NOMEM, "out of memory while writing JSON");
    }
    *out = w->text;
    *w = (struct json_writer){0};
    return STATUS_OK;
}
