/* The begin, the end and the small messages of a group over MPI. MPI's default handler ends the
 * group after an error, so that no call here checks for one. */
#include "dist/dist_impl.h"

#include "backend/backend.h"
#include "base/mem.h"

#include <assert.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A launcher that is frozen itself is given this time to end the group. */
enum { ABORT_SECONDS = 20 };

/* --- the group -------------------------------------------------------------------------------- */

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
#ifdef OMPI_MAJOR_VERSION
#define LIBRARY                                                                       \
    "Open MPI " NUMBER(OMPI_MAJOR_VERSION) "." NUMBER(OMPI_MINOR_VERSION) "." NUMBER( \
        OMPI_RELEASE_VERSION)
#else
#define LIBRARY "MPI " NUMBER(MPI_VERSION) "." NUMBER(MPI_SUBVERSION)
#endif

static int local_rank(void)
{
    MPI_Comm machine;
    int rank;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_rank(machine, &rank);
    MPI_Comm_free(&machine);
    return rank;
}

enum status dist_open(struct dist **out, int launched, struct error *err)
{
    int provided = 0;
    void *p = NULL;
    *out = NULL;
    if (launched == 0)
        return STATUS_OK;
    TRY(mem_alloc(&p, 1, sizeof(struct dist), err));
    struct dist *d = p;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS ||
        provided < MPI_THREAD_SERIALIZED) {
        mem_free(d);
        return error_set(err, STATUS_DEVICE,
                         "this MPI cannot be started for several threads (it offers level %d)",
                         provided);
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d->size);
    d->local_rank = local_rank();
    snprintf(d->description, sizeof d->description, LIBRARY);
    d->host_transport = d->transport = &dist_mpi_transport;
    *out = d;
    TRY(mem_alloc(&p, (size_t)d->size, sizeof *d->parts, err));
    d->parts = p;
    return mpi_transport_open(d, err);
}

void dist_close(struct dist *d)
{
    if (d == NULL)
        return;
    dist_enter(d);
    dist_watch_close(d);
    mpi_transport_close(d);
    mem_free(d->parts);
    mem_free(d);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
}

/* Lets the kernel end this process after a while, whatever its threads then wait for. */
static void end_later(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    const struct itimerspec when = {.it_value.tv_sec = ABORT_SECONDS};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &when, NULL);
}

noreturn void dist_abort(struct dist *d, int code)
{
    if (d != NULL) {
        end_later();
        MPI_Abort(MPI_COMM_WORLD, code);
    }
    exit(code);
}

/* --- small messages --------------------------------------------------------------------------- */

int64_t dist_max(struct dist *d, int64_t mine)
{
    int64_t most = mine;
    if (!dist_communicates(d))
        return mine;
    dist_enter(d);
    MPI_Allreduce(&mine, &most, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    dist_leave(d);
    return most;
}

/* Without communication a rank takes the others to send what it sends itself. */
static void repeat_own(const struct dist *d, const void *mine, size_t bytes, void *all)
{
    for (int r = 0; r < dist_size(d); r++)
        memcpy((char *)all + (size_t)r * bytes, mine, bytes);
}

void dist_all_gather_bytes(struct dist *d, const void *mine, size_t bytes, void *all)
{
    if (!dist_communicates(d)) {
        repeat_own(d, mine, bytes, all);
        return;
    }
    dist_enter(d);
    MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
    dist_leave(d);
}

void dist_gather(struct dist *d, const void *mine, size_t bytes, void *all)
{
    assert(bytes <= INT32_MAX);
    if (!dist_communicates(d)) {
        if (dist_rank(d) == 0)
            repeat_own(d, mine, bytes, all);
        return;
    }
    dist_enter(d);
    MPI_Gather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
    dist_leave(d);
}

void dist_broadcast(struct dist *d, void *data, size_t bytes)
{
    if (!dist_communicates(d))
        return;
    dist_enter(d);
    MPI_Bcast(data, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
    dist_leave(d);
}

enum status dist_agree(struct dist *d, enum status mine, struct error *err)
{
    int failing = mine != STATUS_OK ? dist_rank(d) : dist_size(d), lowest = failing;
    int status = mine;
    if (!dist_communicates(d))
        return d == NULL || mine != STATUS_OK ? mine : backend_check(d->be, err);
    dist_enter(d);
    MPI_Allreduce(&failing, &lowest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (lowest < d->size)
        MPI_Bcast(&status, 1, MPI_INT, lowest, MPI_COMM_WORLD);
    dist_leave(d);
    if (lowest == d->size)
        return STATUS_OK;
    if (lowest != d->rank)
        *err = (struct error){.status = (enum status)status};
    return (enum status)status;
}
