/* Help, printed from the descriptions of commands. */
#ifndef DEQ_CMD_HELP_H
#define DEQ_CMD_HELP_H

#include "cmd/cmd.h"
#include <stdio.h>

/* The whole help of a subcommand or a tool, in lines of at most 80 columns. */
void help_print(const struct command *command, FILE *out);
/* Prints the list of subcommands and the exit codes, as `deq help` does. */
void help_overview(FILE *out);

#endif
