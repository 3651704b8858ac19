/* A group of one process, for a program built without MPI. */
#include "dist/dist.h"

#include <stdlib.h>
#include <string.h>

enum status dist_open(struct dist **out, int launched, struct error *err)
{
    *out = NULL;
    if (launched > 1)
        return error_set(err, STATUS_USAGE,
                         "%d processes were launched, but this program was built without MPI: each "
                         "would train alone. Install libopenmpi-dev and run make MPI=1",
                         launched);
    return STATUS_OK;
}

enum status dist_watch(struct dist *d, double silence, double stall, dist_alarm *alarm, void *ctx,
                       struct error *err)
{
    (void)d;
    (void)silence;
    (void)stall;
    (void)alarm;
    (void)ctx;
    (void)err;
    return STATUS_OK;
}

void dist_close(struct dist *d)
{
    (void)d;
}

noreturn void dist_abort(struct dist *d, int code)
{
    (void)d;
    exit(code);
}

int64_t dist_max(struct dist *d, int64_t mine)
{
    (void)d;
    return mine;
}

void dist_all_gather_bytes(struct dist *d, const void *mine, size_t bytes, void *all)
{
    (void)d;
    memcpy(all, mine, bytes);
}

void dist_gather(struct dist *d, const void *mine, size_t bytes, void *all)
{
    dist_all_gather_bytes(d, mine, bytes, all);
}

void dist_broadcast(struct dist *d, void *data, size_t bytes)
{
    (void)d;
    (void)data;
    (void)bytes;
}

enum status dist_agree(struct dist *d, enum status mine, struct error *err)
{
    (void)d;
    (void)err;
    return mine;
}
