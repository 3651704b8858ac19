/* Processes that train one model together: data parallel.
 *
 * Every process ("rank") computes the gradient of its share of the batch; the shares are summed in
 * an order that makes a run reproducible bit for bit for a given number of ranks. One
 * implementation is linked, chosen by the Makefile: dist_none.c (one process) or dist_mpi*.c.
 *
 * Tensors in     travel by           and are summed in the order
 *   the host     MPI                 of ranks, wherever they run
 *   a device     its collectives     of the library (NCCL), which repeats on the same machines
 *                                    under the same settings, unless NCCL_NVLS_ENABLE=1 lets
 *                                    switches add; it differs from that of ranks by rounding
 *   a device     MPI, where a rank   of ranks
 *                lacks these
 * Small messages always travel by MPI.
 *
 * A NULL group is a group of one, and with one rank every call below is a no-op or a copy.
 *
 * Calls marked "all" are collective: every rank makes the same ones in the same order, from one
 * thread. A process that dies, and dist_abort, end the whole group within seconds (MPI's launcher
 * sees to that); so nothing but dist_open and dist_attach reports errors of communication.
 *
 * A rank whose device has failed (backend_check) exchanges no messages any more, since others may
 * be waiting for something else of it: calls return at once, with nothing of use. It must find the
 * fault before it uses what they gave, and end the group. */
#ifndef DEQ_DIST_DIST_H
#define DEQ_DIST_DIST_H

#include "backend/tensor.h"
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

struct backend;
struct dist;

/* Joins the group this process was launched into. `launched`: how many processes the launcher's
 * environment speaks of; 0 for a process started alone, which gets a group of one (*out NULL)
 * without touching MPI; -1 if it does not tell. STATUS_USAGE if there are several and this program
 * was built without MPI. After another error *out may be set: then it is for dist_abort. */
enum status dist_open(struct dist **out, int launched, struct error *err);
/* All. Waits for the other ranks. NULL is allowed. */
void dist_close(struct dist *d);
/* Ends all ranks at once; launchers pass the exit code on. */
noreturn void dist_abort(struct dist *d, int code);

int dist_rank(const struct dist *d); /* from 0 */
int dist_size(const struct dist *d);
/* Among the ranks on the same machine, from 0. */
int dist_local_rank(const struct dist *d);

/* All. From now on sums and shares are of tensors of this backend (before: of the host's memory),
 * which must stay open until dist_detach. STATUS_DEVICE if ranks have different backends, if two
 * have the same device, or if NCCL is there and does not start; where it is not there, the way
 * leads through the host. dist_detach gives up what is under way; NULL is allowed. */
enum status dist_attach(struct dist *d, struct backend *be, struct error *err);
void dist_detach(struct dist *d);

/* What carries messages and gradients, for humans: "one process", "Open MPI 4.1.4", "Open MPI 4.1.4
 * and NCCL 2.28.9". */
const char *dist_transport(const struct dist *d);

/* --- small messages, all ---------------------------------------------------------------------- */

int64_t dist_max(struct dist *d, int64_t mine);
/* all[rank * bytes] on every rank <- `bytes` of each. */
void dist_gather_all(struct dist *d, const void *mine, size_t bytes, void *all);
/* The same on rank 0 only; elsewhere `all` is not looked at. */
void dist_gather(struct dist *d, const void *mine, size_t bytes, void *all);
/* data[bytes] <- that of rank 0. */
void dist_broadcast(struct dist *d, void *data, size_t bytes);
/* How a piece of work ended for the group: that of the lowest rank that failed, on every rank. Only
 * on that rank does `err` keep a text; on others it is empty, so that it is told once. */
enum status dist_agree(struct dist *d, enum status mine, struct error *err);

/* --- sums of gradients ------------------------------------------------------------------------ */

/* The numbers [0, total) of a flat array are cut into buckets, and each bucket into one part for
 * each rank, its owner. Sums are made by owners. */
struct dist_part {
    int64_t first, count; /* count may be 0 */
};

enum { DIST_BUCKET = 1 << 20 /* numbers */ };

int64_t dist_buckets(const struct dist *d, int64_t total);
struct dist_part dist_bucket(const struct dist *d, int64_t total, int64_t bucket);
struct dist_part dist_part(const struct dist *d, int64_t total, int64_t bucket, int rank);

/* All. Starts to sum buckets [from, to) of the 1-D tensor `flat` over the ranks, in the background:
 * a bucket travels to its owners while the one before is added. Sums under way are waited for
 * first. Until dist_sum_wait these buckets belong to it, and no other call but dist_sum_begin may
 * be made. */
void dist_sum_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to);
/* All. Then each rank finds the sums in its own parts; its other parts are as they were. */
void dist_sum_wait(struct dist *d);
/* All. Every part <- that of its owner. */
void dist_share(struct dist *d, const struct tensor *flat);

#endif
