/* The grammar check of the JSON reader (RFC 8259 to the letter). Private to base/json. */
#ifndef DEQ_BASE_JSON_SCAN_H
#define DEQ_BASE_JSON_SCAN_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* Where each value begins. Values are in the order of the text, so that an object or array comes
 * before its content. */
struct json_scan {
    const char *text; /* borrows */
    size_t len, at;
    size_t *place; /* owns [count] byte offsets of the key, or of the value if it has none */
    size_t *value; /* owns [count] byte offsets of the value itself */
    size_t count, capacity;
    int depth;
    const char *fault; /* the first fault, a string literal */
    size_t fault_at;   /* its byte offset */
};

/* Checks that text[len] is one JSON value and white space. Returns STATUS_DATA, with `fault` and
 * `fault_at` set and `err` untouched, if it is not, or STATUS_NOMEM. The caller calls
 * json_scan_free in any case. */
enum status json_scan_text(struct json_scan *scan, const char *text, size_t len, struct error *err);
void json_scan_free(struct json_scan *scan);

/* Line and column, in bytes from 1, of byte offset `at`. */
void json_scan_place(const char *text, size_t len, size_t at, int64_t *line, int64_t *column);

#endif
