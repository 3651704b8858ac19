/* Checks reduce-scatter and all-gather on any number of ranks, run by mpirun.
 *
 *   dist_sums [NUMBERS]
 *
 * Sums an array of several buckets, in ranges as the trainer does, and compares with the expected
 * sums. Then gathers the parts, which must give all ranks the same bits. Sums in the order of ranks
 * must be equal bit for bit. Rank 0 prints one line. Exits with 1 if a number is wrong.
 *
 * The tensors are those of the CPU and of the reference. Built for the emulator (emu.mk), they are
 * those of the emulated device, whose sums may be in another order. */
#include "backend/backend.h"
#include "base/mem.h"
#include "dist/dist.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef DEQ_EMULATE
#include "cuda/cuda.h"
#else
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#endif

enum { STANDARD_TOTAL = 3 * DIST_BUCKET + 12345 };

/* The number of rank r at place i. Sums of these round, so that their order shows. */
static double number(int r, int64_t i)
{
    return (float)((double)((i * 2654435761u + (unsigned)r * 40503u) % 1000003) / 7919.0 - 50.0);
}

/* Whether x is the sum at place i. If the sums are in the order of ranks it must be so bit for bit.
 * In another order and float32 it must be within the bound for any order, which is n - 1 roundings
 * of the sum of magnitudes (Higham 2002, 4.4). */
static bool is_sum(const struct dist *d, enum dtype type, bool ordered, int64_t i, double x)
{
    double sum = number(0, i), size = fabs(sum), exact = sum;
    for (int r = 1; r < dist_size(d); r++) {
        sum = type == DTYPE_F32 ? (float)sum + (float)number(r, i) : sum + number(r, i);
        exact += number(r, i);
        size += fabs(number(r, i));
    }
    return ordered ? x == sum : fabs(x - exact) <= (dist_size(d) - 1) * ldexp(size, -24);
}

struct check {
    struct dist *d;
    struct backend be;
    struct tensor t; /* [total] of the backend */
    double *host;    /* [total] */
    int64_t total;
    bool ordered;
};

static void fill(struct check *c)
{
    for (int64_t i = 0; i < c->total; i++)
        c->host[i] = number(dist_rank(c->d), i);
    op_upload(&c->be, &c->t, c->host, DTYPE_F64);
}

/* Counts wrong numbers, which are own parts that are not the sum and other parts that have changed.
 */
static int64_t count_wrong(struct check *c, bool gathered)
{
    struct dist *d = c->d;
    int64_t wrong = 0, covered = 0;
    op_download(&c->be, c->host, DTYPE_F64, &c->t);
    for (int64_t b = 0; b < dist_buckets(d, c->total); b++)
        for (int r = 0; r < dist_size(d); r++) {
            struct dist_part part = dist_part(d, c->total, b, r);
            covered += part.count;
            for (int64_t i = part.first; i < part.first + part.count; i++)
                wrong += gathered || r == dist_rank(d)
                             ? !is_sum(d, c->t.dtype, c->ordered, i, c->host[i])
                             : c->host[i] != number(dist_rank(d), i);
        }
    return wrong + (covered != c->total);
}

/* Counts ranks whose numbers are not all those of rank 0. */
static int64_t count_different(const struct check *c)
{
    uint64_t hash = UINT64_C(14695981039346656037), all[64]; /* FNV-1a, by words */
    int64_t different = 0;
    for (int64_t i = 0; i < c->total; i++) {
        uint64_t bits;
        memcpy(&bits, &c->host[i], sizeof bits);
        hash = (hash ^ bits) * UINT64_C(1099511628211);
    }
    dist_all_gather_bytes(c->d, &hash, sizeof hash, all);
    for (int r = 1; r < dist_size(c->d); r++)
        different += all[r] != all[0];
    return different;
}

static int64_t sum_and_gather(struct check *c)
{
    int64_t buckets = dist_buckets(c->d, c->total), wrong, first = buckets > 1 ? 1 : 0;
    fill(c);
    dist_reduce_scatter_begin(c->d, &c->t, first, buckets > 2 ? 2 : first);
    dist_reduce_scatter_begin(c->d, &c->t, 0, first);
    dist_reduce_scatter_begin(c->d, &c->t, buckets > 2 ? 2 : first, buckets);
    dist_reduce_scatter_wait(c->d);
    wrong = count_wrong(c, false);
    dist_all_gather(c->d, &c->t, 0, first);
    dist_all_gather(c->d, &c->t, first, buckets);
    wrong += count_wrong(c, true);
    return wrong + count_different(c);
}

/* On the backend that is open. */
static enum status check(struct check *c, int64_t *wrong, struct error *err)
{
    TRY(dist_attach(c->d, &c->be, err));
    c->ordered = strstr(dist_transport(c->d), " and NCCL") == NULL;
    TRY(op_alloc(&c->be, &c->t, c->be.ops->real, 1, c->total, 1, 1, 1, err));
    *wrong += sum_and_gather(c);
    op_release(&c->be, &c->t);
    dist_detach(c->d);
    enum status status = backend_check(&c->be, err);
    backend_close(&c->be);
    return status;
}

static enum status check_all(struct check *c, int64_t *wrong, struct error *err)
{
    TRY(dist_open(&c->d, -1, err));
    TRY(mem_alloc((void **)&c->host, (size_t)c->total, sizeof *c->host, err));
#ifdef DEQ_EMULATE
    TRY(cuda_open_nth(&c->be, dist_local_rank(c->d), err));
    return check(c, wrong, err);
#else
    TRY(cpu_open(&c->be, 1, err));
    TRY(check(c, wrong, err));
    TRY(ref_open(&c->be, err));
    return check(c, wrong, err);
#endif
}

int main(int argc, char **argv)
{
    struct check c = {.total = argc > 1 ? atoll(argv[1]) : STANDARD_TOTAL};
    struct error err;
    int64_t wrong = 0;
    if (check_all(&c, &wrong, &err) != STATUS_OK) {
        fprintf(stderr, "dist_sums: %s\n", err.text);
        dist_abort(c.d, 1);
    }
    wrong = dist_max(c.d, wrong);
    if (dist_rank(c.d) == 0)
        printf("%d ranks over %s, %lld buckets, %lld wrong\n", dist_size(c.d), dist_transport(c.d),
               (long long)dist_buckets(c.d, c.total), (long long)wrong);
    mem_free(c.host);
    dist_close(c.d);
    return wrong != 0;
}
