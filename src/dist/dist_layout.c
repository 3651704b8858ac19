/* How a flat array is divided among ranks: the same for all implementations. */
#include "dist/dist_impl.h"

enum { PART_ALIGN = 16 }; /* numbers: parts begin on vector boundaries */

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One rank alone owns everything, in one bucket. */
int64_t dist_buckets(const struct dist *d, int64_t total)
{
    if (dist_size(d) == 1)
        return 1;
    return (total + DIST_BUCKET - 1) / DIST_BUCKET;
}

struct dist_part dist_bucket(const struct dist *d, int64_t total, int64_t bucket)
{
    if (dist_size(d) == 1)
        return (struct dist_part){0, total};
    int64_t first = bucket * DIST_BUCKET;
    return (struct dist_part){first, at_most(total - first, DIST_BUCKET)};
}

struct dist_part dist_part(const struct dist *d, int64_t total, int64_t bucket, int rank)
{
    struct dist_part all = dist_bucket(d, total, bucket);
    int64_t unit = (int64_t)PART_ALIGN * dist_size(d);
    int64_t each = (all.count + unit - 1) / unit * PART_ALIGN;
    int64_t skip = at_most(rank * each, all.count);
    return (struct dist_part){all.first + skip, at_most(all.count - skip, each)};
}

const struct tensor *dist_cut(struct dist *d, const struct tensor *flat, int64_t bucket)
{
    for (int r = 0; r < d->size; r++) {
        struct dist_part part = dist_part(d, tensor_count(flat), bucket, r);
        d->parts[r] = tensor_slice(flat, part.first, part.count);
    }
    return d->parts;
}
