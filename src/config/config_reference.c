/* The reference of all keys, for `deq help config` and configs/README.md. */
#include "base/json.h"
#include "base/mem.h"
#include "config/config.h"
#include "config/config_table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct page {
    char *text; /* owns */
    size_t len, capacity;
    enum status status;
    struct error *err;
};

static void add(struct page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct page *page, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (page->status != STATUS_OK || n < 0)
        return;
    size_t size = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    if (page->capacity - page->len <= size) {
        size_t bigger = 2 * page->capacity + sizeof line;
        page->status = mem_grow((void **)&page->text, page->len, bigger, 1, page->err);
        if (page->status != STATUS_OK)
            return;
        page->capacity = bigger;
    }
    memcpy(page->text + page->len, line, size + 1);
    page->len += size;
}

void config_initial_text(const struct config_key *key, char *out, size_t size)
{
    char choice[32];
    if (key->type == CONFIG_ENUM &&
        config_choice(key->choices, (int64_t)(key->initial - key->min), choice, sizeof choice))
        snprintf(out, size, "\"%s\"", choice);
    else if (key->type == CONFIG_BOOL)
        snprintf(out, size, "%s", key->initial != 0 ? "true" : "false");
    else if (key->type == CONFIG_STRING)
        snprintf(out, size, "\"%s\"", key->initial_text);
    else if (key->type == CONFIG_INT_LIST || key->type == CONFIG_BOOL_LIST)
        snprintf(out, size, "[]");
    else
        snprintf(out, size, "%.15g", key->initial);
}

const char *config_type_text(enum config_type type)
{
    static const char *const name[] = {"integer", "number",   "boolean", "choice",
                                       "string",  "integers", "booleans"};
    return name[type];
}

/* Whether `wanted` names a key: its path, a section that it is in, or the end of its path. */
static bool is_wanted(const struct config_key *key, const char *wanted)
{
    size_t n = strlen(wanted), len = strlen(key->path);
    if (strncmp(key->path, wanted, n) == 0 && (key->path[n] == '\0' || key->path[n] == '.'))
        return true;
    return n < len && strcmp(key->path + len - n, wanted) == 0 && key->path[len - n - 1] == '.';
}

static void add_key(struct page *page, const struct config_key *key, bool markdown)
{
    char range[256], initial[80];
    config_range_text(key, range, sizeof range);
    config_initial_text(key, initial, sizeof initial);
    if (markdown)
        add(page, "| `%s` | %s | `%s` | %s | %s | %s |\n", key->path, config_type_text(key->type),
            initial, range, key->unit, key->meaning);
    else
        add(page, "%s%s = %s  (%s; %s%s%s)\n    %s\n", page->len > 0 ? "\n" : "", key->path,
            initial, config_type_text(key->type), range, key->unit[0] != '\0' ? "; " : "",
            key->unit, key->meaning);
}

enum status config_reference(bool markdown, const char *wanted, char **out, struct error *err)
{
    *out = NULL;
    struct page page = {.err = err, .status = STATUS_OK};
    if (markdown)
        add(&page, "| key | type | default | range | unit | meaning |\n"
                   "|---|---|---|---|---|---|\n");
    else if (wanted == NULL)
        add(&page, "Keys of a configuration file. A key may also be given on the command line:\n"
                   "  --set model.d_model=512 --set model.cutoffs=20000,40000\n");
    for (size_t i = 0; i < config_key_count; i++)
        if (wanted == NULL || is_wanted(&config_keys[i], wanted))
            add_key(&page, &config_keys[i], markdown);
    if (page.status == STATUS_OK && page.len == 0)
        page.status =
            error_set(err, STATUS_USAGE, "%.100s: no key of a configuration; did you mean %s?",
                      wanted, config_nearest_key(wanted));
    if (page.status == STATUS_OK)
        *out = page.text;
    else
        mem_free(page.text);
    return page.status;
}
