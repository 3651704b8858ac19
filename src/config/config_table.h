/* The one table behind the configuration: every key, its type, default, range, unit and meaning. */
#ifndef DEQ_CONFIG_CONFIG_TABLE_H
#define DEQ_CONFIG_CONFIG_TABLE_H

#include "config/config.h"
#include <stddef.h>

enum config_type {
    CONFIG_INT,       /* int64_t */
    CONFIG_REAL,      /* double */
    CONFIG_BOOL,      /* bool */
    CONFIG_ENUM,      /* an enum of the size of int: min + index in `choices` */
    CONFIG_STRING,    /* char [CONFIG_MAX_PATH] */
    CONFIG_INT_LIST,  /* struct config_list */
    CONFIG_BOOL_LIST, /* struct config_list of 0 and 1 */
};

/* Which ends of min..max are themselves not allowed. */
enum config_open { CONFIG_CLOSED = 0, CONFIG_OPEN_MIN = 1, CONFIG_OPEN_MAX = 2 };

struct config_key {
    const char *path; /* "solver.forward.method": at most three parts */
    enum config_type type;
    size_t offset;            /* in struct config */
    double initial;           /* default of numbers, truth values and enums */
    const char *initial_text; /* default of strings; lists are empty by default */
    double min, max;          /* of each number; max INFINITY: no upper limit but 2^53. An enum's
                                 min is the value of the first choice */
    enum config_open open;
    const char *choices; /* enums: "picard|anderson|broyden", in the order of the C enum */
    const char *unit;    /* "" if it has none */
    const char *meaning; /* one line */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* The key of that path, or NULL. */
const struct config_key *config_find_key(const char *path);
/* The known path nearest to a wrong one: by its last part first, then by its section. Never NULL.
 */
const char *config_nearest_key(const char *path);
enum { CONFIG_SECTION_MAX = 64 };
/* The known section ("solver.forward") nearest to a wrong one. */
void config_nearest_section(const char *path, char out[CONFIG_SECTION_MAX]);
/* Does any key lie below this path ("solver.forward")? */
bool config_is_section(const char *path);

/* Number `index` of choices "a|b|c" into out[size]; false if there is none. */
bool config_choice(const char *choices, int64_t index, char *out, size_t size);
/* Index of a choice, or -1. */
int64_t config_choice_index(const char *choices, const char *name);
/* The range in words: "1..64", "0 <= x < 1", "x > 0", "picard, anderson or broyden". */
void config_range_text(const struct config_key *key, char *out, size_t size);

#endif
