/* What groups have in common, and the choice of how they sum. */
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
    return d != NULL ? d->transport : "one process";
}

bool dist_speaks(const struct dist *d)
{
    return d != NULL && (d->be == NULL || d->be->fault[0] == '\0');
}

/* --- whose memory is summed ------------------------------------------------------------------- */

/* What a rank trains on. */
struct card {
    char backend[16], name[128], id[64];
};

static struct card card_of(const struct backend *be)
{
    struct card c = {0};
    snprintf(c.backend, sizeof c.backend, "%s", be->ops->name);
    snprintf(c.name, sizeof c.name, "%.127s", be->device_name);
    snprintf(c.id, sizeof c.id, "%s", be->device_id);
    return c;
}

static int distinct(const struct card *cards, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        int same = 0;
        while (same < i && strcmp(cards[same].id, cards[i].id) != 0)
            same++;
        n += same == i;
    }
    return n;
}

/* All ranks train on the same kind of device, each on one of its own. */
static enum status compare_cards(const struct dist *d, const struct card *cards, struct error *err)
{
    const struct card *own = &cards[d->rank];
    if (strcmp(own->backend, cards[0].backend) != 0)
        return error_set(err, STATUS_DEVICE,
                         "process %d would train on %s and process 0 on %s: name one for all with "
                         "--device",
                         d->rank, own->backend, cards[0].backend);
    for (int r = 0; r < d->rank; r++)
        if (own->id[0] != '\0' && strcmp(own->id, cards[r].id) == 0)
            return error_set(err, STATUS_DEVICE,
                             "%d processes have %d GPU%s: processes %d and %d would share one "
                             "(%s). Start one process a GPU on each machine (mpirun -np; srun "
                             "--ntasks-per-node), make more visible (CUDA_VISIBLE_DEVICES; "
                             "--gpus-per-task=1), or use --device cpu",
                             d->size, distinct(cards, d->size),
                             distinct(cards, d->size) == 1 ? "" : "s", r, d->rank, own->name);
    return STATUS_OK;
}

static enum status check_cards(struct dist *d, const struct backend *be, struct error *err)
{
    struct card own = card_of(be), *cards = NULL;
    enum status status = mem_alloc((void **)&cards, (size_t)d->size, sizeof own, err);
    TRY(dist_agree(d, status, err));
    dist_gather_all(d, &own, sizeof own, cards);
    status = dist_agree(d, compare_cards(d, cards, err), err);
    mem_free(cards);
    return status;
}

/* Through the host where a rank lacks what it takes: all do the same. */
static void go_by_host(struct dist *d, int lacking, const char *why)
{
    char mpi[sizeof d->transport];
    snprintf(mpi, sizeof mpi, "%.100s", d->transport);
    d->way = &dist_staged;
    if (lacking == d->rank)
        snprintf(d->transport, sizeof d->transport,
                 "%s, gradients by way of the host's memory (slow: %.700s)", mpi, why);
    else
        snprintf(d->transport, sizeof d->transport,
                 "%s, gradients by way of the host's memory (slow: process %d lacks %.300s)", mpi,
                 lacking, why);
}

/* A rank that cannot join says so at once, and by that ends the group: the others may be waiting
 * for it in `join`, where no message reaches them. */
static enum status join(struct dist *d, struct backend *be, struct error *err)
{
    const struct collectives *c = be->ops->collectives;
    unsigned char invitation[COLLECTIVES_INVITATION] = {0};
    char text[700], mpi[sizeof d->transport];
    bool here = c->available(text, sizeof text);
    int lacking = (int)-dist_max(d, here ? -d->size : -d->rank); /* the first, or d->size */
    if (lacking < d->size) {
        go_by_host(d, lacking, text);
        return STATUS_OK;
    }
    TRY(dist_agree(d, d->rank == 0 ? c->invite(invitation, err) : STATUS_OK, err));
    dist_broadcast(d, invitation, sizeof invitation);
    TRY(c->join(be, invitation, d->rank, d->size, err));
    d->way = &dist_collectives;
    snprintf(mpi, sizeof mpi, "%.100s", d->transport);
    snprintf(d->transport, sizeof d->transport, "%s and %.200s", mpi, text);
    return STATUS_OK;
}

enum status dist_attach(struct dist *d, struct backend *be, struct error *err)
{
    if (dist_size(d) == 1)
        return STATUS_OK;
    TRY(check_cards(d, be, err));
    d->way = d->host;
    if (be->ops->collectives != NULL)
        TRY(join(d, be, err));
    d->be = be;
    return STATUS_OK;
}

void dist_detach(struct dist *d)
{
    if (d == NULL || d->be == NULL)
        return;
    if (d->way == &dist_collectives)
        d->be->ops->collectives->leave(d->be);
    else
        dist_sum_wait(d);
    mem_free(d->stage.data);
    d->stage.data = NULL;
    d->way = d->host;
    d->active = false;
    d->be = NULL;
}

/* --- sums ------------------------------------------------------------------------------------- */

void dist_sum_begin(struct dist *d, const struct tensor *flat, int64_t from, int64_t to)
{
    if (dist_size(d) == 1 || from >= to || !dist_speaks(d))
        return;
    d->way->sum_begin(d, flat, from, to);
    d->active = true;
}

void dist_sum_wait(struct dist *d)
{
    if (d == NULL || !d->active)
        return;
    d->way->sum_wait(d);
    d->active = false;
}

void dist_share(struct dist *d, const struct tensor *flat)
{
    if (dist_size(d) > 1 && dist_speaks(d))
        d->way->share(d, flat);
}
