/* The tools of deq bench, in the order in which its help lists them. To add one, define `const
 * struct command bench_tool_NAME` in a file of its own and add its line here. */
#ifndef DEQ_CMD_BENCH_TOOLS_H
#define DEQ_CMD_BENCH_TOOLS_H

#include "cmd/cmd.h"

#define BENCH_TOOL_LIST(X) \
    X(train)               \
    X(solve)               \
    X(memory)              \
    X(runtime)             \
    X(growth)              \
    X(gradient)

#define X(name) extern const struct command bench_tool_##name;
BENCH_TOOL_LIST(X)
#undef X

#endif
