/* What main.c knows of a subcommand. One file per subcommand defines one of these. */
#ifndef DEQ_CMD_CMD_H
#define DEQ_CMD_CMD_H

#include "base/status.h"

struct command {
    const char *name;    /* as typed: "tokenize" */
    const char *summary; /* one line for `deq help` */
    const char *usage;   /* the whole help text of the subcommand */
    /* argv[0] is the subcommand's name. Results go to stdout, everything else to stderr. main.c
     * prints the message of a failure as "deq NAME: text" and exits with the status. */
    enum status (*run)(int argc, char **argv, struct error *err);
};

#endif
