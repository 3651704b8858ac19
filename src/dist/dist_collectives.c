/* Sums of device memory by the backend's own means (backend/collectives.h). */
#include "dist/dist_impl.h"

#include "backend/backend.h"
#include "backend/collectives.h"

static void sum_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    const struct collectives *c = d->be->ops->collectives;
    c->begin(d->be);
    for (int64_t b = from; b < to; b++)
        c->sum(d->be, dist_cut(d, flat, b));
}

static void sum_wait(struct dist *d)
{
    d->be->ops->collectives->wait(d->be);
}

static void share(struct dist *d, const struct tensor *flat)
{
    const struct collectives *c = d->be->ops->collectives;
    c->begin(d->be);
    for (int64_t b = 0; b < dist_buckets(d, tensor_count(flat)); b++)
        c->share(d->be, dist_cut(d, flat, b));
    c->wait(d->be);
}

const struct transport dist_collectives = {sum_begin, sum_wait, share};
