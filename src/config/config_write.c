/* Writing a configuration as JSON, and comparing two of them. */
#include "base/json.h"
#include "base/mem.h"
#include "config/config.h"
#include "config/config_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { SECTION_MAX = 128 };

static void write_list(struct json_writer *w, const char *name, const struct config_list *list,
                       bool flags)
{
    json_write_array(w, name);
    for (int64_t i = 0; i < list->count; i++) {
        if (flags)
            json_write_bool(w, NULL, list->value[i] != 0);
        else
            json_write_int(w, NULL, list->value[i]);
    }
    json_write_end(w);
}

static void write_value(struct json_writer *w, const char *name, const struct config_key *key,
                        const struct config *config)
{
    const void *at = (const char *)config + key->offset;
    char choice[64];
    switch (key->type) {
    case CONFIG_INT:
        json_write_int(w, name, *(const int64_t *)at);
        break;
    case CONFIG_REAL:
        json_write_real(w, name, *(const double *)at);
        break;
    case CONFIG_BOOL:
        json_write_bool(w, name, *(const bool *)at);
        break;
    case CONFIG_ENUM:
        if (!config_choice(key->choices, *(const int *)at - (int)key->min, choice, sizeof choice))
            assert(!"an enum out of its range");
        json_write_string(w, name, choice);
        break;
    case CONFIG_STRING:
        json_write_string(w, name, at);
        break;
    case CONFIG_INT_LIST:
    case CONFIG_BOOL_LIST:
        write_list(w, name, at, key->type == CONFIG_BOOL_LIST);
        break;
    }
}

/* The length of the whole sections with which both `section` and `path` begin. */
static size_t shared_sections(const char *section, const char *path)
{
    size_t shared = 0;
    for (size_t i = 0; section[i] != '\0' && section[i] == path[i]; i++)
        if (section[i] == '.')
            shared = i + 1;
    return shared;
}

enum status config_to_json(const struct config *config, bool pretty, char **out, struct error *err)
{
    struct json_writer w;
    char section[SECTION_MAX] = ""; /* the open sections, as in "solver.forward." */
    json_write_begin(&w, pretty);
    json_write_object(&w, NULL);
    for (size_t i = 0; i < config_key_count; i++) {
        const char *path = config_keys[i].path;
        size_t at = shared_sections(section, path);
        for (const char *p = section + at; *p != '\0'; p++)
            if (*p == '.')
                json_write_end(&w);
        for (const char *dot; (dot = strchr(path + at, '.')) != NULL;) {
            char name[SECTION_MAX];
            snprintf(name, sizeof name, "%.*s", (int)(dot - (path + at)), path + at);
            json_write_object(&w, name);
            at = (size_t)(dot - path) + 1;
        }
        snprintf(section, sizeof section, "%.*s", (int)at, path);
        write_value(&w, path + at, &config_keys[i], config);
    }
    for (const char *p = section; *p != '\0'; p++)
        if (*p == '.')
            json_write_end(&w);
    json_write_end(&w);
    return json_write_finish(&w, out, err);
}

static enum status value_text(const struct config *config, const struct config_key *key, char **out,
                              struct error *err)
{
    struct json_writer w;
    json_write_begin(&w, false);
    write_value(&w, NULL, key, config);
    return json_write_finish(&w, out, err);
}

bool config_is_model_key(const char *path)
{
    /* A name that ends with a dot stands for all keys below it. */
    static const char *const changeable[] = {
        "data.",         "solver.",          "gradient.",      "jacobian.",
        "correction.",   "train.",           "eval.",          "model.dropout",
        "model.dropatt", "model.dropouti",   "model.dropouth", "model.emb_dropout",
        "model.wdrop",   "model.vocab_size",
    };
    for (size_t i = 0; i < sizeof changeable / sizeof *changeable; i++) {
        const char *name = changeable[i];
        size_t n = strlen(name);
        if (name[n - 1] == '.' ? strncmp(path, name, n) == 0 : strcmp(path, name) == 0)
            return false;
    }
    return true;
}

enum status config_compare(const struct config *a, const struct config *b,
                           bool (*counts)(const char *path), struct config_difference *out,
                           struct error *err)
{
    enum status status = STATUS_OK;
    *out = (struct config_difference){0};
    for (size_t i = 0; i < config_key_count && out->path == NULL && status == STATUS_OK; i++) {
        const struct config_key *key = &config_keys[i];
        char *left = NULL, *right = NULL;
        if (!counts(key->path))
            continue;
        status = value_text(a, key, &left, err);
        if (status == STATUS_OK)
            status = value_text(b, key, &right, err);
        if (status == STATUS_OK && strcmp(left, right) != 0) {
            out->path = key->path;
            snprintf(out->a, sizeof out->a, "%s", left);
            snprintf(out->b, sizeof out->b, "%s", right);
        }
        mem_free(left);
        mem_free(right);
    }
    return status;
}
