/* The subcommands of deq. To add one: define it in its own file, declare it here, and add a line
 * to the table in main.c. */
#ifndef DEQ_CMD_COMMANDS_H
#define DEQ_CMD_COMMANDS_H

#include "cmd/cmd.h"
#include <stdio.h>

extern const struct command command_tokenize;
extern const struct command command_train;
extern const struct command command_eval;
extern const struct command command_sample;
extern const struct command command_bench;
extern const struct command command_plan;
extern const struct command command_info;
extern const struct command command_verify;
extern const struct command command_export;
extern const struct command command_import;

/* `table` is that of main.c, ended by NULL. The command of that name, or NULL. */
const struct command *command_find(const struct command *const *table, const char *name);
/* STATUS_USAGE with a message that names the nearest command. */
enum status command_unknown(const struct command *const *table, const char *name,
                            struct error *err);

/* `deq help [SUBCOMMAND | config [--markdown]]`: argv[0] is "help". */
enum status help_run(const struct command *const *table, int argc, char **argv, struct error *err);
/* The list of subcommands. */
void help_overview(const struct command *const *table, FILE *out);

#endif
