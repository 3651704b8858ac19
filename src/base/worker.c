/* A thread that waits for jobs on a condition variable. */
#include "base/worker.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

enum worker_state { WORKER_IDLE, WORKER_WANTED, WORKER_DONE };

struct worker {
    worker_fn fn;
    void *ctx; /* borrows */
    int niceness;
    pthread_t thread;
    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t changed;
    enum worker_state state;
    bool quit;
    struct error result; /* of the job in state WORKER_DONE */
};

static void *work(void *arg)
{
    struct worker *w = arg;
    if (w->niceness > 0)
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(),
                          w->niceness); /* on Linux, of this thread only */
    pthread_mutex_lock(&w->lock);
    while (!w->quit) {
        if (w->state != WORKER_WANTED) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        struct error err = {.status = STATUS_OK};
        enum status status = w->fn(w->ctx, &err);
        pthread_mutex_lock(&w->lock);
        w->result = err;
        w->result.status = status;
        w->state = WORKER_DONE;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum status worker_open(struct worker **out, worker_fn fn, void *ctx, int niceness,
                        struct error *err)
{
    void *p = NULL;
    *out = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct worker), err));
    struct worker *w = p;
    w->fn = fn;
    w->ctx = ctx;
    w->niceness = niceness;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    if (pthread_create(&w->thread, NULL, work, w) != 0) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        mem_free(w);
        return error_set(err, STATUS_IO,
                         "cannot start a thread: the system allows no more (ulimit -u)");
    }
    *out = w;
    return STATUS_OK;
}

void worker_close(struct worker *w)
{
    struct error ignored;
    if (w == NULL)
        return;
    (void)worker_wait(w, &ignored);
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

void worker_start(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    assert(w->state == WORKER_IDLE);
    w->state = WORKER_WANTED;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool worker_busy(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    bool busy = w->state == WORKER_WANTED;
    pthread_mutex_unlock(&w->lock);
    return busy;
}

enum status worker_wait(struct worker *w, struct error *err)
{
    pthread_mutex_lock(&w->lock);
    while (w->state == WORKER_WANTED)
        pthread_cond_wait(&w->changed, &w->lock);
    enum status status = w->state == WORKER_DONE ? w->result.status : STATUS_OK;
    if (status != STATUS_OK)
        *err = w->result;
    w->state = WORKER_IDLE;
    pthread_mutex_unlock(&w->lock);
    return status;
}
