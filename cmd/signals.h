/* Signals that ask a run to save and stop: SIGTERM, SIGUSR1 and Ctrl-C.
 *
 * They are blocked everywhere and waited for by a thread of their own, so that none ever interrupts
 * a computation: in oneDNN before 3.12 the stack pointer of a float32 product lies inside the heap
 * for a while, and what the system puts on the stack for a handler would destroy what lies below
 * (oneDNN issue 4845). */
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

/* Call it before any other thread starts: later ones inherit what is blocked. From the second
 * Ctrl-C on, that signal ends the process at once. STATUS_IO if there can be no thread: then
 * nothing has changed. */
enum status stop_watch_begin(struct stop_watch *w, struct error *err);
/* The signals stay blocked: one that comes late must not change how the process ends. */
void stop_watch_end(struct stop_watch *w);

#endif
