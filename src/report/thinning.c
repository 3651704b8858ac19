/* Buckets that double their width when there are too many. */
#include "report/thinning.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>

enum status thinning_create(struct thinning *t, int columns, int capacity, struct error *err)
{
    assert(columns <= THINNING_COLUMNS && capacity >= 2 && capacity % 2 == 0);
    *t = (struct thinning){.columns = columns, .capacity = capacity, .width = 1};
    return mem_alloc((void **)&t->bucket, (size_t)capacity, sizeof *t->bucket, err);
}

void thinning_free(struct thinning *t)
{
    mem_free(t->bucket);
    *t = (struct thinning){0};
}

static void merge(struct thinned *to, const struct thinned *more)
{
    if (more->count == 0)
        return;
    if (to->count == 0) {
        *to = *more;
        return;
    }
    to->count += more->count;
    to->sum += more->sum;
    to->least = fmin(to->least, more->least);
    to->most = fmax(to->most, more->most);
}

static void halve(struct thinning *t)
{
    for (int i = 0; i < t->count; i += 2) {
        struct bucket first = t->bucket[i];
        const struct bucket *second = &t->bucket[i + 1];
        first.rows += second->rows;
        for (int k = 0; k < THINNING_AXES; k++)
            first.axis[k] = second->axis[k];
        for (int k = 0; k < t->columns; k++)
            merge(&first.column[k], &second->column[k]);
        t->bucket[i / 2] = first;
    }
    t->count /= 2;
    t->width *= 2;
}

void thinning_add(struct thinning *t, const double axis[THINNING_AXES], const double *value)
{
    if (t->count == 0 || t->bucket[t->count - 1].rows == t->width) {
        if (t->count == t->capacity)
            halve(t);
        t->bucket[t->count++] = (struct bucket){0};
    }
    struct bucket *b = &t->bucket[t->count - 1];
    b->rows++;
    for (int k = 0; k < THINNING_AXES; k++)
        b->axis[k] = axis[k];
    for (int k = 0; k < t->columns; k++)
        if (isfinite(value[k]))
            merge(&b->column[k], &(struct thinned){1, value[k], value[k], value[k]});
}

double thinned_mean(const struct thinned *c)
{
    return c->count > 0 ? c->sum / (double)c->count : NAN;
}
