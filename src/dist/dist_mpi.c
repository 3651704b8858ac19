/* A group over MPI. Sums are made by a thread of their own, so that they go on while the calling
 * thread computes, whether or not the MPI library makes progress by itself. The two threads never
 * call MPI at the same time (MPI_THREAD_SERIALIZED): between dist_sum_begin and dist_sum_wait only
 * the sums' thread does. Errors of MPI end the group: its default handler does that. */
#include "dist/dist.h"

#include "base/mem.h"
#include "base/worker.h"

#include <assert.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nanoseconds between two looks at a transfer: MPI's own waiting would burn the core that the
 * computation needs. */
static const long PATIENCE = 50000;

struct dist {
    int rank, size;
    struct worker *summer; /* owns */
    /* of the sums under way: */
    struct tensor flat; /* borrows */
    int64_t from, to;   /* buckets */
    bool active;
    /* owns, scratch of the summer's thread: two buckets as they arrive, and where their parts lie
     */
    char *arrived[2];
    int *counts, *places, *own_counts, *own_places[2];
};

static MPI_Datatype number_type(const struct tensor *t)
{
    assert(t->dtype == DTYPE_F32 || t->dtype == DTYPE_F64);
    return t->dtype == DTYPE_F32 ? MPI_FLOAT : MPI_DOUBLE;
}

/* --- sums, in their thread -------------------------------------------------------------------- */

static void wait_patiently(MPI_Request *request)
{
    const struct timespec pause = {.tv_nsec = PATIENCE};
    int done = 0;
    for (;;) {
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done)
            return;
        nanosleep(&pause, NULL);
    }
}

/* Sends every rank its part of the bucket and receives everyone's version of one's own. */
static void exchange_begin(struct dist *d, int64_t bucket, int slot, MPI_Request *request)
{
    int64_t total = tensor_count(&d->flat);
    struct dist_part own = dist_part(d, total, bucket, d->rank);
    int *places = d->own_places[slot];
    for (int r = 0; r < d->size; r++) {
        struct dist_part part = dist_part(d, total, bucket, r);
        d->counts[slot * d->size + r] = (int)part.count;
        d->places[slot * d->size + r] = (int)(part.first - bucket * DIST_BUCKET);
        d->own_counts[slot * d->size + r] = (int)own.count;
        places[r] = (int)(r * own.count);
    }
    size_t offset = (size_t)(bucket * DIST_BUCKET) * dtype_size(d->flat.dtype);
    MPI_Datatype type = number_type(&d->flat);
    MPI_Ialltoallv((char *)d->flat.data + offset, d->counts + slot * d->size,
                   d->places + slot * d->size, type, d->arrived[slot],
                   d->own_counts + slot * d->size, places, type, MPI_COMM_WORLD, request);
}

/* sum = ((part of rank 0 + part of rank 1) + part of rank 2) + ... */
static void add_float(float *sum, const float *parts, int64_t count, int ranks)
{
    memcpy(sum, parts, (size_t)count * sizeof *sum);
    for (int r = 1; r < ranks; r++)
        for (int64_t i = 0; i < count; i++)
            sum[i] += parts[r * count + i];
}

static void add_double(double *sum, const double *parts, int64_t count, int ranks)
{
    memcpy(sum, parts, (size_t)count * sizeof *sum);
    for (int r = 1; r < ranks; r++)
        for (int64_t i = 0; i < count; i++)
            sum[i] += parts[r * count + i];
}

static void add_parts(struct dist *d, int64_t bucket, int slot)
{
    struct dist_part own = dist_part(d, tensor_count(&d->flat), bucket, d->rank);
    if (d->flat.dtype == DTYPE_F32)
        add_float((float *)d->flat.data + own.first, (const float *)(void *)d->arrived[slot],
                  own.count, d->size);
    else
        add_double((double *)d->flat.data + own.first, (const double *)(void *)d->arrived[slot],
                   own.count, d->size);
}

/* One bucket travels while the one before is added. */
static enum status sum_buckets(void *ctx, struct error *err)
{
    struct dist *d = ctx;
    MPI_Request request;
    (void)err;
    exchange_begin(d, d->from, 0, &request);
    for (int64_t b = d->from; b < d->to; b++) {
        int slot = (int)(b - d->from) % 2;
        wait_patiently(&request);
        if (b + 1 < d->to)
            exchange_begin(d, b + 1, 1 - slot, &request);
        add_parts(d, b, slot);
    }
    return STATUS_OK;
}

void dist_sum_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    if (dist_size(d) == 1 || from >= to)
        return;
    dist_sum_wait(d);
    d->flat = *flat;
    d->from = from;
    d->to = to;
    d->active = true;
    worker_start(d->summer);
}

void dist_sum_wait(struct dist *d)
{
    struct error ignored; /* sums have none */
    if (d == NULL || !d->active)
        return;
    (void)worker_wait(d->summer, &ignored);
    d->active = false;
}

/* --- the group -------------------------------------------------------------------------------- */

static enum status plan(struct dist *d, struct error *err)
{
    void *p;
    size_t bucket = DIST_BUCKET + 16 * (size_t)d->size; /* parts are rounded up */
    size_t ints = 2 * (size_t)d->size;
    for (int i = 0; i < 2; i++) {
        TRY(mem_alloc(&p, bucket, sizeof(double), err));
        d->arrived[i] = p;
        TRY(mem_alloc(&p, (size_t)d->size, sizeof(int), err));
        d->own_places[i] = p;
    }
    TRY(mem_alloc(&p, ints, sizeof(int), err));
    d->counts = p;
    TRY(mem_alloc(&p, ints, sizeof(int), err));
    d->places = p;
    TRY(mem_alloc(&p, ints, sizeof(int), err));
    d->own_counts = p;
    return worker_open(&d->summer, sum_buckets, d, 0, err);
}

static void free_group(struct dist *d)
{
    worker_close(d->summer);
    for (int i = 0; i < 2; i++) {
        mem_free(d->arrived[i]);
        mem_free(d->own_places[i]);
    }
    mem_free(d->counts);
    mem_free(d->places);
    mem_free(d->own_counts);
    mem_free(d);
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
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS ||
        provided < MPI_THREAD_SERIALIZED) {
        mem_free(d);
        return error_set(err, STATUS_DEVICE,
                         "this MPI cannot be started for several threads (it offers level %d)",
                         provided);
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d->size);
    *out = d;
    return plan(d, err);
}

void dist_close(struct dist *d)
{
    if (d == NULL)
        return;
    free_group(d);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
}

noreturn void dist_abort(struct dist *d, int code)
{
    if (d != NULL)
        MPI_Abort(MPI_COMM_WORLD, code);
    exit(code);
}

int dist_rank(const struct dist *d)
{
    return d != NULL ? d->rank : 0;
}

int dist_size(const struct dist *d)
{
    return d != NULL ? d->size : 1;
}

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
const char *dist_transport(void)
{
#ifdef OMPI_MAJOR_VERSION
    return "Open MPI " NUMBER(OMPI_MAJOR_VERSION) "." NUMBER(OMPI_MINOR_VERSION) "." NUMBER(
        OMPI_RELEASE_VERSION);
#else
    return "MPI " NUMBER(MPI_VERSION) "." NUMBER(MPI_SUBVERSION);
#endif
}

/* --- small messages --------------------------------------------------------------------------- */

int64_t dist_max(struct dist *d, int64_t mine)
{
    int64_t most = mine;
    if (d != NULL)
        MPI_Allreduce(&mine, &most, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    return most;
}

void dist_gather_all(struct dist *d, const void *mine, size_t bytes, void *all)
{
    if (d == NULL)
        memcpy(all, mine, bytes);
    else
        MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
}

void dist_gather(struct dist *d, const void *mine, size_t bytes, void *all)
{
    assert(bytes <= INT32_MAX);
    if (d == NULL)
        memcpy(all, mine, bytes);
    else
        MPI_Gather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
}

void dist_broadcast(struct dist *d, void *data, size_t bytes)
{
    if (d != NULL)
        MPI_Bcast(data, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
}

enum status dist_agree(struct dist *d, enum status mine, struct error *err)
{
    int failing = mine != STATUS_OK ? dist_rank(d) : dist_size(d), lowest = failing;
    int status = mine;
    if (d == NULL)
        return mine;
    MPI_Allreduce(&failing, &lowest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (lowest == d->size)
        return STATUS_OK;
    MPI_Bcast(&status, 1, MPI_INT, lowest, MPI_COMM_WORLD);
    if (lowest != d->rank)
        *err = (struct error){.status = (enum status)status};
    return (enum status)status;
}

void dist_share(struct dist *d, const struct tensor *flat)
{
    int64_t total = tensor_count(flat);
    if (dist_size(d) == 1)
        return;
    MPI_Datatype type = number_type(flat);
    for (int64_t b = 0; b < dist_buckets(d, total); b++) {
        for (int r = 0; r < d->size; r++) {
            struct dist_part part = dist_part(d, total, b, r);
            d->counts[r] = (int)part.count;
            d->places[r] = (int)(part.first - b * DIST_BUCKET);
        }
        size_t offset = (size_t)(b * DIST_BUCKET) * dtype_size(flat->dtype);
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, (char *)flat->data + offset, d->counts,
                       d->places, type, MPI_COMM_WORLD);
    }
}

size_t dist_memory(const struct dist *d)
{
    if (d == NULL)
        return 0;
    return sizeof *d + 2 * (DIST_BUCKET + 16 * (size_t)d->size) * sizeof(double);
}
