/* The watch over processes that fall silent.
 *
 * A thread of each rank exchanges beats (dist/peers.h) over a communicator of its own, from rank r
 * to rank 0 and back. It calls MPI while other threads do, which takes MPI_THREAD_MULTIPLE. It
 * never blocks in MPI before the end: messages are received once they are there, and a send that a
 * frozen receiver does not take is left under way. */
#include "dist/dist_impl.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/worker.h"
#include "dist/peers.h"

#include <math.h>
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Seconds between beats, as a part of the patience and at most. */
static const double BEATS_IN_PATIENCE = 12, LONGEST_INTERVAL = 5;
/* Seconds between two looks at what arrives while the group is closed. */
static const double CLOSING_INTERVAL = 0.001;

struct watch {
    struct dist *d;        /* borrows */
    struct worker *worker; /* owns the thread, to which all below `quit` belongs */
    pthread_mutex_t lock;  /* protects quit */
    pthread_cond_t changed;
    bool quit; /* the main thread closes the group */
    MPI_Comm comm;
    struct peers peers;
    double interval;       /* seconds */
    struct beat *beats;    /* owns [size] what is sent to each rank */
    MPI_Request *requests; /* owns [size] */
    dist_alarm *alarm;
    void *ctx; /* borrows, for the alarm */
    bool alarmed;
};

/* --- the thread ------------------------------------------------------------------------------- */

/* Sleeps so long, or until the main thread closes the group. Returns whether it does. */
static bool rest(struct watch *w, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double nanoseconds = (double)until.tv_nsec + 1e9 * seconds;
    until.tv_sec += (time_t)(nanoseconds / 1e9);
    until.tv_nsec = (long)fmod(nanoseconds, 1e9);
    pthread_mutex_lock(&w->lock);
    int late = 0;
    while (!w->quit && late == 0)
        late = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    bool quit = w->quit;
    pthread_mutex_unlock(&w->lock);
    return quit;
}

static void listen(struct watch *w)
{
    for (;;) {
        struct beat beat;
        MPI_Status status;
        int there = 0;
        MPI_Iprobe(MPI_ANY_SOURCE, 0, w->comm, &there, &status);
        if (!there)
            return;
        MPI_Recv(&beat, sizeof beat, MPI_BYTE, status.MPI_SOURCE, 0, w->comm, MPI_STATUS_IGNORE);
        peers_hear(&w->peers, status.MPI_SOURCE, &beat);
    }
}

/* The ranks that exchange beats with this one. */
static bool is_partner(const struct watch *w, int rank)
{
    return rank != w->d->rank && (w->d->rank == 0 || rank == 0);
}

/* Sends a beat to every partner that has taken the one before. Returns whether all have been sent
 * their last one. */
static bool beat(struct watch *w, bool last)
{
    struct beat now = {.begun = atomic_load_explicit(&w->d->begun, memory_order_relaxed),
                       .waits = atomic_load_explicit(&w->d->waits, memory_order_relaxed)};
    bool all = true;
    peers_hear(&w->peers, w->d->rank, &now);
    now.last = last;
    for (int r = 0; r < w->d->size; r++) {
        int taken = 0;
        if (!is_partner(w, r) || w->beats[r].last)
            continue;
        MPI_Test(&w->requests[r], &taken, MPI_STATUS_IGNORE);
        if (taken) {
            w->beats[r] = now;
            MPI_Isend(&w->beats[r], sizeof now, MPI_BYTE, r, 0, w->comm, &w->requests[r]);
        }
        all = all && w->beats[r].last;
    }
    return all;
}

/* Counts the time. A thread that was not let run for long counts little of it, since the others'
 * beats may not have been let run either. */
static void count_time(struct watch *w, double *before)
{
    double now = clock_seconds();
    peers_pass(&w->peers, fmin(now - *before, 2 * w->interval));
    *before = now;
}

static void judge(struct watch *w)
{
    char text[512];
    if (w->alarmed || !peers_lost(&w->peers, text, sizeof text))
        return;
    w->alarmed = true;
    w->alarm(w->ctx, w->d, text);
}

static bool awaits_any(const struct watch *w)
{
    bool any = false;
    for (int r = 0; r < w->peers.size; r++)
        any = any || w->peers.list[r].expected;
    return any;
}

/* Runs from dist_watch until all ranks close the group. They may do so at different times. Rank 0
 * says farewell when it has heard that of all others, who wait for its own. Then nothing is under
 * way any more. */
static enum status keep_watch(void *ctx, struct error *err)
{
    struct watch *w = ctx;
    double before = clock_seconds(), sent = -INFINITY;
    bool closing = false, said = false;
    (void)err;
    for (;;) {
        listen(w);
        count_time(w, &before);
        bool alone = !awaits_any(w);
        bool last = closing && (w->d->rank != 0 || alone);
        if (!said && (last || before - sent >= w->interval)) {
            said = beat(w, last);
            sent = before;
        }
        if (said && alone)
            break;
        judge(w);
        if (closing)
            nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * CLOSING_INTERVAL)}, NULL);
        else
            closing = rest(w, w->interval);
    }
    MPI_Waitall(w->d->size, w->requests, MPI_STATUSES_IGNORE);
    return STATUS_OK;
}

/* --- begin and end ---------------------------------------------------------------------------- */

/* Tells every rank the machines of all. */
static enum status name_machines(struct watch *w, struct error *err)
{
    char own[MPI_MAX_PROCESSOR_NAME] = "", *all;
    int length;
    TRY(mem_alloc((void **)&all, (size_t)w->d->size, PEER_HOST_MAX, err));
    MPI_Get_processor_name(own, &length);
    own[PEER_HOST_MAX - 1] = '\0';
    MPI_Allgather(own, PEER_HOST_MAX, MPI_BYTE, all, PEER_HOST_MAX, MPI_BYTE, w->comm);
    for (int r = 0; r < w->d->size; r++)
        memcpy(w->peers.list[r].host, all + (size_t)r * PEER_HOST_MAX, PEER_HOST_MAX);
    mem_free(all);
    return STATUS_OK;
}

static void open_lock(struct watch *w)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static enum status open_watch(struct dist *d, const double patience[2], struct error *err)
{
    void *p;
    TRY(mem_alloc(&p, 1, sizeof(struct watch), err));
    struct watch *w = d->watch = p;
    w->d = d;
    w->interval = fmin(patience[0] / BEATS_IN_PATIENCE, LONGEST_INTERVAL);
    open_lock(w);
    MPI_Comm_dup(MPI_COMM_WORLD, &w->comm);
    TRY(peers_init(&w->peers, d->size, d->rank, patience[0], patience[1], err));
    TRY(mem_alloc(&p, (size_t)d->size, sizeof *w->beats, err));
    w->beats = p;
    TRY(mem_alloc(&p, (size_t)d->size, sizeof(MPI_Request), err));
    w->requests = p;
    for (int r = 0; r < d->size; r++)
        w->requests[r] = MPI_REQUEST_NULL;
    TRY(name_machines(w, err));
    return worker_open(&w->worker, keep_watch, w, 0, err);
}

enum status dist_watch(struct dist *d, double silence, double stall, dist_alarm *alarm, void *ctx,
                       struct error *err)
{
    double patience[2] = {silence, stall};
    int level = MPI_THREAD_SINGLE, lowest;
    if (dist_size(d) == 1)
        return STATUS_OK;
    MPI_Query_thread(&level);
    MPI_Allreduce(&level, &lowest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    MPI_Bcast(patience, 2, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    if (!(patience[0] > 0))
        return STATUS_OK;
    if (lowest < MPI_THREAD_MULTIPLE) {
        size_t length = strlen(d->description);
        snprintf(d->description + length, sizeof d->description - length,
                 " (for one thread at a time: processes that freeze are not noticed)");
        return STATUS_OK;
    }
    TRY(open_watch(d, patience, err));
    d->watch->alarm = alarm;
    d->watch->ctx = ctx;
    worker_start(d->watch->worker);
    return STATUS_OK;
}

void dist_watch_close(struct dist *d)
{
    struct watch *w = d->watch;
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    worker_close(w->worker);
    MPI_Comm_free(&w->comm);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    peers_free(&w->peers);
    mem_free(w->beats);
    mem_free(w->requests);
    mem_free(w);
    d->watch = NULL;
}
