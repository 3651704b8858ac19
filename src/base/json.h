/* Strict JSON. The reader refuses what cJSON alone would let through, and there is a writer.
 *
 * The text is checked against RFC 8259 before cJSON sees it. The reader refuses, with line and
 * column, anything after the value, wrong numbers (01, 1., NaN, Infinity, 1e999), NUL and control
 * characters, bad UTF-8, half surrogates, a byte order mark, nesting deeper than 64, and a key
 * that occurs twice in one object. Keys match by exact case.
 */
#ifndef DEQ_BASE_JSON_H
#define DEQ_BASE_JSON_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_MAX_DEPTH = 64 };

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json;  /* a parsed document, which owns its values and all their strings */
struct cJSON; /* a value, borrowed from its document and opaque to callers */

/* Parses text[len]. `name` (a file name, "--set") stands in front of all messages of the document.
 * Both are copied. `fault` (STATUS_DATA, STATUS_CONFIG) is the status of every complaint about the
 * content, here and in the functions below. The caller frees *out with json_free. *out is NULL on
 * failure. Returns `fault` or STATUS_NOMEM. */
enum status json_parse(struct json **out, const char *text, size_t len, const char *name,
                       enum status fault, struct error *err);
/* Parses a file of at most `max_bytes`. Returns STATUS_NOINPUT if the file cannot be opened or
 * read, `fault` or STATUS_NOMEM. */
enum status json_load(struct json **out, const char *path, size_t max_bytes, enum status fault,
                      struct error *err);
void json_free(struct json *doc); /* NULL is allowed */

const struct cJSON *json_root(const struct json *doc);
enum json_kind json_kind(const struct cJSON *value);
/* What a value is, for messages ("a number", "an object"). */
const char *json_kind_name(const struct cJSON *value);

/* The member of that name, or NULL. Also NULL if `object` is no object. This takes linear time, so
 * large objects are better walked with json_first and json_next. */
const struct cJSON *json_get(const struct cJSON *object, const char *key);
/* Elements of an array or members of an object, in the order of the text. NULL at the end. */
const struct cJSON *json_first(const struct cJSON *value);
const struct cJSON *json_next(const struct cJSON *value);
int64_t json_size(const struct cJSON *value);
/* The key of a member. NULL for elements and the root. */
const char *json_key(const struct cJSON *value);

/* Typed values. Each function returns the document's fault status, with a message such as
 * "name:line:column: key: want an integer, got a string", if the value has another type. An integer
 * may be written as 1.0 or 1e3 but must be whole and within +-2^53. A string is borrowed from the
 * document. */
enum status json_int(const struct json *doc, const struct cJSON *value, int64_t *out,
                     struct error *err);
enum status json_real(const struct json *doc, const struct cJSON *value, double *out,
                      struct error *err);
enum status json_bool(const struct json *doc, const struct cJSON *value, bool *out,
                      struct error *err);
enum status json_string(const struct json *doc, const struct cJSON *value, const char **out,
                        struct error *err);

/* The same for a member of `object`. The fault status also reports a missing member, and an
 * `object` that is none. */
enum status json_get_int(const struct json *doc, const struct cJSON *object, const char *key,
                         int64_t *out, struct error *err);
enum status json_get_real(const struct json *doc, const struct cJSON *object, const char *key,
                          double *out, struct error *err);
enum status json_get_bool(const struct json *doc, const struct cJSON *object, const char *key,
                          bool *out, struct error *err);
enum status json_get_string(const struct json *doc, const struct cJSON *object, const char *key,
                            const char **out, struct error *err);

/* Line and column, in bytes from 1, where a value begins. A member begins with its key. */
void json_place(const struct json *doc, const struct cJSON *value, int64_t *line, int64_t *column);
/* The name given to json_parse. */
const char *json_name(const struct json *doc);
/* Writes "name:line:column: " and the formatted complaint about `value` into `err`. Returns the
 * document's fault status. */
enum status json_complain(const struct json *doc, const struct cJSON *value, struct error *err,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Builds one JSON value. json_write_finish reports if memory ran out on the way, so that calls in
 * between need no checks. `key` is NULL inside arrays and for the outermost value. */
struct json_writer {
    char *text; /* owns */
    size_t len, capacity;
    bool pretty; /* indent by two spaces, with arrays on one line */
    bool failed;
    int depth;
    bool filled[JSON_MAX_DEPTH + 1]; /* the value at this depth has a member */
    bool array[JSON_MAX_DEPTH + 1];
};

void json_write_begin(struct json_writer *w, bool pretty);
void json_write_object(struct json_writer *w, const char *key); /* closed by json_write_end */
void json_write_array(struct json_writer *w, const char *key);
void json_write_end(struct json_writer *w);
void json_write_int(struct json_writer *w, const char *key, int64_t value);
/* Writes 15 to 17 digits, as few as read back as the same number, or null if it is not finite. */
void json_write_real(struct json_writer *w, const char *key, double value);
void json_write_bool(struct json_writer *w, const char *key, bool value);
/* Bytes that are not UTF-8 become U+FFFD. NULL becomes null. */
void json_write_string(struct json_writer *w, const char *key, const char *value);
/* Copies text that is JSON already, unchanged. */
void json_write_raw(struct json_writer *w, const char *key, const char *json);
/* Copies a value of a parsed document with all that is in it. */
void json_write_copy(struct json_writer *w, const char *key, const struct cJSON *value);
/* Hands over the text, which ends with a newline only if it is pretty. The caller frees *out with
 * mem_free. The writer's memory is gone in any case. Returns STATUS_NOMEM, with *out NULL, if
 * memory ran out in this or an earlier call. */
enum status json_write_finish(struct json_writer *w, char **out, struct error *err);

#endif
