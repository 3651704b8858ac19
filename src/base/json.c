/* The JSON reader, which lets cJSON parse what json_scan has accepted. */
#include "base/json.h"

#include "base/json_scan.h"
#include "base/mem.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double INT_LIMIT = 9007199254740992.0; /* 2^53 */

struct node {
    const cJSON *value;
    size_t place;  /* offset of the key, or of the value if it has none */
    size_t offset; /* offset of the value */
};

struct json {
    char *name, *text; /* owns */
    size_t len;
    cJSON *root;       /* owns */
    struct node *node; /* owns [count], sorted by address of the value */
    size_t count;
    enum status fault;
};

static enum status complain_at(const struct json *doc, size_t at, struct error *err,
                               const char *what)
{
    int64_t line, column;
    json_scan_place(doc->text, doc->len, at, &line, &column);
    return error_set(err, doc->fault, "%s:%lld:%lld: %s", doc->name, (long long)line,
                     (long long)column, what);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct node *)a)->value;
    uintptr_t y = (uintptr_t)((const struct node *)b)->value;
    return (x > y) - (x < y);
}

static const struct node *find_node(const struct json *doc, const cJSON *value)
{
    struct node key = {.value = value};
    const struct node *found = bsearch(&key, doc->node, doc->count, sizeof key, by_address);
    assert(found != NULL && "a value of another document");
    return found;
}

/* Fills doc->node. It visits the values in the order of the text, which is that of the scan. */
static void number_nodes(struct json *doc, const cJSON *value, const struct json_scan *scan)
{
    assert(doc->count < scan->count);
    doc->node[doc->count] = (struct node){value, scan->place[doc->count], scan->value[doc->count]};
    doc->count++;
    for (const cJSON *child = value->child; child != NULL; child = child->next)
        number_nodes(doc, child, scan);
}

static int by_key(const void *a, const void *b)
{
    const struct node *x = a, *y = b;
    int order = strcmp(x->value->string, y->value->string);
    return order != 0 ? order : (x->place > y->place) - (x->place < y->place);
}

/* Expects doc->node in the order of the text. The members of each object are sorted by key, so that
 * a hostile file with a million members does not cost a million squared comparisons. */
static enum status refuse_duplicates(const struct json *doc, struct error *err)
{
    struct node *member = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(mem_alloc((void **)&member, doc->count, sizeof *member, err));
    for (size_t i = 0; i < doc->count; i++) {
        if (!cJSON_IsObject(doc->node[i].value))
            continue;
        size_t n = 0, at = i;
        for (const cJSON *c = doc->node[i].value->child; c != NULL; c = c->next) {
            while (doc->node[at].value != c)
                at++;
            member[n++] = doc->node[at];
        }
        qsort(member, n, sizeof *member, by_key);
        for (size_t k = 1; k < n; k++) {
            if (strcmp(member[k - 1].value->string, member[k].value->string) != 0)
                continue;
            int64_t line, column;
            json_scan_place(doc->text, doc->len, member[k - 1].place, &line, &column);
            char what[256];
            snprintf(what, sizeof what, "%.100s: given twice, first on line %lld",
                     member[k].value->string, (long long)line);
            status = complain_at(doc, member[k].place, err, what);
            goto out;
        }
    }
out:
    mem_free(member);
    return status;
}

static enum status build(struct json *doc, struct error *err)
{
    struct json_scan scan;
    enum status status = json_scan_text(&scan, doc->text, doc->len, err);
    if (status == STATUS_DATA)
        status = complain_at(doc, scan.fault_at, err, scan.fault);
    if (status != STATUS_OK)
        goto out;
    doc->root = cJSON_ParseWithLength(doc->text, doc->len);
    if (doc->root == NULL) {
        /* The grammar was right, so only memory can have failed. */
        status = error_set(err, STATUS_NOMEM, "%s: out of memory for JSON of %zu bytes", doc->name,
                           doc->len);
        goto out;
    }
    TRY_OUT(mem_alloc((void **)&doc->node, scan.count, sizeof *doc->node, err));
    number_nodes(doc, doc->root, &scan);
    assert(doc->count == scan.count);
    TRY_OUT(refuse_duplicates(doc, err));
    qsort(doc->node, doc->count, sizeof *doc->node, by_address);
out:
    json_scan_free(&scan);
    return status;
}

enum status json_parse(struct json **out, const char *text, size_t len, const char *name,
                       enum status fault, struct error *err)
{
    *out = NULL;
    struct json *doc = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(mem_alloc((void **)&doc, 1, sizeof *doc, err));
    doc->fault = fault;
    doc->len = len;
    TRY_OUT(mem_strdup(&doc->name, name, err));
    TRY_OUT(mem_alloc((void **)&doc->text, len + 1, 1, err));
    memcpy(doc->text, text, len);
    TRY_OUT(build(doc, err));
    *out = doc;
    doc = NULL;
out:
    json_free(doc);
    return status;
}

enum status json_load(struct json **out, const char *path, size_t max_bytes, enum status fault,
                      struct error *err)
{
    *out = NULL;
    char *text = NULL;
    enum status status = STATUS_OK;
    size_t len = 0, capacity = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    for (;;) {
        if (len == capacity) {
            size_t bigger = capacity == 0 ? 4096 : 2 * capacity;
            TRY_OUT(mem_grow((void **)&text, len, bigger, 1, err));
            capacity = bigger;
        }
        size_t got = fread(text + len, 1, capacity - len, file);
        len += got;
        if (len > max_bytes) {
            status =
                error_set(err, fault, "%s: longer than the %zu bytes allowed", path, max_bytes);
            goto out;
        }
        if (got == 0)
            break;
    }
    if (ferror(file)) {
        status = error_set(err, STATUS_NOINPUT, "%s: cannot read: %s", path, strerror(errno));
        goto out;
    }
    TRY_OUT(json_parse(out, text, len, path, fault, err));
out:
    fclose(file);
    mem_free(text);
    return status;
}

void json_free(struct json *doc)
{
    if (doc == NULL)
        return;
    cJSON_Delete(doc->root);
    mem_free(doc->node);
    mem_free(doc->text);
    mem_free(doc->name);
    mem_free(doc);
}

const struct cJSON *json_root(const struct json *doc)
{
    return doc->root;
}

enum json_kind json_kind(const struct cJSON *value)
{
    return cJSON_IsObject(value)   ? JSON_OBJECT
           : cJSON_IsArray(value)  ? JSON_ARRAY
           : cJSON_IsString(value) ? JSON_STRING
           : cJSON_IsNumber(value) ? JSON_NUMBER
           : cJSON_IsBool(value)   ? JSON_BOOL
                                   : JSON_NULL;
}

const char *json_kind_name(const struct cJSON *value)
{
    static const char *const name[] = {"null",     "true or false", "a number",
                                       "a string", "an array",      "an object"};
    return name[json_kind(value)];
}

const struct cJSON *json_get(const struct cJSON *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

const struct cJSON *json_first(const struct cJSON *value)
{
    return value->child;
}

const struct cJSON *json_next(const struct cJSON *value)
{
    return value->next;
}

int64_t json_size(const struct cJSON *value)
{
    int64_t n = 0;
    for (const cJSON *child = value->child; child != NULL; child = child->next)
        n++;
    return n;
}

const char *json_key(const struct cJSON *value)
{
    return value->string;
}

const char *json_name(const struct json *doc)
{
    return doc->name;
}

void json_place(const struct json *doc, const struct cJSON *value, int64_t *line, int64_t *column)
{
    json_scan_place(doc->text, doc->len, find_node(doc, value)->place, line, column);
}

enum status json_complain(const struct json *doc, const struct cJSON *value, struct error *err,
                          const char *format, ...)
{
    char what[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return complain_at(doc, find_node(doc, value)->place, err, what);
}

static enum status want(const struct json *doc, const struct cJSON *value, const char *what,
                        struct error *err)
{
    const char *key = value->string;
    return json_complain(doc, value, err, "%.100s%swant %s, got %s", key != NULL ? key : "",
                         key != NULL ? ": " : "", what, json_kind_name(value));
}

/* The double may hide digits, as 2^53 + 1 reads as 2^53. Plain digits are therefore read again. */
static bool exact_int(const char *text, double number, int64_t *out)
{
    if (!(fabs(number) <= INT_LIMIT) || number != floor(number))
        return false;
    *out = (int64_t)number;
    size_t digits = strspn(text, "-0123456789");
    if (strchr(".eE", text[digits]) != NULL && text[digits] != '\0')
        return true;
    long long exact = strtoll(text, NULL, 10);
    *out = exact;
    return exact >= -(1LL << 53) && exact <= 1LL << 53;
}

enum status json_int(const struct json *doc, const struct cJSON *value, int64_t *out,
                     struct error *err)
{
    if (!cJSON_IsNumber(value))
        return want(doc, value, "an integer", err);
    const char *text = doc->text + find_node(doc, value)->offset;
    if (exact_int(text, value->valuedouble, out))
        return STATUS_OK;
    const char *key = value->string;
    return json_complain(doc, value, err, "%.100s%swant an integer within +-2^53, got %.*s",
                         key != NULL ? key : "", key != NULL ? ": " : "",
                         (int)strspn(text, "+-.eE0123456789"), text);
}

enum status json_real(const struct json *doc, const struct cJSON *value, double *out,
                      struct error *err)
{
    if (!cJSON_IsNumber(value))
        return want(doc, value, "a number", err);
    *out = value->valuedouble;
    return STATUS_OK;
}

enum status json_bool(const struct json *doc, const struct cJSON *value, bool *out,
                      struct error *err)
{
    if (!cJSON_IsBool(value))
        return want(doc, value, "true or false", err);
    *out = cJSON_IsTrue(value);
    return STATUS_OK;
}

enum status json_string(const struct json *doc, const struct cJSON *value, const char **out,
                        struct error *err)
{
    if (!cJSON_IsString(value))
        return want(doc, value, "a string", err);
    *out = value->valuestring;
    return STATUS_OK;
}

static enum status member(const struct json *doc, const struct cJSON *object, const char *key,
                          const struct cJSON **out, struct error *err)
{
    if (!cJSON_IsObject(object))
        return want(doc, object, "an object", err);
    *out = json_get(object, key);
    return *out != NULL ? STATUS_OK : json_complain(doc, object, err, "\"%s\" is missing", key);
}

enum status json_get_int(const struct json *doc, const struct cJSON *object, const char *key,
                         int64_t *out, struct error *err)
{
    const struct cJSON *value;
    TRY(member(doc, object, key, &value, err));
    return json_int(doc, value, out, err);
}

enum status json_get_real(const struct json *doc, const struct cJSON *object, const char *key,
                          double *out, struct error *err)
{
    const struct cJSON *value;
    TRY(member(doc, object, key, &value, err));
    return json_real(doc, value, out, err);
}

enum status json_get_bool(const struct json *doc, const struct cJSON *object, const char *key,
                          bool *out, struct error *err)
{
    const struct cJSON *value;
    TRY(member(doc, object, key, &value, err));
    return json_bool(doc, value, out, err);
}

enum status json_get_string(const struct json *doc, const struct cJSON *object, const char *key,
                            const char **out, struct error *err)
{
    const struct cJSON *value;
    TRY(member(doc, object, key, &value, err));
    return json_string(doc, value, out, err);
}
