/* The inside of a group, for the implementations of dist.h. */
#ifndef DEQ_DIST_DIST_IMPL_H
#define DEQ_DIST_DIST_IMPL_H

#include "dist/dist.h"
#include <stdatomic.h>

/* How gradients travel. The functions do what those of dist.h say. They are called with several
 * ranks and at least one bucket, and reduce_scatter_wait only with a sum under way. */
struct transport {
    void (*reduce_scatter_begin)(struct dist *d, const struct tensor *flat, int64_t from,
                                 int64_t to);
    void (*reduce_scatter_wait)(struct dist *d);
    void (*all_gather)(struct dist *d, const struct tensor *flat, int64_t from, int64_t to);
};

extern const struct transport dist_mpi_transport;         /* host memory, over MPI */
extern const struct transport dist_staged_transport;      /* device memory, through the host's */
extern const struct transport dist_collectives_transport; /* device memory, by its collectives */

struct dist {
    int rank, size, local_rank;
    char description[1024];                 /* what dist_transport returns */
    struct backend *be;                     /* borrows; NULL means not attached */
    const struct transport *host_transport; /* borrows, for host memory */
    const struct transport *transport;      /* borrows, for the attached backend's memory */
    bool imagined;                          /* see dist_imagine */
    int64_t gathered;                       /* numbers, by all dist_all_gather */
    bool summing;                           /* a reduce_scatter is under way */
    struct tensor *parts;                   /* owns [size], see dist_part_views */
    struct mpi_transport *mpi;              /* owns buffers of dist_mpi_transport.c */
    struct watch *watch;                    /* owns the thread of dist_mpi_watch.c, or NULL */
    _Atomic int64_t begun; /* collective calls so far, written by the main thread alone */
    atomic_bool waits;     /* it is inside of one */
    struct tensor stage;   /* owns a copy of the gradients in host memory, made when first needed */
    struct tensor flat;    /* borrows the device's tensor that the staged transport sums, ... */
    int64_t from, to;      /* ... these buckets of it */
};

/* Whether messages are exchanged, which takes other ranks and a device that has not failed. */
bool dist_communicates(const struct dist *d);
/* Around every call that may wait for other ranks, for the watch. A NULL group is allowed. */
void dist_enter(struct dist *d);
void dist_leave(struct dist *d);
/* The parts of a bucket as tensors, one for each rank. Valid until the next call. */
const struct tensor *dist_part_views(struct dist *d, const struct tensor *flat, int64_t bucket);

/* Makes and frees d->mpi, with the thread that sums. STATUS_NOMEM, STATUS_IO (no thread). */
enum status mpi_transport_open(struct dist *d, struct error *err);
void mpi_transport_close(struct dist *d);
/* Collective. Ends the watch, if there is one. Waits for the other ranks to do the same. */
void dist_watch_close(struct dist *d);

#endif
