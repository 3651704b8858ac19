/* What a group does without knowing MPI. It compares devices, chooses the transport and divides the
 * gradients. */
#include "dist/dist_impl.h"

#include "backend/backend.h"
#include "backend/collectives.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

int dist_rank(const struct dist *d)
{
    return d != NULL ? d->rank : 0;
}

int dist_size(const struct dist *d)
{
    return d != NULL ? d->size : 1;
}

int dist_local_rank(const struct dist *d)
{
    return d != NULL ? d->local_rank : 0;
}

const char *dist_transport(const struct dist *d)
{
    return d != NULL ? d->description : "one process";
}

bool dist_communicates(const struct dist *d)
{
    return d != NULL && !d->imagined && (d->be == NULL || d->be->fault[0] == '\0');
}

void dist_enter(struct dist *d)
{
    if (d == NULL)
        return;
    atomic_fetch_add_explicit(&d->begun, 1, memory_order_relaxed);
    atomic_store_explicit(&d->waits, true, memory_order_relaxed);
}

void dist_leave(struct dist *d)
{
    if (d != NULL)
        atomic_store_explicit(&d->waits, false, memory_order_relaxed);
}

enum status dist_imagine(struct dist **out, int ranks, struct error *err)
{
    void *p = NULL;
    *out = NULL;
    if (ranks < 2)
        return STATUS_OK;
    TRY(mem_alloc(&p, 1, sizeof(struct dist), err));
    *out = p;
    (*out)->size = ranks;
    (*out)->imagined = true;
    return STATUS_OK;
}

void dist_forget(struct dist *d)
{
    mem_free(d);
}

int64_t dist_gathered(const struct dist *d)
{
    return d != NULL ? d->gathered : 0;
}

/* --- devices ---------------------------------------------------------------------------------- */

/* The device of a rank, as the other ranks learn it. */
struct rank_device {
    char backend[16], name[128], id[64];
};

static struct rank_device device_of(const struct backend *be)
{
    struct rank_device c = {0};
    snprintf(c.backend, sizeof c.backend, "%s", be->ops->name);
    snprintf(c.name, sizeof c.name, "%.127s", be->device_name);
    snprintf(c.id, sizeof c.id, "%s", be->device_id);
    return c;
}

static int count_distinct(const struct rank_device *devices, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        int same = 0;
        while (same < i && strcmp(devices[same].id, devices[i].id) != 0)
            same++;
        n += same == i;
    }
    return n;
}

/* All ranks must train on the same kind of device, and no two on the same device. */
static enum status compare_devices(const struct dist *d, const struct rank_device *devices,
                                   struct error *err)
{
    const struct rank_device *own = &devices[d->rank];
    if (strcmp(own->backend, devices[0].backend) != 0)
        return error_set(err, STATUS_DEVICE,
                         "process %d would train on %s and process 0 on %s: name one for all with "
                         "--device",
                         d->rank, own->backend, devices[0].backend);
    for (int r = 0; r < d->rank; r++)
        if (own->id[0] != '\0' && strcmp(own->id, devices[r].id) == 0)
            return error_set(err, STATUS_DEVICE,
                             "%d processes have %d GPU%s: processes %d and %d would share one "
                             "(%s). Start one process a GPU on each machine (mpirun -np; srun "
                             "--ntasks-per-node), make more visible (CUDA_VISIBLE_DEVICES; "
                             "--gpus-per-task=1), or use --device cpu",
                             d->size, count_distinct(devices, d->size),
                             count_distinct(devices, d->size) == 1 ? "" : "s", r, d->rank,
                             own->name);
    return STATUS_OK;
}

static enum status check_devices(struct dist *d, const struct backend *be, struct error *err)
{
    struct rank_device own = device_of(be), *devices = NULL;
    enum status status = mem_alloc((void **)&devices, (size_t)d->size, sizeof own, err);
    TRY(dist_agree(d, status, err));
    dist_all_gather_bytes(d, &own, sizeof own, devices);
    status = dist_agree(d, compare_devices(d, devices, err), err);
    mem_free(devices);
    return status;
}

/* One rank without collectives makes all ranks send their gradients through host memory. */
static void use_staging(struct dist *d, int lacking, const char *why)
{
    char mpi[sizeof d->description];
    snprintf(mpi, sizeof mpi, "%.200s", d->description);
    d->transport = &dist_staged_transport;
    if (lacking == d->rank)
        snprintf(d->description, sizeof d->description,
                 "%s, gradients by way of the host's memory (slow: %.700s)", mpi, why);
    else
        snprintf(d->description, sizeof d->description,
                 "%s, gradients by way of the host's memory (slow: process %d lacks %.300s)", mpi,
                 lacking, why);
}

/* A rank that cannot join returns its error at once, and its process then ends the group. It must
 * not call dist_agree, because the others may already wait for it in `join`, where no message
 * reaches them. */
static enum status join(struct dist *d, struct backend *be, struct error *err)
{
    const struct collectives *c = be->ops->collectives;
    unsigned char invitation[COLLECTIVES_INVITATION] = {0};
    char text[700], mpi[sizeof d->description];
    bool here = c->available(text, sizeof text);
    int lacking =
        (int)-dist_max(d, here ? -d->size : -d->rank); /* the lowest such rank, or d->size */
    if (lacking < d->size) {
        use_staging(d, lacking, text);
        return STATUS_OK;
    }
    TRY(dist_agree(d, d->rank == 0 ? c->invite(invitation, err) : STATUS_OK, err));
    dist_broadcast(d, invitation, sizeof invitation);
    dist_enter(d);
    enum status status = c->join(be, invitation, d->rank, d->size, err);
    dist_leave(d);
    TRY(status);
    d->transport = &dist_collectives_transport;
    snprintf(mpi, sizeof mpi, "%.200s", d->description);
    snprintf(d->description, sizeof d->description, "%s and %.200s", mpi, text);
    return STATUS_OK;
}

enum status dist_attach(struct dist *d, struct backend *be, struct error *err)
{
    if (dist_size(d) == 1)
        return STATUS_OK;
    TRY(check_devices(d, be, err));
    d->transport = d->host_transport;
    if (be->ops->collectives != NULL)
        TRY(join(d, be, err));
    d->be = be;
    return STATUS_OK;
}

void dist_detach(struct dist *d)
{
    if (d == NULL || d->be == NULL)
        return;
    if (d->transport == &dist_collectives_transport)
        d->be->ops->collectives->leave(d->be);
    else
        dist_reduce_scatter_wait(d);
    mem_free(d->stage.data);
    d->stage.data = NULL;
    d->transport = d->host_transport;
    d->summing = false;
    d->be = NULL;
}

/* --- gradients -------------------------------------------------------------------------------- */

void dist_reduce_scatter_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    if (dist_size(d) == 1 || from >= to || !dist_communicates(d))
        return;
    dist_enter(d);
    d->transport->reduce_scatter_begin(d, flat, from, to);
    dist_leave(d);
    d->summing = true;
}

void dist_reduce_scatter_wait(struct dist *d)
{
    if (d == NULL || !d->summing)
        return;
    dist_enter(d);
    d->transport->reduce_scatter_wait(d);
    dist_leave(d);
    d->summing = false;
}

void dist_all_gather(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    if (dist_size(d) == 1 || from >= to)
        return;
    struct dist_part last = dist_bucket(d, tensor_count(flat), to - 1);
    d->gathered += last.first + last.count - dist_bucket(d, tensor_count(flat), from).first;
    if (!dist_communicates(d))
        return;
    dist_enter(d);
    d->transport->all_gather(d, flat, from, to);
    dist_leave(d);
}

/* --- buckets and parts ------------------------------------------------------------------------ */

enum { PART_ALIGN = 16 }; /* numbers, so that parts begin on vector boundaries */

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t dist_bucket_size(int64_t total)
{
    int64_t most = (int64_t)DIST_MOST_BUCKETS * DIST_BUCKET;
    int64_t times = (total + most - 1) / most;
    return DIST_BUCKET * (times > 1 ? times : 1);
}

int64_t dist_buckets(const struct dist *d, int64_t total)
{
    int64_t size = dist_bucket_size(total);
    return dist_size(d) == 1 ? 1 : (total + size - 1) / size;
}

struct dist_part dist_bucket(const struct dist *d, int64_t total, int64_t bucket)
{
    if (dist_size(d) == 1)
        return (struct dist_part){0, total};
    int64_t size = dist_bucket_size(total), first = bucket * size;
    return (struct dist_part){first, at_most(total - first, size)};
}

struct dist_part dist_part(const struct dist *d, int64_t total, int64_t bucket, int rank)
{
    struct dist_part all = dist_bucket(d, total, bucket);
    int64_t unit = (int64_t)PART_ALIGN * dist_size(d);
    int64_t each = (all.count + unit - 1) / unit * PART_ALIGN;
    int64_t skip = at_most(rank * each, all.count);
    return (struct dist_part){all.first + skip, at_most(all.count - skip, each)};
}

const struct tensor *dist_part_views(struct dist *d, const struct tensor *flat, int64_t bucket)
{
    for (int r = 0; r < d->size; r++) {
        struct dist_part part = dist_part(d, tensor_count(flat), bucket, r);
        d->parts[r] = tensor_slice(flat, part.first, part.count);
    }
    return d->parts;
}
