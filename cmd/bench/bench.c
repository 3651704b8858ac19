/* deq bench and the list of its tools. */
#include "cmd/bench/tools.h"
#include "cmd/commands.h"

#define X(name) &bench_tool_##name,
static const struct command *const tools[] = {BENCH_TOOL_LIST(X) NULL};
#undef X

const struct command command_bench = {
    .name = "bench",
    .summary = "measure speed and memory beside the machine's limits",
    .forms = (const char *const[]){"TOOL [OPTION]...", NULL},
    .description = "Measures how fast training and evaluation are, how much memory they take, and "
                   "how near that is to what the machine can do. `deq help bench TOOL` prints the "
                   "options of a tool. The tools are:",
    .tools = tools,
};
