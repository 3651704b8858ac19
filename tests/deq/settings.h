/* Configurations of tests, from lists of "key=value" that end with NULL. */
#ifndef DEQ_TESTS_DEQ_SETTINGS_H
#define DEQ_TESTS_DEQ_SETTINGS_H

#include "base/assert_ok.h"
#include "config/config.h"

#define SET(...) ((const char *const[]){__VA_ARGS__, NULL})

static inline void config_change(struct config *c, const char *const *set)
{
    struct error err;
    for (; *set != NULL; set++)
        assert_ok(config_set(c, *set, &err), &err);
}

/* The defaults, changed by `common` and then by `set`. */
static inline struct config config_unresolved(const char *const *common, const char *const *set)
{
    struct config c;
    config_defaults(&c);
    config_change(&c, common);
    config_change(&c, set);
    return c;
}

/* The same, resolved for a vocabulary of that many words. */
static inline struct config config_of(int64_t vocab, const char *const *common,
                                      const char *const *set)
{
    struct error err;
    struct config c = config_unresolved(common, set);
    assert_ok(config_resolve(&c, vocab, &err), &err);
    return c;
}

#endif
