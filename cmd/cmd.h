/* How a subcommand describes itself. What reads a command line, prints help, and later writes
 * manual pages and completions, all work from this description.
 *
 * A subcommand defines one `const struct command` in a file of its own, and commands.h lists it. */
#ifndef DEQ_CMD_CMD_H
#define DEQ_CMD_CMD_H

#include "base/status.h"
#include "cmd/options.h"

/* A field of the object that --json prints. */
struct json_field {
    const char *name; /* as "ppl", or "rows[]" for an array; NULL ends a table */
    const char *help; /* sentences with the unit; "Only ..." where the field may be missing */
};

struct command {
    const char *name;         /* as typed, "tokenize" */
    const char *parent;       /* "bench" for a tool of it; NULL for a subcommand */
    const char *summary;      /* one line for lists, a verb phrase in lower case */
    const char *operands;     /* "CHECKPOINT", "[FILE]", "FILE..."; NULL for none */
    const char *stray;        /* a remedy for operands that are too many; NULL for none */
    const char *const *forms; /* what may follow the name, where operands and required options
                               * do not say it all; ended by NULL; NULL for the usual form */
    const char *description;  /* sentences; a newline ends a paragraph */
    const struct option_rule *options; /* NULL for none */
    const char *notes;                 /* printed behind the options, in the same manner; or NULL */
    const struct json_field *json;     /* what --json prints; NULL for a command without it */
    const char *const *examples;       /* whole command lines, ended by NULL; or NULL */
    /* A command with tools only chooses among them: it has no options and no `run`. */
    const struct command *const *tools; /* ended by NULL; or NULL */
    /* argv[0] is the command's name. Results go to stdout, everything else to stderr. main.c prints
     * the message of a failure as "deq NAME: text" and exits with the status. */
    enum status (*run)(int argc, char **argv, struct error *err);
};

/* The operands of a command line. */
struct operands {
    char **text; /* borrows from argv */
    int count;
};

/* Reads argv by the description of `command` into its request, which starts as the caller filled
 * it. `operands` may be NULL for a command without any. STATUS_USAGE for whatever options_read
 * refuses and for too few or too many operands. */
enum status command_read(const struct command *command, void *request, int argc, char **argv,
                         struct operands *operands, struct error *err);

/* The command of that name in a table that ends with NULL, or NULL. */
const struct command *command_find(const struct command *const *table, const char *name);

/* Follows argv[0] into a table of subcommands and, where that one has tools, argv[1] into those.
 * *depth is the number of words that were names. STATUS_USAGE with a message that names the nearest
 * command, lists the tools, or says where the name of a tool belongs; *out is then the subcommand
 * whose tool was not found, or NULL. */
enum status command_choose(const struct command **out, int *depth, int argc, char **argv,
                           struct error *err);

#endif
