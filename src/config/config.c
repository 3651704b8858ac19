/* Reading a configuration from JSON and from --set, checked key by key against the table. */
#include "config/config.h"

#include "base/json.h"
#include "base/mem.h"
#include "config/config_table.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_MAX_BYTES = 1 << 20, KEY_MAX = 128, KEYS_MAX = 256 };

static void *field(struct config *config, const struct config_key *key)
{
    return (char *)config + key->offset;
}

void config_defaults(struct config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        void *at = field(config, key);
        switch (key->type) {
        case CONFIG_INT:
            *(int64_t *)at = (int64_t)key->initial;
            break;
        case CONFIG_ENUM:
            *(int *)at = (int)key->initial;
            break;
        case CONFIG_REAL:
            *(double *)at = key->initial;
            break;
        case CONFIG_BOOL:
            *(bool *)at = key->initial != 0;
            break;
        case CONFIG_STRING:
            assert(strlen(key->initial_text) < CONFIG_MAX_PATH);
            strcpy(at, key->initial_text);
            break;
        case CONFIG_INT_LIST:
        case CONFIG_BOOL_LIST:
            break; /* empty */
        }
    }
}

/* The source of the value being read, for messages. */
struct reader {
    const struct json *doc;
    bool lines; /* messages name the line, which --set does not have */
    bool *seen; /* borrows [KEYS_MAX] by number of the key, for files only */
    struct error *err;
};

static enum status refuse(const struct reader *r, const struct cJSON *value, const char *path,
                          const char *what)
{
    int64_t line, column;
    json_place(r->doc, value, &line, &column);
    if (!r->lines)
        return error_set(r->err, STATUS_CONFIG, "%s: %s: %s", json_name(r->doc), path, what);
    return error_set(r->err, STATUS_CONFIG, "%s:%lld: %s: %s", json_name(r->doc), (long long)line,
                     path, what);
}

static enum status refuse_type(const struct reader *r, const struct cJSON *value,
                               const struct config_key *key, const char *wanted)
{
    char what[128];
    snprintf(what, sizeof what, "want %s, got %s", wanted, json_kind_name(value));
    return refuse(r, value, key->path, what);
}

static bool in_range(const struct config_key *key, double x)
{
    bool above = (key->open & CONFIG_OPEN_MIN) != 0 ? x > key->min : x >= key->min;
    bool below = (key->open & CONFIG_OPEN_MAX) != 0 ? x < key->max : x <= key->max;
    return isfinite(x) && above && below;
}

static enum status refuse_range(const struct reader *r, const struct cJSON *value,
                                const struct config_key *key, const char *got)
{
    char range[256], what[512];
    config_range_text(key, range, sizeof range);
    snprintf(what, sizeof what, "want %s, got %.100s", range, got);
    return refuse(r, value, key->path, what);
}

static enum status read_int(const struct reader *r, const struct cJSON *value,
                            const struct config_key *key, int64_t *out)
{
    double number;
    struct error why;
    if (json_kind(value) != JSON_NUMBER)
        return refuse_type(r, value, key, "an integer");
    if (json_int(r->doc, value, out, &why) != STATUS_OK) {
        char got[64];
        TRY(json_real(r->doc, value, &number, r->err));
        snprintf(got, sizeof got, "want an integer within +-2^53, got %.15g", number);
        return refuse(r, value, key->path, got);
    }
    if (in_range(key, (double)*out))
        return STATUS_OK;
    char got[32];
    snprintf(got, sizeof got, "%lld", (long long)*out);
    return refuse_range(r, value, key, got);
}

static enum status read_real(const struct reader *r, const struct cJSON *value,
                             const struct config_key *key, double *out)
{
    if (json_kind(value) != JSON_NUMBER)
        return refuse_type(r, value, key, "a number");
    TRY(json_real(r->doc, value, out, r->err));
    if (in_range(key, *out))
        return STATUS_OK;
    char got[32];
    snprintf(got, sizeof got, "%.9g", *out);
    return refuse_range(r, value, key, got);
}

static enum status read_bool(const struct reader *r, const struct cJSON *value,
                             const struct config_key *key, bool *out)
{
    if (json_kind(value) != JSON_BOOL)
        return refuse_type(r, value, key, "true or false");
    return json_bool(r->doc, value, out, r->err);
}

static enum status read_enum(const struct reader *r, const struct cJSON *value,
                             const struct config_key *key, int *out)
{
    const char *name;
    if (json_kind(value) != JSON_STRING)
        return refuse_type(r, value, key, "a string");
    TRY(json_string(r->doc, value, &name, r->err));
    int64_t index = config_choice_index(key->choices, name);
    if (index >= 0) {
        *out = (int)key->min + (int)index;
        return STATUS_OK;
    }
    char got[128];
    snprintf(got, sizeof got, "\"%.100s\"", name);
    return refuse_range(r, value, key, got);
}

static enum status read_string(const struct reader *r, const struct cJSON *value,
                               const struct config_key *key, char *out)
{
    const char *text;
    if (json_kind(value) != JSON_STRING)
        return refuse_type(r, value, key, "a string");
    TRY(json_string(r->doc, value, &text, r->err));
    size_t n = strlen(text);
    if (n == 0 || n >= CONFIG_MAX_PATH) {
        char got[32];
        snprintf(got, sizeof got, "%zu bytes", n);
        return refuse_range(r, value, key, got);
    }
    memset(out, 0, CONFIG_MAX_PATH);
    memcpy(out, text, n);
    return STATUS_OK;
}

static enum status read_list(const struct reader *r, const struct cJSON *value,
                             const struct config_key *key, struct config_list *out)
{
    /* each cluster has a flag in tie_projs, and there is one more cluster than cutoffs */
    int64_t most = CONFIG_MAX_CUTOFFS + (key->type == CONFIG_BOOL_LIST);
    if (json_kind(value) != JSON_ARRAY)
        return refuse_type(r, value, key, "an array");
    int64_t n = json_size(value);
    if (n > most) {
        char what[64];
        snprintf(what, sizeof what, "want at most %lld entries, got %lld", (long long)most,
                 (long long)n);
        return refuse(r, value, key->path, what);
    }
    *out = (struct config_list){0};
    for (const struct cJSON *item = json_first(value); item != NULL; item = json_next(item)) {
        if (key->type == CONFIG_INT_LIST) {
            TRY(read_int(r, item, key, &out->value[out->count]));
        } else {
            bool flag;
            TRY(read_bool(r, item, key, &flag));
            out->value[out->count] = flag;
        }
        out->count++;
    }
    return STATUS_OK;
}

static enum status read_value(const struct reader *r, const struct cJSON *value,
                              const struct config_key *key, struct config *config)
{
    void *at = field(config, key);
    switch (key->type) {
    case CONFIG_INT:
        return read_int(r, value, key, at);
    case CONFIG_REAL:
        return read_real(r, value, key, at);
    case CONFIG_BOOL:
        return read_bool(r, value, key, at);
    case CONFIG_ENUM:
        return read_enum(r, value, key, at);
    case CONFIG_STRING:
        return read_string(r, value, key, at);
    case CONFIG_INT_LIST:
    case CONFIG_BOOL_LIST:
        return read_list(r, value, key, at);
    }
    assert(!"unknown type in the table");
    return STATUS_INTERNAL;
}

static enum status refuse_key(const struct reader *r, const struct cJSON *value, const char *path)
{
    char what[256], section[CONFIG_SECTION_MAX];
    bool whole = json_kind(value) == JSON_OBJECT;
    if (whole)
        config_nearest_section(path, section);
    snprintf(what, sizeof what, "unknown key; the nearest known one is %s",
             whole ? section : config_nearest_key(path));
    return refuse(r, value, path, what);
}

static enum status read_section(const struct reader *r, const struct cJSON *object,
                                const char *prefix, struct config *config)
{
    for (const struct cJSON *item = json_first(object); item != NULL; item = json_next(item)) {
        char path[KEY_MAX];
        int n = snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                         json_key(item));
        if (n < 0 || (size_t)n >= sizeof path)
            return refuse_key(r, item, path);
        const struct config_key *key = config_find_key(path);
        if (key != NULL) {
            /* the JSON reader does not know that "train.steps" is "steps" inside "train" */
            if (r->seen[key - config_keys])
                return refuse(r, item, path, "given twice");
            r->seen[key - config_keys] = true;
            TRY(read_value(r, item, key, config));
        } else if (!config_is_section(path)) {
            return refuse_key(r, item, path);
        } else if (json_kind(item) != JSON_OBJECT) {
            char what[64];
            snprintf(what, sizeof what, "want an object, got %s", json_kind_name(item));
            return refuse(r, item, path, what);
        } else {
            TRY(read_section(r, item, path, config));
        }
    }
    return STATUS_OK;
}

static enum status read_document(struct config *config, const struct json *doc, struct error *err)
{
    bool seen[KEYS_MAX] = {false};
    struct reader r = {.doc = doc, .lines = true, .seen = seen, .err = err};
    assert(config_key_count <= KEYS_MAX);
    const struct cJSON *root = json_root(doc);
    if (json_kind(root) != JSON_OBJECT)
        return json_complain(doc, root, err, "want an object {...}, got %s", json_kind_name(root));
    return read_section(&r, root, "", config);
}

enum status config_parse(struct config *config, const char *text, const char *name,
                         struct error *err)
{
    struct json *doc;
    TRY(json_parse(&doc, text, strlen(text), name, STATUS_CONFIG, err));
    enum status status = read_document(config, doc, err);
    json_free(doc);
    return status;
}

enum status config_load(struct config *config, const char *path, struct error *err)
{
    struct json *doc;
    TRY(json_load(&doc, path, CONFIG_MAX_BYTES, STATUS_CONFIG, err));
    enum status status = read_document(config, doc, err);
    json_free(doc);
    return status;
}

/* Turns the text behind "=" into JSON. It adds the quotes of strings, the brackets of lists and the
 * 0 before a leading point if they are missing. */
static enum status set_text(const struct config_key *key, const char *value, char **out,
                            struct error *err)
{
    bool text = key->type == CONFIG_STRING || key->type == CONFIG_ENUM;
    bool list = key->type == CONFIG_INT_LIST || key->type == CONFIG_BOOL_LIST;
    if (text && value[0] != '"') {
        struct json_writer w;
        json_write_begin(&w, false);
        json_write_string(&w, NULL, value);
        return json_write_finish(&w, out, err);
    }
    bool bare = list && value[0] != '[', point = key->type == CONFIG_REAL && value[0] == '.';
    size_t size = strlen(value) + 3;
    TRY(mem_alloc((void **)out, size, 1, err));
    snprintf(*out, size, "%s%s%s", bare ? "[" : point ? "0" : "", value, bare ? "]" : "");
    return STATUS_OK;
}

enum status config_set(struct config *config, const char *assignment, struct error *err)
{
    const char *equals = strchr(assignment, '=');
    char path[KEY_MAX];
    if (equals == NULL || equals == assignment)
        return error_set(err, STATUS_CONFIG, "--set %.100s: want KEY=VALUE, as in train.lr=0.001",
                         assignment);
    size_t n = (size_t)(equals - assignment);
    snprintf(path, sizeof path, "%.*s", (int)(n < sizeof path ? n : sizeof path - 1), assignment);
    const struct config_key *key = n < sizeof path ? config_find_key(path) : NULL;
    if (key == NULL && config_is_section(path))
        return error_set(err, STATUS_CONFIG, "--set: %s: a section; set one of its keys, as in %s",
                         path, config_nearest_key(path));
    if (key == NULL)
        return error_set(err, STATUS_CONFIG, "--set: %s: unknown key; the nearest known one is %s",
                         path, config_nearest_key(path));
    char *text = NULL;
    struct json *doc = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(set_text(key, equals + 1, &text, err));
    struct error why;
    status = json_parse(&doc, text, strlen(text), "--set", STATUS_CONFIG, &why);
    if (status == STATUS_CONFIG) {
        char range[256];
        config_range_text(key, range, sizeof range);
        status =
            error_set(err, status, "--set: %s: want %s, got \"%.100s\"", path, range, equals + 1);
    } else if (status != STATUS_OK) {
        *err = why;
    }
    if (status != STATUS_OK)
        goto out;
    struct reader r = {.doc = doc, .err = err};
    status = read_value(&r, json_root(doc), key, config);
out:
    json_free(doc);
    mem_free(text);
    return status;
}
