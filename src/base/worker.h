/* A thread that does one job at a time, for work that the caller does not want to wait for.
 *
 *   worker_open ; { worker_start ; ... ; worker_wait } ; worker_close
 *
 * Calls are made from one thread. What the job touches belongs to it from worker_start until
 * worker_wait or worker_busy says that it is over. */
#ifndef DEQ_BASE_WORKER_H
#define DEQ_BASE_WORKER_H

#include "base/status.h"
#include <stdbool.h>

struct worker;

typedef enum status (*worker_fn)(void *ctx, struct error *err);

/* Starts the thread, which runs `fn` with `ctx` for every job. A `niceness` above 0 lets other
 * threads go first (see nice(2)). STATUS_NOMEM, STATUS_IO. */
enum status worker_open(struct worker **out, worker_fn fn, void *ctx, int niceness,
                        struct error *err);
/* Waits for the job under way, forgets its result and ends the thread; NULL is allowed. */
void worker_close(struct worker *w);

/* Starts a job; none may be under way, and the result of the last must have been asked for. */
void worker_start(struct worker *w);
bool worker_busy(struct worker *w); /* a job is under way */
/* Waits for the job under way, if there is one, and returns its result: once; then STATUS_OK. */
enum status worker_wait(struct worker *w, struct error *err);

#endif
