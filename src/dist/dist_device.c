/* Sums of device memory by way of the host's: what travels is copied there, and back when it is
 * complete. The sums are those of the host's memory, in the order of ranks. */
#include "dist/dist_impl.h"

#include "backend/backend.h"
#include "base/mem.h"

/* Room on the host for all of `flat`. */
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

static void fetch(struct dist *d, const struct tensor *flat, int64_t first, int64_t count)
{
    struct tensor from = tensor_slice(flat, first, count),
                  to = tensor_slice(&d->stage, first, count);
    if (count > 0)
        op_download(d->be, to.data, to.dtype, &from);
}

static void bring_back(struct dist *d, const struct tensor *flat, int64_t first, int64_t count)
{
    struct tensor to = tensor_slice(flat, first, count),
                  from = tensor_slice(&d->stage, first, count);
    if (count > 0)
        op_upload(d->be, &to, from.data, from.dtype);
}

static void sum_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    int64_t total = tensor_count(flat);
    dist_sum_wait(d);
    d->from = d->to = 0; /* nothing comes back after a fault */
    if (!make_stage(d, flat))
        return;
    struct dist_part last = dist_bucket(d, total, to - 1);
    int64_t first = dist_bucket(d, total, from).first;
    fetch(d, flat, first, last.first + last.count - first);
    if (!dist_speaks(d))
        return;
    d->host->sum_begin(d, &d->stage, from, to);
    d->flat = *flat;
    d->from = from;
    d->to = to;
}

static void sum_wait(struct dist *d)
{
    int64_t total = tensor_count(&d->flat);
    d->host->sum_wait(d);
    for (int64_t b = d->from; b < d->to; b++) {
        struct dist_part own = dist_part(d, total, b, d->rank);
        bring_back(d, &d->flat, own.first, own.count);
    }
}

static void share(struct dist *d, const struct tensor *flat)
{
    int64_t total = tensor_count(flat);
    if (!make_stage(d, flat))
        return;
    for (int64_t b = 0; b < dist_buckets(d, total); b++) {
        struct dist_part own = dist_part(d, total, b, d->rank);
        fetch(d, flat, own.first, own.count);
    }
    if (!dist_speaks(d))
        return;
    d->host->share(d, &d->stage);
    bring_back(d, flat, 0, total);
}

const struct transport dist_staged = {sum_begin, sum_wait, share};
