/* Finding a command and reading its command line, both by its description. */
#include "cmd/cmd.h"

#include "base/strdist.h"
#include "cmd/commands.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { NAMES_MAX = 64, LIST_BYTES = 256 };

static const struct option_rule no_options[] = {{0}};

#define X(name) &command_##name,
const struct command *const commands[] = {COMMAND_LIST(X) NULL};
#undef X

const struct command *command_find(const struct command *const *table, const char *name)
{
    for (; *table != NULL; table++)
        if (strcmp((*table)->name, name) == 0)
            return *table;
    return NULL;
}

/* How many operands "CHECKPOINT", "[FILE]" or "FILE..." allow. */
static void count_operands(const char *operands, int *least, int *most)
{
    *least = *most = 0;
    for (const char *p = operands; p != NULL && *p != '\0';) {
        size_t n = strcspn(p, " ");
        *least += *p != '[';
        if (n > 3 && strncmp(p + n - 3, "...", 3) == 0)
            *most = INT_MAX;
        else if (*most < INT_MAX)
            ++*most;
        p += n + strspn(p + n, " ");
    }
}

/* " (try deq help bench memory)" behind a message that a look at the help answers. */
static enum status add_help(const struct command *command, struct error *err)
{
    struct error what = *err;
    return error_set(err, what.status, "%s (try deq help %s%s%s)", what.text,
                     command->parent != NULL ? command->parent : "",
                     command->parent != NULL ? " " : "", command->name);
}

enum status command_read(const struct command *command, void *request, int argc, char **argv,
                         struct operands *operands, struct error *err)
{
    const struct option_rule *rules = command->options != NULL ? command->options : no_options;
    struct options_found found;
    int least, most;
    TRY(options_read(rules, request, argc, argv, &found, err));
    count_operands(command->operands, &least, &most);
    int count = argc - found.operand;
    if (count > most)
        return error_set(err, STATUS_USAGE, "unexpected \"%s\"%s%s", argv[found.operand + most],
                         command->stray != NULL ? ": " : "",
                         command->stray != NULL ? command->stray : "");
    if (count < least) {
        error_set(err, STATUS_USAGE, "want %s", command->operands);
        return add_help(command, err);
    }
    if (found.missing != NULL) {
        error_set(err, STATUS_USAGE, "want --%s %s", found.missing->name, found.missing->value);
        return add_help(command, err);
    }
    if (operands != NULL)
        *operands = (struct operands){.text = argv + found.operand, .count = count};
    return STATUS_OK;
}

/* "train, solve or memory" */
static void list_names(const struct command *const *table, char out[LIST_BYTES])
{
    size_t used = 0;
    out[0] = '\0';
    for (; *table != NULL && used < LIST_BYTES; table++)
        used += (size_t)snprintf(out + used, LIST_BYTES - used, "%s%s",
                                 used == 0          ? ""
                                 : table[1] == NULL ? " or "
                                                    : ", ",
                                 (*table)->name);
}

/* Complains about a name that is not in the table of subcommands. */
static enum status refuse_name(const char *name, struct error *err)
{
    const char *names[NAMES_MAX];
    size_t count = 0;
    for (; commands[count] != NULL && count < NAMES_MAX; count++)
        names[count] = commands[count]->name;
    const char *nearest = strdist_nearest(name, names, count);
    if (nearest == NULL)
        return error_set(err, STATUS_USAGE, "%.100s: unknown subcommand; deq help lists them",
                         name);
    return error_set(err, STATUS_USAGE, "%.100s: unknown subcommand; did you mean %s?", name,
                     nearest);
}

/* Complains about argv[1], which is no tool of the subcommand argv[0]. */
static enum status refuse_tool(const struct command *command, int argc, char **argv,
                               struct error *err)
{
    char list[LIST_BYTES];
    for (int i = 2; i < argc && argv[1][0] == '-'; i++)
        if (command_find(command->tools, argv[i]) != NULL)
            return error_set(err, STATUS_USAGE, "%s goes before its options: deq %s %s ...",
                             argv[i], command->name, argv[i]);
    list_names(command->tools, list);
    error_set(err, STATUS_USAGE, "want one of %s%s%.100s%s", list, argc > 1 ? ", got \"" : "",
              argc > 1 ? argv[1] : "", argc > 1 ? "\"" : "");
    return add_help(command, err);
}

enum status command_choose(const struct command **out, int *depth, int argc, char **argv,
                           struct error *err)
{
    *depth = 1;
    *out = command_find(commands, argv[0]);
    if (*out == NULL)
        return refuse_name(argv[0], err);
    if ((*out)->tools == NULL)
        return STATUS_OK;
    const struct command *tool = argc > 1 ? command_find((*out)->tools, argv[1]) : NULL;
    if (tool == NULL)
        return refuse_tool(*out, argc, argv, err);
    *out = tool;
    *depth = 2;
    return STATUS_OK;
}
