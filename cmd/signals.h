/* The signals that ask a run to save and stop, which are SIGTERM, SIGUSR1 and Ctrl-C.
 *
 * They are blocked everywhere, and a thread of their own waits for them, so that none ever
 * interrupts a computation. In oneDNN before 3.12 the stack pointer of a float32 product lies
 * inside the heap for a while. What the system puts on the stack for a handler would destroy what
 * lies below (oneDNN issue 4845). */
#ifndef DEQ_CMD_SIGNALS_H
#define DEQ_CMD_SIGNALS_H

#include "base/status.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct stop_watch {
    atomic_bool asked; /* a signal has come */
    atomic_bool ended;
    pthread_t thread;
};

/* Starts to watch. It must be called before any other thread starts, since threads inherit what is
 * blocked. A second Ctrl-C ends the process at once. STATUS_IO if no thread can be started, and
 * then nothing has changed. */
enum status stop_watch_begin(struct stop_watch *w, struct error *err);
/* Ends the thread. The signals stay blocked, so that one that comes late does not change how the
 * process ends. */
void stop_watch_end(struct stop_watch *w);

#endif
