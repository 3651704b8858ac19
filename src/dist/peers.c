/* The judgement of beats. */
#include "dist/peers.h"

#include "base/mem.h"

#include <stdio.h>

/* What follows a description of the fault. */
#define REMEDY "Checkpoints written before are good, and the same command goes on from them"

enum status peers_init(struct peers *p, int size, int self, double silence, double stall,
                       struct error *err)
{
    void *list;
    *p = (struct peers){.size = size, .self = self, .silence = silence, .stall = stall};
    TRY(mem_alloc(&list, (size_t)size, sizeof *p->list, err));
    p->list = list;
    if (self > 1)
        p->silence *= 2;
    for (int r = 0; r < size; r++)
        p->list[r].expected = r != self && (self == 0 || r == 0);
    return STATUS_OK;
}

void peers_free(struct peers *p)
{
    mem_free(p->list);
    *p = (struct peers){0};
}

void peers_hear(struct peers *p, int rank, const struct beat *beat)
{
    struct peer *peer = &p->list[rank];
    peer->silent = 0;
    if (beat->begun != peer->beat.begun || beat->waits != peer->beat.waits)
        peer->still = 0;
    peer->beat = *beat;
    if (beat->last)
        peer->expected = false;
}

void peers_pass(struct peers *p, double seconds)
{
    for (int r = 0; r < p->size; r++) {
        p->list[r].silent += seconds;
        p->list[r].still += seconds;
    }
}

/* The expected peer that has been silent for longest, or -1. */
static int find_silent(const struct peers *p)
{
    int found = -1;
    for (int r = 0; r < p->size; r++)
        if (p->list[r].expected && (found < 0 || p->list[r].silent > p->list[found].silent))
            found = r;
    return found >= 0 && p->list[found].silent > p->silence ? found : -1;
}

static bool is_still(const struct peers *p, int rank)
{
    return p->list[rank].still > p->stall;
}

/* Whether `a` is more likely than `b` what others wait for. */
static bool is_behind(const struct peer *a, const struct peer *b)
{
    if (a->beat.begun != b->beat.begun)
        return a->beat.begun < b->beat.begun;
    return !a->beat.waits && b->beat.waits;
}

/* The peer that is furthest behind, and the one that is furthest ahead. */
static void find_ends(const struct peers *p, int *behind, int *ahead)
{
    *behind = *ahead = 0;
    for (int r = 1; r < p->size; r++) {
        if (is_behind(&p->list[r], &p->list[*behind]))
            *behind = r;
        if (is_behind(&p->list[*ahead], &p->list[r]))
            *ahead = r;
    }
}

static void tell_silent(const struct peers *p, int rank, char *text, size_t size)
{
    snprintf(text, size,
             "process %d of %d (%s) has not been heard of for %.0f s: it is frozen, its machine "
             "hangs, or the network is down. " REMEDY ", without that machine if it stays so "
             "(--peer-timeout sets the patience)",
             rank, p->size, p->list[rank].host, p->list[rank].silent);
}

static void tell_stalled(const struct peers *p, int behind, int ahead, char *text, size_t size)
{
    const struct peer *late = &p->list[behind], *first = &p->list[ahead];
    if (is_behind(late, first))
        snprintf(text, size,
                 "process %d of %d (%s) lives, but others have waited for it for %.0f s: it hangs "
                 "in a file system or on its device. " REMEDY
                 " (this patience is %.0f times --peer-timeout)",
                 behind, p->size, late->host, first->still, p->stall / p->silence);
    else
        snprintf(text, size,
                 "all %d processes have waited in the same exchange for %.0f s: the network or its "
                 "library is stuck. " REMEDY " (this patience is %.0f times --peer-timeout)",
                 p->size, late->still, p->stall / p->silence);
}

bool peers_lost(const struct peers *p, char *text, size_t size)
{
    int rank = find_silent(p), ahead;
    if (rank >= 0) {
        tell_silent(p, rank, text, size);
        return true;
    }
    if (p->self != 0)
        return false;
    find_ends(p, &rank, &ahead);
    if (!is_still(p, rank) || !is_still(p, ahead) || !p->list[ahead].beat.waits)
        return false;
    tell_stalled(p, rank, ahead, text, size);
    return true;
}
