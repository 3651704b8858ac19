/* The signals that ask a run to save and stop.
 *
 * They are those that end a process unless it does something about them: a batch system's SIGTERM,
 * SIGUSR1, SIGUSR2 and SIGXCPU, the SIGHUP of a connection that breaks off, and Ctrl-C.
 *
 * They are blocked everywhere, and a thread of their own waits for them, so that none ever
 * interrupts a computation. In oneDNN before 3.12 the stack pointer of a float32 product lies
 * inside the heap for a while. What the system puts on the stack for a handler would destroy what
 * lies below (oneDNN issue 4845). */
#ifndef DEQ_CMD_SIGNALS_H
#define DEQ_CMD_SIGNALS_H

#include "base/status.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

struct stop_watch {
    atomic_bool asked; /* a signal has come */
    atomic_bool ended;
    sigset_t signals;             /* that are waited for */
    _Atomic(const char *) folder; /* borrows, where a process that ends at once removes its
                                     temporary files, or NULL */
    pthread_t thread;
};

/* Starts to watch. It must be called before any other thread starts, since threads inherit what is
 * blocked. A signal that is ignored when the program starts stays ignored, as nohup wants it.
 *
 * A second SIGINT, SIGTERM, SIGHUP or SIGQUIT ends the process at once. For all but Ctrl-C it
 * counts only half a second later, since timeout(1), terminals and launchers send theirs twice. The
 * others are notices, which may be repeated. The system sends SIGXCPU every second. STATUS_IO if no
 * thread can be started, and then nothing has changed. */
enum status stop_watch_begin(struct stop_watch *w, struct error *err);
/* Ends the thread. The signals stay blocked, so that one that comes late does not change how the
 * process ends. */
void stop_watch_end(struct stop_watch *w);

#endif
