/* The grammar check behind base/json: RFC 8259 to the letter. Private to base/json. */
#ifndef DEQ_BASE_JSON_SCAN_H
#define DEQ_BASE_JSON_SCAN_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* What the scan leaves: where each value begins, in the order of the text, containers before
 * their content. A member's place is that of its key. */
struct json_scan {
    const char *text;
    size_t len, at;
    size_t *place; /* owns; [count], byte offset of the key or value */
    size_t *value; /* owns; [count], byte offset of the value itself */
    size_t count, capacity;
    int depth;
    /* The first fault: what and at which byte. */
    const char *fault;
    size_t fault_at;
};

/* STATUS_OK if text[len] is one JSON value and white space; STATUS_DATA with `fault` and
 * `fault_at` set if it is not (err untouched); STATUS_NOMEM. */
enum status json_scan_text(struct json_scan *scan, const char *text, size_t len, struct error *err);
void json_scan_free(struct json_scan *scan);

/* Line and column, in bytes from 1, of an offset. */
void json_scan_place(const char *text, size_t len, size_t at, int64_t *line, int64_t *column);

/* Bytes of the UTF-8 character at text[0..len), 0 if it is none. */
size_t json_utf8_length(const char *text, size_t len);

#endif
