/* How a subcommand describes itself. What reads a command line, prints help, and later writes
 * manual pages and completions, all work from this description.
 *
 * A subcommand defines one `const struct command` in a file of its own, and commands.h lists it. */
#ifndef DEQ_CMD_CMD_H
#define DEQ_CMD_CMD_H

#include "base/status.h"
#include "cmd/options.h"

/* A field of the object that --json prints. A table of them ends with a name of NULL. */
struct json_field {
    const char *name; /* as "ppl", or "rows[]" for an array */
    const char *help; /* sentences with the unit, or "Only ..." where the field may be missing */
};

/* What a command reads or leaves behind. A table of them ends with a name of NULL. */
struct command_file {
    const char *name; /* as "RUN/log.jsonl", where words in capitals stand for names */
    const char *help;
};

/* All texts are plain ASCII and are wrapped when they are printed. What a command does not have is
 * NULL. Arrays of pointers end with NULL. */
struct command {
    const char *name;     /* as typed, "tokenize" */
    const char *parent;   /* of a tool, "bench" */
    const char *summary;  /* one line for lists, which begins in lower case */
    const char *operands; /* "CHECKPOINT", "[FILE]" if it may be missing, "FILE..." for several */
    const char *stray;    /* what to do about operands that are too many */
    /* What may follow the name in the usage. Without it, operands and required options do. */
    const char *const *forms;
    const char *description; /* sentences, where a newline ends a paragraph */
    const struct option_rule *options;
    const char *notes; /* as the description, printed behind the options */
    const struct json_field *json;
    const struct command_file *files; /* for the manual */
    const char *const *examples;      /* whole command lines, which the tests try */
    /* A command with tools only chooses among them, and has neither options nor `run`. */
    const struct command *const *tools;
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
 * refuses, for too few or too many operands, and for a required option that is missing. */
enum status command_read(const struct command *command, void *request, int argc, char **argv,
                         struct operands *operands, struct error *err);

/* The command of that name in a table that ends with NULL, or NULL. */
const struct command *command_find(const struct command *const *table, const char *name);

/* Follows argv[0] into a table of subcommands and, where that one has tools, argv[1] into those.
 * *depth is the number of words that were names. STATUS_USAGE with a message that names the nearest
 * command, lists the tools, or says where the name of a tool belongs. *out is then the subcommand
 * whose tool was not found, or NULL. */
enum status command_choose(const struct command **out, int *depth, int argc, char **argv,
                           struct error *err);

#endif
