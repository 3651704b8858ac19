/* A thread that does one job at a time, for work that the caller does not want to wait for.
 *
 *   worker_open
 *   worker_start ... worker_wait     any number of times
 *   worker_close
 *
 * All calls are made from one thread. What the job touches belongs to it from worker_start until
 * worker_wait returns or worker_busy returns false. */
#ifndef DEQ_BASE_WORKER_H
#define DEQ_BASE_WORKER_H

#include "base/status.h"
#include <stdbool.h>

struct worker;

typedef enum status (*worker_fn)(void *ctx, struct error *err);

/* Starts the thread, which calls `fn` with `ctx` for every job. A `niceness` above 0 lets other
 * threads go first, see nice(2). The caller frees *out with worker_close. *out is NULL on error.
 * Returns STATUS_NOMEM, or STATUS_IO if the system allows no more threads. */
enum status worker_open(struct worker **out, worker_fn fn, void *ctx, int niceness,
                        struct error *err);
/* Waits for the job under way, drops its result and ends the thread. NULL is allowed. */
void worker_close(struct worker *w);

/* Starts a job. The job before it must be over, and worker_wait must have returned its result. */
void worker_start(struct worker *w);
/* Whether a job is under way. */
bool worker_busy(struct worker *w);
/* Waits for the job under way, if there is one, and returns what it returned. The result is handed
 * out once, and further calls return STATUS_OK. */
enum status worker_wait(struct worker *w, struct error *err);

#endif
