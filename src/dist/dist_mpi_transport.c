/* Sums of host memory over MPI. They are made by a thread of their own, so that they go on while
 * the calling thread computes, whether or not the MPI library makes progress by itself. The two
 * threads never call MPI at the same time (MPI_THREAD_SERIALIZED): between the begin and the end of
 * sums only theirs does. */
#include "dist/dist_mpi.h"

#include "base/mem.h"
#include "base/worker.h"

#include <assert.h>
#include <mpi.h>
#include <string.h>
#include <time.h>

/* Nanoseconds between two looks at a transfer: MPI's own waiting would burn the core that the
 * computation needs. */
static const long PATIENCE = 50000;

struct mpi_sums {
    struct worker *summer; /* owns */
    struct tensor flat;    /* borrows: being summed */
    int64_t from, to;      /* buckets */
    /* owns, scratch of the summer's thread: two buckets as they arrive, where their parts lie */
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
    struct mpi_sums *s = d->sums;
    int64_t total = tensor_count(&s->flat);
    struct dist_part own = dist_part(d, total, bucket, d->rank);
    int *places = s->own_places[slot];
    for (int r = 0; r < d->size; r++) {
        struct dist_part part = dist_part(d, total, bucket, r);
        s->counts[slot * d->size + r] = (int)part.count;
        s->places[slot * d->size + r] = (int)(part.first - bucket * DIST_BUCKET);
        s->own_counts[slot * d->size + r] = (int)own.count;
        places[r] = (int)(r * own.count);
    }
    size_t offset = (size_t)(bucket * DIST_BUCKET) * dtype_size(s->flat.dtype);
    MPI_Datatype type = number_type(&s->flat);
    MPI_Ialltoallv((char *)s->flat.data + offset, s->counts + slot * d->size,
                   s->places + slot * d->size, type, s->arrived[slot],
                   s->own_counts + slot * d->size, places, type, MPI_COMM_WORLD, request);
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
    struct mpi_sums *s = d->sums;
    struct dist_part own = dist_part(d, tensor_count(&s->flat), bucket, d->rank);
    if (s->flat.dtype == DTYPE_F32)
        add_float((float *)s->flat.data + own.first, (const float *)(void *)s->arrived[slot],
                  own.count, d->size);
    else
        add_double((double *)s->flat.data + own.first, (const double *)(void *)s->arrived[slot],
                   own.count, d->size);
}

/* One bucket travels while the one before is added. */
static enum status sum_buckets(void *ctx, struct error *err)
{
    struct dist *d = ctx;
    struct mpi_sums *s = d->sums;
    MPI_Request request;
    (void)err;
    exchange_begin(d, s->from, 0, &request);
    for (int64_t b = s->from; b < s->to; b++) {
        int slot = (int)(b - s->from) % 2;
        wait_patiently(&request);
        if (b + 1 < s->to)
            exchange_begin(d, b + 1, 1 - slot, &request);
        add_parts(d, b, slot);
    }
    return STATUS_OK;
}

/* --- memory ----------------------------------------------------------------------------------- */

enum status mpi_sums_open(struct dist *d, struct error *err)
{
    void *p;
    TRY(mem_alloc(&p, 1, sizeof(struct mpi_sums), err));
    struct mpi_sums *s = d->sums = p;
    size_t bucket = DIST_BUCKET + 16 * (size_t)d->size; /* parts are rounded up */
    size_t ints = 2 * (size_t)d->size;
    for (int i = 0; i < 2; i++) {
        TRY(mem_alloc(&p, bucket, sizeof(double), err));
        s->arrived[i] = p;
        TRY(mem_alloc(&p, (size_t)d->size, sizeof(int), err));
        s->own_places[i] = p;
    }
    TRY(mem_alloc(&p, ints, sizeof(int), err));
    s->counts = p;
    TRY(mem_alloc(&p, ints, sizeof(int), err));
    s->places = p;
    TRY(mem_alloc(&p, ints, sizeof(int), err));
    s->own_counts = p;
    return worker_open(&s->summer, sum_buckets, d, 0, err);
}

void mpi_sums_close(struct dist *d)
{
    struct mpi_sums *s = d->sums;
    worker_close(s->summer);
    for (int i = 0; i < 2; i++) {
        mem_free(s->arrived[i]);
        mem_free(s->own_places[i]);
    }
    mem_free(s->counts);
    mem_free(s->places);
    mem_free(s->own_counts);
    mem_free(s);
}

/* --- doors ------------------------------------------------------------------------------------ */

static void sum_wait(struct dist *d)
{
    struct error ignored; /* sums have none */
    (void)worker_wait(d->sums->summer, &ignored);
}

static void sum_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    struct mpi_sums *s = d->sums;
    sum_wait(d);
    s->flat = *flat;
    s->from = from;
    s->to = to;
    worker_start(s->summer);
}

static void share(struct dist *d, const struct tensor *flat)
{
    struct mpi_sums *s = d->sums;
    int64_t total = tensor_count(flat);
    MPI_Datatype type = number_type(flat);
    for (int64_t b = 0; b < dist_buckets(d, total); b++) {
        for (int r = 0; r < d->size; r++) {
            struct dist_part part = dist_part(d, total, b, r);
            s->counts[r] = (int)part.count;
            s->places[r] = (int)(part.first - b * DIST_BUCKET);
        }
        size_t offset = (size_t)(b * DIST_BUCKET) * dtype_size(flat->dtype);
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, (char *)flat->data + offset, s->counts,
                       s->places, type, MPI_COMM_WORLD);
    }
}

const struct transport mpi_sums_transport = {sum_begin, sum_wait, share};
