/* What a rank knows of the others by their beats, and who of them has fallen silent or hangs.
 *
 * A beat is a small message that each rank sends every few seconds. Rank 0 receives those of all
 * ranks, and all others receive that of rank 0. Time is counted in the receiver's own waking hours:
 * where all processes are stopped for a night and then go on, nobody was silent. */
#ifndef DEQ_DIST_PEERS_H
#define DEQ_DIST_PEERS_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEER_HOST_MAX = 64 };

struct beat {
    int64_t begun; /* collective calls that the rank's main thread has begun */
    int32_t waits; /* whether it is inside of one */
    int32_t last;  /* no more beats will follow, as the rank closes its group */
};

struct peer {
    char host[PEER_HOST_MAX];
    bool expected; /* its beats are awaited */
    struct beat beat;
    double silent; /* seconds since its last beat */
    double still;  /* seconds since its beats began to tell the same */
};

struct peers {
    int size, self;
    struct peer *list; /* owns [size] */
    double silence;    /* seconds after which an expected peer is lost */
    double stall;      /* seconds after which a peer for which others wait is taken to hang */
};

/* Rank 0 expects all others, and they expect rank 0. Rank 1 has the same patience with rank 0 as
 * rank 0 with all others. The others have twice as much, so that as a rule one of the two speaks.
 * STATUS_NOMEM. Call peers_free in any case. */
enum status peers_init(struct peers *p, int size, int self, double silence, double stall,
                       struct error *err);
void peers_free(struct peers *p);

/* A beat of `rank` has arrived. */
void peers_hear(struct peers *p, int rank, const struct beat *beat);
/* So much time has passed, in which the beats that had arrived were heard. */
void peers_pass(struct peers *p, double seconds);

/* Whether the group cannot go on, and if so why, into text[size]. A peer is lost that is silent. On
 * rank 0, which hears of all, a peer is also lost if it is behind others in its calls, or in none,
 * while another one waits, and both have been so for p->stall. Where all wait so long in the same
 * call the network is at fault. */
bool peers_lost(const struct peers *p, char *text, size_t size);

#endif
