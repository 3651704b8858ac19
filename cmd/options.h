/* The options of a command line. A table of rules says what may stand there, what each option means
 * to a reader, and where its value goes.
 *
 * A rule names its target by an offset into the command's `struct request`. Tables are therefore
 * constant, and the help of a command can be printed without running it. */
#ifndef DEQ_CMD_OPTIONS_H
#define DEQ_CMD_OPTIONS_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Only a LIST may be given more than once. */
enum option_kind {
    OPTION_FLAG,   /* bool, set to true */
    OPTION_TEXT,   /* const char *, not empty unless `empty` says so */
    OPTION_LIST,   /* struct option_list */
    OPTION_INT,    /* int64_t, in decimal, min..max */
    OPTION_REAL,   /* double, finite, in decimal, low..high */
    OPTION_CHOICE, /* const char *, one of `choices` */
    OPTION_TIME,   /* double, seconds above 0, given as 90s, 45m, 3h30m or plain seconds */
};

/* The most values of a LIST, the most processor threads and the most steps that may be asked for.
 */
enum { OPTION_LIST_MAX = 256, OPTION_THREADS_MAX = 4096, OPTION_STEPS_MAX = 100000 };

/* The values of an option that may be repeated. */
struct option_list {
    const char *text[OPTION_LIST_MAX]; /* borrows */
    int count;
};

/* One option. What it does not have is NULL or 0. A table of rules ends with a name of NULL. */
struct option_rule {
    const char *name; /* without "--" */
    enum option_kind kind;
    size_t offset;       /* of the target in the request */
    char letter;         /* "-x" means the same */
    const char *group;   /* the heading under which the help lists this option and the next ones */
    const char *value;   /* what the help calls the value, as "FILE" */
    const char *help;    /* sentences, wrapped when they are printed */
    const char *initial; /* the default as one would type it, put into the request at first */
    const char *unset; /* in words, what holds without the option, where `initial` cannot say it */
    bool required;     /* the command does nothing without it */
    bool empty;        /* an empty TEXT has a meaning */
    bool bare;         /* the value may be missing, and is then an empty TEXT */
    int64_t min, max;  /* of an INT */
    double low, high;  /* of a REAL */
    /* All that a CHOICE may be, as "valid, test or train". Of a TEXT, words that a shell completes.
     */
    const char *choices;
};

/* Makes a rule whose value goes to `member_` of `struct request`. A member whose type does not fit
 * the kind does not compile. */
#define OPTION(name_, kind_, member_, ...)                                              \
    {                                                                                   \
        .name = name_, .kind = OPTION_##kind_,                                          \
        .offset = offsetof(struct request, member_) *                                   \
                  _Generic(&((struct request *)0)->member_, OPTION_TYPE_##kind_ * : 1), \
        __VA_ARGS__                                                                     \
    }
#define OPTION_TYPE_FLAG bool
#define OPTION_TYPE_TEXT const char *
#define OPTION_TYPE_LIST struct option_list
#define OPTION_TYPE_INT int64_t
#define OPTION_TYPE_REAL double
#define OPTION_TYPE_CHOICE const char *
#define OPTION_TYPE_TIME double

/* Options of several commands. The target is the member of the same name. */
#define OPTION_CONFIG(...)                                                                   \
    OPTION("config", TEXT, config, .value = "FILE",                                          \
           .help = "The configuration to use. A bare NAME also stands for NAME.json, here, " \
                   "in ./configs or among the installed presets.",                           \
           __VA_ARGS__)
#define OPTION_PRESET                                                                          \
    OPTION("preset", TEXT, preset, .value = "NAME", .choices = "auto, small, medium or large", \
           .help = "A configuration by its budget on 2 cores: small for minutes, medium for "  \
                   "an hour, large for a night, or auto, which chooses by the size of the "    \
                   "text. Sizes that depend on the text follow from it.",                      \
           .unset = "auto, without a configuration")
#define OPTION_SET(more_)                                                                   \
    OPTION("set", LIST, set, .value = "KEY=VALUE",                                          \
           .help = "Changes a key of the configuration, as in --set train.lr=5e-4. May be " \
                   "repeated." more_)
#define OPTION_DEVICE(initial_)                                                         \
    OPTION("device", CHOICE, device, .value = "NAME", .initial = initial_,              \
           .choices = "auto, cpu, cuda or ref",                                         \
           .help = "Where to compute. auto takes cuda where a GPU can be used and cpu " \
                   "otherwise. ref is slow and computes in float64.")
#define OPTION_THREADS                                                                 \
    OPTION("threads", INT, threads, .value = "N", .min = 1, .max = OPTION_THREADS_MAX, \
           .help = "Processor threads.", .unset = "OMP_NUM_THREADS, or all")
#define OPTION_SPLIT(member_, initial_)                                                  \
    OPTION("split", CHOICE, member_, .value = "NAME", .choices = "valid, test or train", \
           .help = "The split of the data, which is valid, test or train.", .initial = initial_)
#define OPTION_JSON            \
    OPTION("json", FLAG, json, \
           .help = "Prints one JSON object as the last line. Its fields are listed below.")

/* What options_read leaves to the caller. */
struct options_found {
    int operand; /* operands are argv[operand] to argv[argc-1], where they may have been moved */
    const struct option_rule *missing; /* the first required option that was not given, or NULL */
};

/* Finds the next word of "a, b or c" at or behind `at`. Returns where it begins, or NULL. */
const char *options_choice(const char *at, size_t *length);

/* Puts the defaults of the rules into `request` and then the options of the command line. argv[0]
 * is the command's name. STATUS_USAGE for an unknown option, with the nearest known one, for one
 * given twice that is no LIST, for a missing or unwanted value, and for one that the rule refuses.
 */
enum status options_read(const struct option_rule *rules, void *request, int argc, char **argv,
                         struct options_found *found, struct error *err);

#endif
