/* A configuration that is written as JSON and read again is the same one. */
#include "base/assert_ok.h"
#include "base/mem.h"
#include "config/config.h"
#include "config/config_table.h"
#include "property/property.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_CHANGES = 12, MOST_ITEMS = 5, LINE = 512 };

/* The largest whole number that JSON keeps is 2^53. */
static int64_t most(const struct config_key *key)
{
    const int64_t limit = INT64_C(1) << 53;
    return key->max < (double)limit ? (int64_t)key->max : limit;
}

static void draw_text(char *value)
{
    static const char letters[] = "ab/._- \"\\{[#:=\t\xc3\xa9";
    int64_t length = property_int("length", 1, 20);
    for (int64_t i = 0; i < length; i++)
        value[i] = letters[property_int("letter", 0, (int64_t)sizeof letters - 4)];
    value[length] = '\0';
}

static void draw_list(const struct config_key *key, char *value)
{
    int64_t items = property_int("items", 0, MOST_ITEMS);
    size_t at = (size_t)snprintf(value, LINE, "[");
    for (int64_t i = 0; i < items; i++) {
        int64_t item = property_int("item", (int64_t)key->min, most(key));
        if (key->type == CONFIG_BOOL_LIST)
            at += (size_t)snprintf(value + at, LINE - at, "%s%s", i > 0 ? ", " : "",
                                   item % 2 != 0 ? "true" : "false");
        else
            at += (size_t)snprintf(value + at, LINE - at, "%s%lld", i > 0 ? ", " : "",
                                   (long long)item);
    }
    (void)snprintf(value + at, LINE - at, "]");
}

/* A value as --set takes it. The table may refuse it (an open end of a range, lists that must
 * rise). */
static void draw_value(const struct config_key *key, char *value)
{
    switch (key->type) {
    case CONFIG_INT:
        (void)snprintf(value, LINE, "%lld",
                       (long long)property_int(key->path, (int64_t)key->min, most(key)));
        break;
    case CONFIG_REAL:
        (void)snprintf(value, LINE, "%.17g",
                       property_real(key->path, isfinite(key->min) ? key->min : -1e9,
                                     isfinite(key->max) ? key->max : 1e9) *
                           (property_int("tiny", 0, 1) ? 1e-7 : 1));
        break;
    case CONFIG_BOOL:
        (void)snprintf(value, LINE, "%s", property_int(key->path, 0, 1) ? "true" : "false");
        break;
    case CONFIG_ENUM: {
        int64_t count = 0;
        char name[LINE];
        while (config_choice(key->choices, count, name, sizeof name))
            count++;
        config_choice(key->choices, property_int(key->path, 0, count - 1), value, LINE);
        break;
    }
    case CONFIG_STRING:
        draw_text(value);
        break;
    case CONFIG_INT_LIST:
    case CONFIG_BOOL_LIST:
        draw_list(key, value);
        break;
    }
}

static bool every_key(const char *path)
{
    (void)path;
    return true;
}

static bool comes_back(void *context, char *why)
{
    bool pretty = property_int("pretty", 0, 1) == 1;
    struct config first, second;
    struct config_difference difference;
    struct error err;
    char *json;
    int64_t *changed = context;
    config_defaults(&first);
    int64_t changes = property_int("changes", 0, MOST_CHANGES);
    for (int64_t i = 0; i < changes; i++) {
        const struct config_key *key =
            &config_keys[property_int("key", 0, (int64_t)config_key_count - 1)];
        char value[LINE], line[2 * LINE];
        draw_value(key, value);
        (void)snprintf(line, sizeof line, "%s=%s", key->path, value);
        struct config tried = first;
        if (config_set(&tried, line, &err) == STATUS_OK) {
            first = tried;
            ++*changed;
        }
    }
    ASSERT_OK(config_to_json(&first, pretty, &json, &err));
    config_defaults(&second);
    enum status status = config_parse(&second, json, "drawn.json", &err);
    mem_free(json);
    if (status != STATUS_OK) {
        (void)snprintf(why, PROPERTY_WHY, "%.500s", err.text);
        return false;
    }
    ASSERT_OK(config_compare(&first, &second, every_key, &difference, &err));
    if (difference.path != NULL)
        (void)snprintf(why, PROPERTY_WHY, "%s: %.200s came back as %.200s", difference.path,
                       difference.a, difference.b);
    return difference.path == NULL;
}

static void test_comes_back(void **state)
{
    (void)state;
    int64_t changed = 0;
    assert_true(
        property_check("a configuration is read as it was written", 300, comes_back, &changed));
    assert_true(changed > 100); /* most of the values that were drawn are allowed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_comes_back)};
    return cmocka_run_group_tests_name("configuration properties", tests, NULL, NULL);
}
