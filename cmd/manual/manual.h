/* Manual pages, made from the descriptions of commands and from the table of keys. */
#ifndef DEQ_CMD_MANUAL_MANUAL_H
#define DEQ_CMD_MANUAL_MANUAL_H

#include "cmd/cmd.h"
#include <stdio.h>

/* deq(1), which is about the program as a whole. */
void manual_overview(FILE *out);
/* The page of a subcommand, with all of its tools. */
void manual_command(const struct command *command, FILE *out);
/* deq-config(5), which describes every key. */
void manual_config(FILE *out);

#endif
