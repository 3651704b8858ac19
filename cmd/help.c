/* `deq help`: printed from the table of commands and from the table of configuration keys. */
#include "cmd/commands.h"

#include "base/mem.h"
#include "base/strdist.h"
#include "config/config.h"

#include <stdbool.h>
#include <string.h>

enum { MAX_NAMES = 64 };

static const char help_usage[] =
    "usage: deq help                        list the subcommands\n"
    "       deq help SUBCOMMAND             its options\n"
    "       deq help config [--markdown]    every key of a configuration file\n";

const struct command *command_find(const struct command *const *table, const char *name)
{
    for (; *table != NULL; table++)
        if (strcmp((*table)->name, name) == 0)
            return *table;
    return NULL;
}

enum status command_unknown(const struct command *const *table, const char *name, struct error *err)
{
    const char *names[MAX_NAMES] = {"help"};
    size_t count = 1;
    for (; *table != NULL && count < MAX_NAMES; table++)
        names[count++] = (*table)->name;
    const char *nearest = strdist_nearest(name, names, count);
    if (nearest == NULL)
        return error_set(err, STATUS_USAGE, "%.100s: unknown subcommand; deq help lists them",
                         name);
    return error_set(err, STATUS_USAGE, "%.100s: unknown subcommand; did you mean %s?", name,
                     nearest);
}

void help_overview(const struct command *const *table, FILE *out)
{
    fputs("deq trains, evaluates and samples deep equilibrium language models.\n\n"
          "usage: deq SUBCOMMAND [OPTION]...\n\n",
          out);
    for (; *table != NULL; table++)
        fprintf(out, "  %-10s %s\n", (*table)->name, (*table)->summary);
    fputs("  help       show the help of a subcommand, or of the configuration: deq help config\n"
          "\n  -h, --help     this help\n"
          "  -V, --version  the version\n\n"
          "Exit codes:\n",
          out);
#define X(name, code, text) fprintf(out, "  %3d  %s\n", code, text);
    STATUS_LIST(X)
#undef X
}

static enum status help_config(int argc, char **argv, struct error *err)
{
    bool markdown = argc == 1 && strcmp(argv[0], "--markdown") == 0;
    if (argc > (markdown ? 1 : 0))
        return error_set(err, STATUS_USAGE, "%.100s: unexpected; want deq help config [--markdown]",
                         argv[argc - 1]);
    char *text = NULL;
    TRY(config_reference(markdown, &text, err));
    fputs(text, stdout);
    mem_free(text);
    return STATUS_OK;
}

enum status help_run(const struct command *const *table, int argc, char **argv, struct error *err)
{
    if (argc < 2) {
        help_overview(table, stdout);
        return STATUS_OK;
    }
    const char *topic = argv[1];
    if (strcmp(topic, "config") == 0)
        return help_config(argc - 2, argv + 2, err);
    if (argc > 2)
        return error_set(err, STATUS_USAGE, "%.100s: unexpected; want one subcommand", argv[2]);
    if (strcmp(topic, "help") == 0 || strcmp(topic, "--help") == 0 || strcmp(topic, "-h") == 0) {
        fputs(help_usage, stdout);
        return STATUS_OK;
    }
    const struct command *command = command_find(table, topic);
    if (command == NULL)
        return command_unknown(table, topic, err);
    fputs(command->usage, stdout);
    return STATUS_OK;
}
