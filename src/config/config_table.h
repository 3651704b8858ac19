/* The table that defines every key of the configuration. */
#ifndef DEQ_CONFIG_CONFIG_TABLE_H
#define DEQ_CONFIG_CONFIG_TABLE_H

#include "config/config.h"
#include <stddef.h>

enum config_type {
    CONFIG_INT,    /* int64_t */
    CONFIG_REAL,   /* double */
    CONFIG_BOOL,   /* bool */
    CONFIG_ENUM,   /* an enum of the size of int, whose value is min plus the index in `choices` */
    CONFIG_STRING, /* char [CONFIG_MAX_PATH] */
    CONFIG_INT_LIST,  /* struct config_list */
    CONFIG_BOOL_LIST, /* struct config_list of 0 and 1 */
};

/* Which ends of min..max are themselves not allowed. */
enum config_open { CONFIG_CLOSED = 0, CONFIG_OPEN_MIN = 1, CONFIG_OPEN_MAX = 2 };

struct config_key {
    const char *path; /* at most three parts, as in "solver.forward.method" */
    enum config_type type;
    size_t offset;            /* in struct config */
    double initial;           /* default of numbers, booleans and enums */
    const char *initial_text; /* default of strings. Lists are empty by default */
    double min, max; /* of each number. With max INFINITY only 2^53 limits integers. The min of
                        an enum is the value of its first choice */
    enum config_open open;
    const char *choices; /* of enums in the order of the C enum, as in "layer|rms" */
    const char *unit;    /* "" if it has none */
    const char *meaning; /* one line */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* The key of that path, or NULL. */
const struct config_key *config_find_key(const char *path);
/* The known path nearest to a wrong one. Its last part counts first, then its section. Never NULL.
 */
const char *config_nearest_key(const char *path);
enum { CONFIG_SECTION_MAX = 64 };
/* Writes the known section, as in "solver.forward", that is nearest to a wrong one. */
void config_nearest_section(const char *path, char out[CONFIG_SECTION_MAX]);
/* Whether any key lies below this path. */
bool config_is_section(const char *path);

/* Writes choice number `index` of "a|b|c" into out[size]. Returns false if there is none. */
bool config_choice(const char *choices, int64_t index, char *out, size_t size);
/* Index of a choice, or -1. */
int64_t config_choice_index(const char *choices, const char *name);
/* The name of a type, as "integer". */
const char *config_type_text(enum config_type type);
/* Writes the default as JSON has it. */
void config_initial_text(const struct config_key *key, char *out, size_t size);
/* Writes the range in words, as in "1..64", "0 <= x < 1", "x > 0", "layer or rms". */
void config_range_text(const struct config_key *key, char *out, size_t size);

#endif
