/* Inside dist: the group, and the ways in which it sums. */
#ifndef DEQ_DIST_DIST_IMPL_H
#define DEQ_DIST_DIST_IMPL_H

#include "dist/dist.h"

/* See dist_sum_begin, dist_sum_wait and dist_share: called with several ranks, at least one bucket,
 * and sum_wait with sums under way. */
struct transport {
    void (*sum_begin)(struct dist *d, const struct tensor *flat, int64_t from, int64_t to);
    void (*sum_wait)(struct dist *d);
    void (*share)(struct dist *d, const struct tensor *flat);
};

extern const struct transport dist_staged;      /* device memory, by way of the host's */
extern const struct transport dist_collectives; /* device memory, by the backend's own means */

struct dist {
    int rank, size, local_rank;
    char transport[1024];         /* for humans */
    struct backend *be;           /* borrows: attached; NULL: none */
    const struct transport *host; /* borrows: for the host's memory */
    const struct transport *way;  /* borrows: for that of the backend */
    bool active;                  /* sums are under way */
    struct tensor *parts;         /* owns: [size], see dist_cut */
    struct mpi_sums *sums;        /* owns: dist_mpi.c */
    /* dist_staged.c: */
    struct tensor stage; /* owns: on the host, as large as what is summed; made when first needed */
    struct tensor flat;  /* borrows: what is being summed, on the device ... */
    int64_t from, to;    /* ... and which buckets */
};

/* Whether messages are exchanged: there are others, and this rank's device works. */
bool dist_speaks(const struct dist *d);
/* Views of the parts of a bucket, in d->parts. */
const struct tensor *dist_cut(struct dist *d, const struct tensor *flat, int64_t bucket);

#endif
