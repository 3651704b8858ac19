/* The subcommands of deq, in the order in which `deq help` lists them. To add one, define
 * `const struct command command_NAME` in a file of its own and add its line here. */
#ifndef DEQ_CMD_COMMANDS_H
#define DEQ_CMD_COMMANDS_H

#include "cmd/cmd.h"

#define COMMAND_LIST(X) \
    X(tokenize)         \
    X(train)            \
    X(eval)             \
    X(score)            \
    X(sample)           \
    X(info)             \
    X(verify)           \
    X(bench)            \
    X(plan)             \
    X(export)           \
    X(import)           \
    X(average)          \
    X(report)           \
    X(help)             \
    X(version)

#define X(name) extern const struct command command_##name;
COMMAND_LIST(X)
#undef X

/* The version of the program and the day of its sources, which main.c knows. */
const char *deq_version(void);
const char *deq_date(void);

/* All of them, ended by NULL. */
extern const struct command *const commands[];

#endif
