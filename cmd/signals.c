/* A thread that waits for the signals that ask a run to stop. */
#include "cmd/signals.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static sigset_t stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGINT);
    return set;
}

static void say_how_to_stop_now(void)
{
    static const char text[] =
        "\nstopping after this step; Ctrl-C again stops at once, without saving\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

static void *watch(void *ctx)
{
    struct stop_watch *w = ctx;
    sigset_t wanted = stop_signals(), interrupt;
    int number;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    while (sigwait(&wanted, &number) == 0 && !atomic_load(&w->ended)) {
        if (number == SIGINT) {
            say_how_to_stop_now();
            sigdelset(&wanted, SIGINT);
            signal(SIGINT, SIG_DFL);
            pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
        }
        atomic_store(&w->asked, true);
    }
    return NULL;
}

enum status stop_watch_begin(struct stop_watch *w, struct error *err)
{
    sigset_t wanted = stop_signals(), before;
    atomic_init(&w->asked, false);
    atomic_init(&w->ended, false);
    pthread_sigmask(SIG_BLOCK, &wanted, &before);
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
    pthread_kill(w->thread, SIGUSR1); /* wakes it */
    pthread_join(w->thread, NULL);
}
