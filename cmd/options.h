/* The command lines of all subcommands: a table of options each. */
#ifndef DEQ_CMD_OPTIONS_H
#define DEQ_CMD_OPTIONS_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,   /* to: bool, set to true */
    OPTION_TEXT,   /* to: const char *; not empty unless `empty` says so */
    OPTION_LIST,   /* to: struct option_list; may be repeated */
    OPTION_INT,    /* to: int64_t, in decimal, min..max */
    OPTION_REAL,   /* to: double, finite, in decimal, low..high */
    OPTION_CHOICE, /* to: const char *, one of `choices` */
};

/* The most values of an option that may be repeated, of --threads and of --steps. */
enum { OPTION_LIST_MAX = 256, OPTION_THREADS_MAX = 4096, OPTION_STEPS_MAX = 100000 };

/* The choices of --split. */
#define OPTION_SPLITS "valid, test or train"

/* The values of an option that may be repeated. */
struct option_list {
    const char *text[OPTION_LIST_MAX]; /* borrows */
    int count;
};

/* An option and where its value goes; what is not given is left alone. */
struct option_rule {
    const char *name; /* without "--"; NULL ends an array of rules */
    enum option_kind kind;
    void *to;
    char letter; /* "-x" means the same; 0: none */
    bool empty;  /* TEXT: an empty value has a meaning */
    int64_t min, max;
    double low, high;
    const char *choices; /* "valid, test or train" */
};

#define OPTION(name_, kind_, to_, ...)                                \
    {                                                                 \
        .name = name_, .kind = OPTION_##kind_, .to = to_, __VA_ARGS__ \
    }

/* Reads all options of a subcommand (argv[0] is its name); operands are argv[*operand] to
 * argv[argc-1], which may have been moved there. STATUS_USAGE for an unknown option, with the
 * nearest known one, a missing or unwanted value, or one that its rule refuses. */
enum status options_read(const struct option_rule *rules, int argc, char **argv, int *operand,
                         struct error *err);
/* The same for a subcommand without operands. */
enum status options_read_all(const struct option_rule *rules, int argc, char **argv,
                             struct error *err);

#endif
