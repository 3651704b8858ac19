/* Processes that train one model together (data parallel).
 *
 * Every process is a rank. It computes the gradient of its part of the batch, and the gradients are
 * then summed over the ranks. The sums are made in an order that makes a run reproducible bit for
 * bit for a given number of ranks. The Makefile links dist_none.c for a single process, or else
 * dist_mpi.c and dist_mpi_transport.c.
 *
 * Gradients in   are summed by       in the order
 *   the host     MPI                 of the ranks, on any machine
 *   a device     its collectives     of the library (NCCL). The same machines and settings repeat
 *                                    it, unless NCCL_NVLS_ENABLE=1 lets switches add. It differs
 *                                    from the order of the ranks by rounding
 *   a device     MPI, if a rank has  of the ranks
 *                no collectives
 * Small messages always travel by MPI.
 *
 * A NULL group is a group of one. With one rank every call below does nothing or makes a copy.
 *
 * "Collective" marks the calls that all ranks must make, in the same order and from one thread. The
 * death of a process and dist_abort end the whole group within seconds, because MPI's launcher sees
 * to it. Therefore only dist_open and dist_attach report errors of communication. A process that
 * lives and answers no more is found by dist_watch.
 *
 * A rank whose device has failed (backend_check) exchanges no more messages, since the others may
 * be waiting for a different one. Its calls return at once and leave their results undefined. The
 * rank must ask backend_check before it uses such a result, and then end the group. */
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

/* Joins the group that this process was launched into. `launched` is the number of processes in
 * the launcher's environment, or -1 if the environment does not tell. 0 means a process started
 * alone. It gets a group of one (*out NULL) and MPI is not touched.
 * STATUS_USAGE if several were launched and this program has no MPI. STATUS_DEVICE if MPI does not
 * start. STATUS_NOMEM and STATUS_IO if the group has no memory or no thread. After STATUS_NOMEM and
 * STATUS_IO *out may be set, and is then good for dist_abort only. */
enum status dist_open(struct dist **out, int launched, struct error *err);
/* Called by the watch's thread when the group cannot go on. `text` is one line that names the
 * process and a remedy. It must not return, and as a rule prints the text and calls dist_abort. */
typedef void dist_alarm(void *ctx, struct dist *d, const char *text);

/* Collective. From now on a thread of each rank listens for the others. It calls `alarm` on one of
 * them, as a rule, when one has not been heard of for `silence` seconds, because it is frozen or
 * its machine or network is. A rank that lives, but for which others have waited for `stall`
 * seconds, is also found. That time must be longer than any rank ever works alone, as for a
 * checkpoint. The numbers of rank 0 hold for all, and a `silence` of 0 means no watch. Where MPI
 * lacks MPI_THREAD_MULTIPLE there is none either, and dist_transport says so. `ctx` must live until
 * dist_close. STATUS_NOMEM, STATUS_IO (no thread): the rank must then end the group. */
enum status dist_watch(struct dist *d, double silence, double stall, dist_alarm *alarm, void *ctx,
                       struct error *err);
/* Collective. Waits for the other ranks. NULL is allowed. */
void dist_close(struct dist *d);
/* Ends all ranks at once. Launchers pass the exit code on. */
noreturn void dist_abort(struct dist *d, int code);

/* Counted from 0. */
int dist_rank(const struct dist *d);
int dist_size(const struct dist *d);
/* Counted from 0 among the ranks on the same machine. */
int dist_local_rank(const struct dist *d);

/* A group for plans: rank 0 of so many that do not exist. Nothing is sent. *out is NULL for one
 * rank. The caller frees it with dist_forget. STATUS_NOMEM. */
enum status dist_imagine(struct dist **out, int ranks, struct error *err);
/* NULL is allowed. */
void dist_forget(struct dist *d);
/* The numbers that all calls of dist_all_gather so far were about. */
int64_t dist_gathered(const struct dist *d);

/* Collective. From now on gradients are tensors of this backend, which must stay open until
 * dist_detach. Before, they are tensors in host memory. If a rank has no collectives, gradients
 * travel through host memory.
 * STATUS_DEVICE if the ranks have different backends, if two ranks have the same device, or if the
 * collectives do not start. STATUS_NOMEM. Every rank gets the same status, except that a rank whose
 * collectives fail to start learns it alone and must end the group. */
enum status dist_attach(struct dist *d, struct backend *be, struct error *err);
/* Abandons whatever is under way. NULL is allowed. */
void dist_detach(struct dist *d);

/* Names the carriers of messages and gradients, as in "one process" or "Open MPI 4.1.4 and NCCL
 * 2.28.9". */
const char *dist_transport(const struct dist *d);

/* --- small messages, all collective ----------------------------------------------------------- */

/* The largest of all ranks' numbers. */
int64_t dist_max(struct dist *d, int64_t mine);
/* Every rank receives mine[bytes] of rank r at all + r * bytes. */
void dist_all_gather_bytes(struct dist *d, const void *mine, size_t bytes, void *all);
/* Only rank 0 receives them. The other ranks may pass any `all`. */
void dist_gather(struct dist *d, const void *mine, size_t bytes, void *all);
/* Every rank receives data[bytes] of rank 0. */
void dist_broadcast(struct dist *d, void *data, size_t bytes);
/* Every rank passes the status of its own work. Every rank receives that of the lowest rank that
 * failed, or STATUS_OK. The message stays in `err` of that rank only, so that it is printed once.
 * On the other ranks the text is empty. A rank whose device has failed receives that fault. */
enum status dist_agree(struct dist *d, enum status mine, struct error *err);

/* --- gradients -------------------------------------------------------------------------------- */

/* A flat array of `total` numbers is cut into buckets, and each bucket into one part for each rank,
 * which owns it. Owners make the sums. A bucket has DIST_BUCKET numbers or, of a large array, a
 * multiple, so that there are DIST_MOST_BUCKETS at most. A call of a device's library takes time
 * that grows with the number of ranks, and there is one for each bucket. */
struct dist_part {
    int64_t first, count; /* numbers, maybe none */
};

enum { DIST_BUCKET = 1 << 20 /* numbers */, DIST_MOST_BUCKETS = 32 };

/* The numbers of every bucket but the last. */
int64_t dist_bucket_size(int64_t total);
/* A group of one has a single bucket. */
int64_t dist_buckets(const struct dist *d, int64_t total);
struct dist_part dist_bucket(const struct dist *d, int64_t total, int64_t bucket);
struct dist_part dist_part(const struct dist *d, int64_t total, int64_t bucket, int rank);

/* Collective. Starts to sum buckets [from, to) of the 1-D tensor `flat` over the ranks, in the
 * background. Waits first for a sum under way. Until dist_reduce_scatter_wait the buckets must not
 * be touched, and dist_reduce_scatter_begin is the only other call of this file that is allowed. */
void dist_reduce_scatter_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to);
/* Collective. Each rank then finds the sums in the parts that it owns. Its other parts are
 * unchanged. */
void dist_reduce_scatter_wait(struct dist *d);
/* Collective. Every rank receives each part of buckets [from, to) of `flat` from its owner. */
void dist_all_gather(struct dist *d, const struct tensor *flat, int64_t from, int64_t to);

#endif
