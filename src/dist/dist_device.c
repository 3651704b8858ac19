/* Two transports for gradients in device memory. One uses the device's own collectives, the other
 * sends a copy in host memory over MPI. */
#include "dist/dist_impl.h"

#include "backend/backend.h"
#include "backend/collectives.h"
#include "base/mem.h"

/* --- by the device's collectives -------------------------------------------------------------- */

static void collectives_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    const struct collectives *c = d->be->ops->collectives;
    c->begin(d->be);
    for (int64_t b = from; b < to; b++)
        c->reduce_scatter(d->be, dist_part_views(d, flat, b));
}

static void collectives_wait(struct dist *d)
{
    d->be->ops->collectives->wait(d->be);
}

static void collectives_all_gather(struct dist *d, const struct tensor *flat, int64_t from,
                                   int64_t to)
{
    const struct collectives *c = d->be->ops->collectives;
    c->begin(d->be);
    for (int64_t b = from; b < to; b++)
        c->all_gather(d->be, dist_part_views(d, flat, b));
    c->wait(d->be);
}

const struct transport dist_collectives_transport = {collectives_begin, collectives_wait,
                                                     collectives_all_gather};

/* --- through host memory ---------------------------------------------------------------------- */

/* Makes d->stage as large as `flat`. Latches a fault of the backend and returns false if there is
 * no memory. */
static bool make_stage(struct dist *d, const struct tensor *flat)
{
    void *data = NULL;
    struct error err;
    int64_t count = tensor_count(flat);
    if (d->stage.data != NULL && tensor_count(&d->stage) == count)
        return true;
    mem_free(d->stage.data);
    d->stage.data = NULL;
    if (mem_alloc(&data, (size_t)count, dtype_size(flat->dtype), &err) != STATUS_OK) {
        backend_fault_memory(d->be, OP_download, err.text);
        return false;
    }
    d->stage = tensor_make(data, flat->dtype, 1, count, 1, 1, 1);
    return true;
}

static void copy_to_stage(struct dist *d, const struct tensor *flat, int64_t first, int64_t count)
{
    struct tensor from = tensor_slice(flat, first, count),
                  to = tensor_slice(&d->stage, first, count);
    if (count > 0)
        op_download(d->be, to.data, to.dtype, &from);
}

static void copy_from_stage(struct dist *d, const struct tensor *flat, int64_t first, int64_t count)
{
    struct tensor to = tensor_slice(flat, first, count),
                  from = tensor_slice(&d->stage, first, count);
    if (count > 0)
        op_upload(d->be, &to, from.data, from.dtype);
}

static void staged_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    int64_t total = tensor_count(flat);
    dist_reduce_scatter_wait(d);
    d->from = d->to = 0; /* so that staged_wait copies nothing after a fault */
    if (!make_stage(d, flat))
        return;
    struct dist_part last = dist_bucket(d, total, to - 1);
    int64_t first = dist_bucket(d, total, from).first;
    copy_to_stage(d, flat, first, last.first + last.count - first);
    if (!dist_communicates(d))
        return;
    d->host_transport->reduce_scatter_begin(d, &d->stage, from, to);
    d->flat = *flat;
    d->from = from;
    d->to = to;
}

static void staged_wait(struct dist *d)
{
    int64_t total = tensor_count(&d->flat);
    d->host_transport->reduce_scatter_wait(d);
    for (int64_t b = d->from; b < d->to; b++) {
        struct dist_part own = dist_part(d, total, b, d->rank);
        copy_from_stage(d, &d->flat, own.first, own.count);
    }
}

static void staged_all_gather(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    int64_t total = tensor_count(flat);
    if (!make_stage(d, flat))
        return;
    for (int64_t b = from; b < to; b++) {
        struct dist_part own = dist_part(d, total, b, d->rank);
        copy_to_stage(d, flat, own.first, own.count);
    }
    if (!dist_communicates(d))
        return;
    struct dist_part last = dist_bucket(d, total, to - 1);
    int64_t first = dist_bucket(d, total, from).first;
    d->host_transport->all_gather(d, &d->stage, from, to);
    copy_from_stage(d, flat, first, last.first + last.count - first);
}

const struct transport dist_staged_transport = {staged_begin, staged_wait, staged_all_gather};
