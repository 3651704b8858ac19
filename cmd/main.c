/* deq: the table of subcommands, and what becomes of their result. */
#include "cmd/commands.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#ifndef DEQ_VERSION
#define DEQ_VERSION "0.1.0"
#endif

static const struct command *const commands[] = {
    &command_tokenize, &command_train,  &command_eval,  &command_sample,
    &command_info,     &command_verify, &command_bench, &command_plan,
    &command_export,   &command_import, NULL,
};

static bool is_help_option(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* `deq SUB ... --help` anywhere in front of "--" asks for the help of SUB. */
static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (is_help_option(argv[i]))
            return true;
    return false;
}

static enum status run(int argc, char **argv, const char **name, struct error *err)
{
    if (argc < 2) {
        help_overview(commands, stderr);
        return error_set(err, STATUS_USAGE, "want a subcommand");
    }
    if (is_help_option(argv[1])) {
        help_overview(commands, stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("deq %s\n", DEQ_VERSION);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "help") == 0) {
        *name = "help";
        return help_run(commands, argc - 1, argv + 1, err);
    }
    const struct command *command = command_find(commands, argv[1]);
    if (command == NULL)
        return command_unknown(commands, argv[1], err);
    *name = command->name;
    if (wants_help(argc - 1, argv + 1)) {
        fputs(command->usage, stdout);
        return STATUS_OK;
    }
    return command->run(argc - 1, argv + 1, err);
}

/* Blocks up to this size that are freed stay with the process. oneDNN's product asks for some MiB
 * to pack its factors in, anew in every call; given back each time, their pages are cleared again
 * by the system, which was a tenth of an evaluation. Left to itself, glibc raises both limits to as
 * much as 32 and 64 MiB, with every larger block that is freed. */
enum { KEPT_BYTES = 4 << 20 };

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    signal(SIGXFSZ, SIG_IGN); /* beyond ulimit -f a write fails, as on a full disk */
    const char *name = NULL;
    struct error err = {.status = STATUS_OK, .text = ""};
    enum status status = run(argc, argv, &name, &err);
    /* results that did not reach a full disk or a closed descriptor are a failure */
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (lost && status == STATUS_OK)
        status = error_set(&err, STATUS_IO, "cannot write to standard output: %s",
                           strerror(errno != 0 ? errno : EIO));
    if (status != STATUS_OK) {
        const char *text = err.text[0] != '\0' ? err.text : status_text(status);
        if (name != NULL)
            fprintf(stderr, "deq %s: %s\n", name, text);
        else
            fprintf(stderr, "deq: %s\n", text);
    }
    return (int)status;
}
