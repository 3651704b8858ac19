/* Help, printed from the descriptions of commands. */
#ifndef DEQ_CMD_HELP_H
#define DEQ_CMD_HELP_H

#include "cmd/cmd.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The whole help of a subcommand or a tool, in lines of at most 80 columns. */
void help_print(const struct command *command, FILE *out);
/* Writes the way number `index` to call a command, as in "deq train RUN [OPTION]...". False if it
 * has not so many. */
bool help_form(const struct command *command, int index, char *out, size_t size);
/* Writes what an option does, and its default. */
void help_option_text(const struct option_rule *rule, char *out, size_t size);
/* Prints the list of subcommands and the exit codes, as `deq help` does. */
void help_overview(FILE *out);

#endif
