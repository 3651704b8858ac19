/* The program deq. Runs the subcommand that is named, prints its error and exits. */
#include "cmd/commands.h"
#include "cmd/complete.h"
#include "cmd/help.h"
#include "cmd/output.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef DEQ_VERSION
#define DEQ_VERSION "unknown"
#endif
#ifndef DEQ_DATE
#define DEQ_DATE "unknown"
#endif

static bool is_help_option(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* --help asks for help wherever it stands in front of "--". */
static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (is_help_option(argv[i]))
            return true;
    return false;
}

const char *deq_version(void)
{
    return DEQ_VERSION;
}

const char *deq_date(void)
{
    return DEQ_DATE;
}

static enum status print_version(int argc, char **argv, struct error *err)
{
    TRY(command_read(&command_version, NULL, argc, argv, NULL, err));
    printf("deq %s\n", DEQ_VERSION);
    return STATUS_OK;
}

/* It stands here because the build gives the version to this file alone. */
const struct command command_version = {
    .name = "version",
    .summary = "print the version",
    .description = "Prints the version of deq in one line, as --version does.",
    .run = print_version,
};

/* *name becomes the subcommand's, for the message of a failure. */
static enum status run(int argc, char **argv, const char **name, struct error *err)
{
    const struct command *command;
    int depth;
    if (argc < 2) {
        help_overview(stderr);
        return error_set(err, STATUS_USAGE, "want a subcommand");
    }
    if (is_help_option(argv[1])) {
        help_overview(stdout);
        return STATUS_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return print_version(1, argv, err);
    if (strcmp(argv[1], "--complete") == 0) { /* for shells */
        complete_print(argc - 2, argv + 2, stdout);
        return STATUS_OK;
    }
    enum status status = command_choose(&command, &depth, argc - 1, argv + 1, err);
    if (command != NULL)
        *name = command->parent != NULL ? command->parent : command->name;
    if (command != NULL && wants_help(argc - depth, argv + depth)) {
        help_print(command, stdout);
        return STATUS_OK;
    }
    return status == STATUS_OK ? command->run(argc - depth, argv + depth, err) : status;
}

/* Blocks up to this size stay with the process when they are freed. oneDNN's product asks for some
 * MiB to pack its factors in, in every call. If they went back to the system each time, it would
 * clear their pages again, which took a tenth of an evaluation. Left to itself, glibc raises both
 * limits to as much as 32 and 64 MiB, with every larger block that is freed. */
enum { KEPT_BYTES = 4 << 20 };

/* Occupies the descriptors 0 to 2 that are closed. A file of the run would get such a number, and
 * messages would go into it. They are opened so that every use still fails, as before. */
static void occupy_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* Prints what is left. Results that did not reach a full disk or a closed descriptor are a failure,
 * but a reader who has gone wanted no more. */
static enum status flush_results(enum status status, struct error *err)
{
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (!lost || status != STATUS_OK || output_reader_gone(STDOUT_FILENO))
        return status;
    return error_set(err, STATUS_IO, "cannot write to standard output: %s",
                     strerror(errno != 0 ? errno : EIO));
}

int main(int argc, char **argv)
{
    occupy_descriptors();
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    signal(SIGXFSZ, SIG_IGN); /* beyond ulimit -f a write fails, as on a full disk */
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves must not leave half-written files */
    const char *name = NULL;
    struct error err = {.status = STATUS_OK, .text = ""};
    enum status status = run(argc, argv, &name, &err);
    status = flush_results(status, &err);
    if (status != STATUS_OK) {
        const char *text = err.text[0] != '\0' ? err.text : status_text(status);
        if (name != NULL)
            fprintf(stderr, "deq %s: %s\n", name, text);
        else
            fprintf(stderr, "deq: %s\n", text);
    }
    return (int)status;
}
