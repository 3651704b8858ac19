/* The transport of gradients in host memory over MPI.
 *
 * A thread of its own makes the sums while the calling thread computes, whether or not the MPI
 * library makes progress by itself. The two threads never call MPI at the same time, so that
 * MPI_THREAD_SERIALIZED is enough for them. Between the begin of a sum and the end of the wait only
 * the summing thread calls it.
 *
 * A large bucket travels in pieces, which take DIST_BUCKET numbers from the parts of all ranks. One
 * is added while the next one travels. */
#include "dist/dist_impl.h"

#include "base/mem.h"
#include "base/worker.h"

#include <assert.h>
#include <mpi.h>
#include <string.h>
#include <time.h>

/* A transfer is polled at this interval, in nanoseconds. MPI_Wait would keep a core busy that the
 * computation needs. */
static const long POLL_INTERVAL = 50000;

struct mpi_transport {
    struct worker *worker; /* owns the thread that sums */
    struct tensor flat;    /* borrows the gradients being summed */
    int64_t from, to;      /* buckets */
    /* owns, used by the thread alone. Two pieces are in work at a time, each with what arrives of
     * it, and with the counts and places of MPI_Alltoallv: [2 * size], own_places [size] */
    char *arrived[2];
    int *counts, *places, *own_counts, *own_places[2];
};

static MPI_Datatype number_type(const struct tensor *t)
{
    assert(t->dtype == DTYPE_F32 || t->dtype == DTYPE_F64);
    return t->dtype == DTYPE_F32 ? MPI_FLOAT : MPI_DOUBLE;
}

/* --- the summing thread ----------------------------------------------------------------------- */

static void poll_until_done(MPI_Request *request)
{
    const struct timespec pause = {.tv_nsec = POLL_INTERVAL};
    int done = 0;
    for (;;) {
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done)
            return;
        nanosleep(&pause, NULL);
    }
}

/* The most numbers of a rank's part in a piece: those of its part of DIST_BUCKET numbers. */
static int64_t piece_numbers(const struct dist *d)
{
    return dist_part(d, DIST_BUCKET, 0, 0).count;
}

/* The pieces of each bucket. Those behind the end of a smaller part are empty. */
static int64_t count_pieces(const struct dist *d, int64_t total)
{
    int64_t most = dist_part(d, total, 0, 0).count, each = piece_numbers(d);
    return (most + each - 1) / each;
}

/* Piece number `index` of the array, as far as it is of rank r's parts. */
static struct dist_part piece_of(const struct dist *d, int64_t total, int64_t index, int r)
{
    int64_t pieces = count_pieces(d, total), each = piece_numbers(d);
    struct dist_part part = dist_part(d, total, index / pieces, r);
    int64_t skip = index % pieces * each, left;
    skip = skip < part.count ? skip : part.count;
    left = part.count - skip;
    return (struct dist_part){part.first + skip, left < each ? left : each};
}

/* Sends every rank its part of the piece, and receives all ranks' versions of the own part. */
static void exchange_begin(struct dist *d, int64_t piece, int slot, MPI_Request *request)
{
    struct mpi_transport *s = d->mpi;
    int64_t total = tensor_count(&s->flat);
    int64_t bucket = dist_bucket(d, total, piece / count_pieces(d, total)).first;
    struct dist_part own = piece_of(d, total, piece, d->rank);
    int *places = s->own_places[slot];
    for (int r = 0; r < d->size; r++) {
        struct dist_part part = piece_of(d, total, piece, r);
        s->counts[slot * d->size + r] = (int)part.count;
        s->places[slot * d->size + r] = (int)(part.first - bucket);
        s->own_counts[slot * d->size + r] = (int)own.count;
        places[r] = (int)(r * own.count);
    }
    size_t offset = (size_t)bucket * dtype_size(s->flat.dtype);
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

static void add_parts(struct dist *d, int64_t piece, int slot)
{
    struct mpi_transport *s = d->mpi;
    struct dist_part own = piece_of(d, tensor_count(&s->flat), piece, d->rank);
    if (s->flat.dtype == DTYPE_F32)
        add_float((float *)s->flat.data + own.first, (const float *)(void *)s->arrived[slot],
                  own.count, d->size);
    else
        add_double((double *)s->flat.data + own.first, (const double *)(void *)s->arrived[slot],
                   own.count, d->size);
}

/* A piece travels while the one before it is added. */
static enum status sum_buckets(void *ctx, struct error *err)
{
    struct dist *d = ctx;
    struct mpi_transport *s = d->mpi;
    MPI_Request request;
    (void)err;
    int64_t pieces = count_pieces(d, tensor_count(&s->flat));
    int64_t from = s->from * pieces, to = s->to * pieces;
    exchange_begin(d, from, 0, &request);
    for (int64_t i = from; i < to; i++) {
        int slot = (int)(i - from) % 2;
        poll_until_done(&request);
        if (i + 1 < to)
            exchange_begin(d, i + 1, 1 - slot, &request);
        add_parts(d, i, slot);
    }
    return STATUS_OK;
}

/* --- memory ----------------------------------------------------------------------------------- */

enum status mpi_transport_open(struct dist *d, struct error *err)
{
    void *p;
    TRY(mem_alloc(&p, 1, sizeof(struct mpi_transport), err));
    struct mpi_transport *s = d->mpi = p;
    size_t bucket = DIST_BUCKET + 16 * (size_t)d->size; /* parts are rounded up, see dist_part */
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
    return worker_open(&s->worker, sum_buckets, d, 0, err);
}

void mpi_transport_close(struct dist *d)
{
    struct mpi_transport *s = d->mpi;
    worker_close(s->worker);
    for (int i = 0; i < 2; i++) {
        mem_free(s->arrived[i]);
        mem_free(s->own_places[i]);
    }
    mem_free(s->counts);
    mem_free(s->places);
    mem_free(s->own_counts);
    mem_free(s);
}

/* --- the transport ---------------------------------------------------------------------------- */

static void reduce_scatter_wait(struct dist *d)
{
    struct error ignored; /* sum_buckets cannot fail */
    (void)worker_wait(d->mpi->worker, &ignored);
}

static void reduce_scatter_begin(struct dist *d, const struct tensor *flat, int64_t from,
                                 int64_t to)
{
    struct mpi_transport *s = d->mpi;
    reduce_scatter_wait(d);
    s->flat = *flat;
    s->from = from;
    s->to = to;
    worker_start(s->worker);
}

static void all_gather(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    struct mpi_transport *s = d->mpi;
    int64_t total = tensor_count(flat);
    MPI_Datatype type = number_type(flat);
    for (int64_t b = from; b < to; b++) {
        int64_t first = dist_bucket(d, total, b).first;
        for (int r = 0; r < d->size; r++) {
            struct dist_part part = dist_part(d, total, b, r);
            s->counts[r] = (int)part.count;
            s->places[r] = (int)(part.first - first);
        }
        size_t offset = (size_t)first * dtype_size(flat->dtype);
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, (char *)flat->data + offset, s->counts,
                       s->places, type, MPI_COMM_WORLD);
    }
}

const struct transport dist_mpi_transport = {reduce_scatter_begin, reduce_scatter_wait, all_gather};
