/* Asks the environment, and Slurm, about the processes beside this one and the end of its job. */
#include "cmd/launcher.h"

#include "base/clock.h"
#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SQUEUE_MS = 10000 };
/* A process that lives may work alone for this many times the silence that ends a group. With 60 s
 * it is half an hour, for a checkpoint on a slow file system. */
static const double STALLS = 30;

/* --- the group
 * ------------------------------------------------------------------------------------ */

/* How many processes a launcher started, as dist_open wants it. */
static int launched(void)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *text = getenv(sizes[i]);
        if (text != NULL && atoi(text) > 0)
            return atoi(text);
    }
    /* srun --mpi=pmix tells a process its rank but not how many there are. */
    return getenv("PMIX_RANK") != NULL ? -1 : 0;
}

/* Called by a thread of its own, which may come into the middle of a line of progress. */
static void end_all(void *command, struct dist *d, const char *text)
{
    fprintf(stderr, "%sdeq %s: %s\n", isatty(STDERR_FILENO) ? "\n" : "", (const char *)command,
            text);
    dist_abort(d, STATUS_DEVICE);
}

enum status launcher_join(const char *command, double silence, struct dist **out, struct error *err)
{
    struct error why;
    enum status status = dist_open(out, launched(), &why);
    if (status == STATUS_OK)
        status = dist_watch(*out, silence, STALLS * silence, end_all, (void *)command, &why);
    if (status == STATUS_OK)
        return STATUS_OK;
    if (*out != NULL)
        return launcher_leave(*out, command, status, &why);
    *err = why;
    return status;
}

enum status launcher_leave(struct dist *d, const char *command, enum status status,
                           struct error *err)
{
    if (d == NULL)
        return status;
    bool failed = status != STATUS_OK && status != STATUS_STOPPED;
    if (failed && err->text[0] != '\0') {
        fprintf(stderr, "deq %s: process %d of %d: %s\n", command, dist_rank(d), dist_size(d),
                err->text);
        dist_abort(d, status);
    }
    bool first = dist_rank(d) == 0;
    dist_close(d);
    return first ? status : STATUS_OK;
}

/* --- the end of the job
 * --------------------------------------------------------------------------- */

/* Seconds of a time that Slurm writes as [[days-]hours:]minutes:seconds, or -1 for words such as
 * UNLIMITED. */
static double slurm_seconds(const char *text)
{
    static const double unit[] = {1, 60, 3600};
    double part[3] = {0}, days = 0, total = 0;
    int count = 0;
    char *end;
    const char *p = text;
    while (count < 3 && isdigit((unsigned char)*p)) {
        part[count++] = (double)strtoul(p, &end, 10);
        p = end;
        if (*p == '-' && count == 1 && days == 0) {
            days = part[0];
            count = 0;
        } else if (*p != ':') {
            break;
        }
        p++;
    }
    if (count == 0 || (*p != '\0' && *p != '\n'))
        return -1;
    for (int i = 0; i < count; i++) /* after days the first part is hours */
        total += part[i] * (days > 0 ? unit[2 - i] : unit[count - 1 - i]);
    return days * 86400 + total;
}

/* Reads what squeue prints into text[size]. Returns false if it prints nothing in time. */
static bool read_answer(int fd, char *text, size_t size)
{
    size_t used = 0;
    double until = clock_seconds() + SQUEUE_MS / 1000.0;
    while (used < size - 1) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int left = (int)(1000 * (until - clock_seconds()));
        if (left <= 0 || poll(&wait, 1, left) <= 0)
            return false;
        ssize_t n = read(fd, text + used, size - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    text[used] = '\0';
    return used > 0;
}

/* Asks squeue for the time that the job has left, as text. */
static bool ask_squeue(const char *job, char *text, size_t size)
{
    char *const argv[] = {"squeue", "-h", "-o", "%L", "-j", (char *)job, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int ends[2];
    pid_t pid;
    if (pipe(ends) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes); /* this program blocks signals that must reach squeue */
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    bool there = posix_spawnp(&pid, "squeue", &actions, &attributes, argv, environ) == 0;
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    bool answered = there && read_answer(ends[0], text, size);
    close(ends[0]);
    if (there && !answered)
        kill(pid, SIGKILL);
    if (there)
        waitpid(pid, NULL, 0);
    return answered;
}

double launcher_job_end(void)
{
    const char *end = getenv("SLURM_JOB_END_TIME"), *job = getenv("SLURM_JOB_ID");
    char text[64], *rest;
    double left = -1;
    if (end != NULL && *end != '\0') {
        double at = strtod(end, &rest);
        if (*rest == '\0' && at > 0)
            left = fmax(at - (double)time(NULL), 1);
    }
    if (left < 0 && job != NULL && ask_squeue(job, text, sizeof text))
        left = slurm_seconds(text);
    return left < 0 ? 0 : clock_seconds() + left;
}
