/* A thread that waits for the signals that ask a run to stop. */
#include "cmd/signals.h"

#include "base/atomic_file.h"
#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Seconds within which signals of one kind are one request. */
static const double ECHO_SECONDS = 0.5;

static const int stop_signals[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP, SIGUSR1,
                                   SIGUSR2, SIGXCPU, SIGALRM, SIGPWR};
enum { STOP_SIGNALS = sizeof stop_signals / sizeof *stop_signals };

/* Whether the signal was ignored when the program started. A shell without job control does so with
 * SIGINT and SIGQUIT for all it starts in the background, where kill -INT must still work. */
static bool is_ignored(int number)
{
    struct sigaction now;
    return number != SIGINT && number != SIGQUIT && sigaction(number, NULL, &now) == 0 &&
           now.sa_handler == SIG_IGN;
}

/* Whether a second signal of this kind wants the end at once. */
static bool is_demand(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

static void say_how_to_stop_now(void)
{
    static const char text[] =
        "\nstopping after this step; Ctrl-C again stops at once, without saving\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

/* Removes the temporary files of this process, which carry its number. */
static void remove_temporary(const char *folder)
{
    char mark[64];
    int n = snprintf(mark, sizeof mark, ATOMIC_FILE_MARK "%ld-", (long)getpid());
    DIR *dir = n > 0 && folder != NULL ? opendir(folder) : NULL;
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strstr(entry->d_name, mark) != NULL)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

/* Ends the process by the signal, as if nobody had waited for it. */
static void end_now(const struct stop_watch *w, int number)
{
    sigset_t one;
    remove_temporary(atomic_load(&w->folder));
    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

static void *watch(void *ctx)
{
    struct stop_watch *w = ctx;
    double asked[NSIG] = {0}; /* by clock_seconds, when a signal came first */
    int number;
    while (sigwait(&w->signals, &number) == 0 && !atomic_load(&w->ended)) {
        double now = clock_seconds(), echo = number == SIGINT ? 0 : ECHO_SECONDS;
        if (asked[number] > 0 && is_demand(number) && now - asked[number] >= echo)
            end_now(w, number);
        if (asked[number] > 0)
            continue;
        asked[number] = now;
        if (number == SIGINT)
            say_how_to_stop_now();
        atomic_store(&w->asked, true);
    }
    return NULL;
}

enum status stop_watch_begin(struct stop_watch *w, struct error *err)
{
    sigset_t before;
    atomic_init(&w->asked, false);
    atomic_init(&w->ended, false);
    atomic_init(&w->folder, NULL);
    sigemptyset(&w->signals);
    for (int i = 0; i < STOP_SIGNALS; i++)
        if (!is_ignored(stop_signals[i]))
            sigaddset(&w->signals, stop_signals[i]);
    pthread_sigmask(SIG_BLOCK, &w->signals, &before);
    if (pthread_create(&w->thread, NULL, watch, w) != 0) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return error_set(err, STATUS_IO,
                         "cannot start a thread: the system allows no more (ulimit -u)");
    }
    return STATUS_OK;
}

void stop_watch_end(struct stop_watch *w)
{
    atomic_store(&w->ended, true);
    pthread_kill(w->thread, SIGINT); /* wakes it */
    pthread_join(w->thread, NULL);
}
