/* dist_sums: run by mpirun on any number of ranks. Sums arrays that span several buckets, in ranges
 * as the trainer does, and compares with the sum in the order of ranks, bit for bit; then shares
 * the parts. Prints one line on rank 0; exit code 1 if a number is wrong. */
#include "base/mem.h"
#include "dist/dist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOTAL = 3 * DIST_BUCKET + 12345 };

/* What rank r has at place i: sums of these round, so that their order shows. */
static double number(int r, int64_t i)
{
    return (double)((i * 2654435761u + (unsigned)r * 40503u) % 1000003) / 7919.0 - 50.0;
}

static double sum_at(const struct dist *d, enum dtype type, int64_t i)
{
    double sum = type == DTYPE_F32 ? (float)number(0, i) : number(0, i);
    for (int r = 1; r < dist_size(d); r++)
        sum = type == DTYPE_F32 ? (float)sum + (float)number(r, i) : sum + number(r, i);
    return sum;
}

static double at(const struct tensor *t, int64_t i)
{
    return t->dtype == DTYPE_F32 ? ((const float *)t->data)[i] : ((const double *)t->data)[i];
}

static void fill(const struct dist *d, const struct tensor *t)
{
    for (int64_t i = 0; i < TOTAL; i++)
        if (t->dtype == DTYPE_F32)
            ((float *)t->data)[i] = (float)number(dist_rank(d), i);
        else
            ((double *)t->data)[i] = number(dist_rank(d), i);
}

/* Wrong numbers: parts that are not the sum, others that are not as they were. */
static int64_t count_wrong(const struct dist *d, const struct tensor *t, bool shared)
{
    int64_t wrong = 0, covered = 0;
    for (int64_t b = 0; b < dist_buckets(d, TOTAL); b++)
        for (int r = 0; r < dist_size(d); r++) {
            struct dist_part part = dist_part(d, TOTAL, b, r);
            covered += part.count;
            for (int64_t i = part.first; i < part.first + part.count; i++) {
                double mine = t->dtype == DTYPE_F32 ? (float)number(dist_rank(d), i)
                                                    : number(dist_rank(d), i);
                bool summed = shared || r == dist_rank(d);
                wrong += at(t, i) != (summed ? sum_at(d, t->dtype, i) : mine);
            }
        }
    return wrong + (covered != TOTAL);
}

static int64_t check(struct dist *d, enum dtype type, void *data)
{
    struct tensor t = tensor_make(data, type, 1, TOTAL, 1, 1, 1);
    int64_t buckets = dist_buckets(d, TOTAL), wrong, first = buckets > 1 ? 1 : 0;
    fill(d, &t);
    dist_sum_begin(d, &t, first, buckets > 2 ? 2 : first);
    dist_sum_begin(d, &t, 0, first);
    dist_sum_begin(d, &t, buckets > 2 ? 2 : first, buckets);
    dist_sum_wait(d);
    wrong = count_wrong(d, &t, false);
    dist_share(d, &t);
    return wrong + count_wrong(d, &t, true);
}

int main(void)
{
    struct dist *d;
    struct error err;
    void *data = NULL;
    if (dist_open(&d, -1, &err) != STATUS_OK || mem_alloc(&data, TOTAL, 8, &err) != STATUS_OK) {
        fprintf(stderr, "dist_sums: %s\n", err.text);
        return 1;
    }
    int64_t wrong = check(d, DTYPE_F32, data) + check(d, DTYPE_F64, data);
    wrong = dist_max(d, wrong);
    if (dist_rank(d) == 0)
        printf("%d ranks, %lld buckets, %lld wrong\n", dist_size(d),
               (long long)dist_buckets(d, TOTAL), (long long)wrong);
    mem_free(data);
    dist_close(d);
    return wrong != 0;
}
