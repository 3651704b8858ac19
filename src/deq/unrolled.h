/* Explicit networks, that is a number of layers applied one after the other and differentiated by
 * plain back-propagation. What an equilibrium is compared with, and what the phases without a solve
 * (pre-training, phantom gradient) are made of.
 *
 *   tied    z_0 = 0,  z_{l+1} = t f(z_l) + (1 - t) z_l, the cell again and again (plain with t = 1)
 *   untied  z_0 = e,  z_{l+1} = f_l(z_l), layers with their own weights and memory, no injection;
 *           with transformer blocks the Transformer-XL (Dai et al. 2019)
 *
 * Memory: a state and a slot a layer. With `recompute` k only the states in front of every k-th
 * layer and the slots of k layers exist. Backwards, stretch by stretch, the k layers are evaluated
 * again (Chen et al. 2016). Untied layers keep all states even then, as the next segment's memory
 * is made of them. */
#ifndef DEQ_DEQ_UNROLLED_H
#define DEQ_DEQ_UNROLLED_H

#include "cell/cell.h"

struct unrolled_plan {
    struct workspace *ws;  /* borrows */
    int64_t batch, length; /* the largest B and L */
    int64_t layers;        /* the most layers of a run, 1 at least */
    int64_t recompute;     /* k, or 0 to keep everything */
    bool untied;
    bool train;           /* gradients will be asked for */
    bool damped;          /* runs with t < 1 will be asked for, not with recompute */
    struct lifetime life; /* of the states behind the first */
    /* Borrowed [B,L,W] are the first state, which the caller fills before a run, and with `train`
     * two gradients, of which the first holds the one of the last layer's output. */
    const struct tensor *start, *gradient[2];
};

struct unrolled {
    struct cell *cell; /* borrowed, set before the first run */
    struct unrolled_plan plan;
    int64_t states;
    /* Lists are owned, tensors are in the workspace. */
    struct tensor *state;   /* [states] of [B,L,W], but that number 0 is *plan.start */
    struct tensor *applied; /* [layers] f of each state, if damped */
    /* of the last run */
    int64_t batch, length, layers;
    bool differentiable; /* a gradient may follow */
    double damping;
    struct tensor z, h; /* views of the last layer's input and output */
};

/* How many slots the cell must hold for runs of so many layers. */
int64_t unrolled_slots(int64_t layers, int64_t recompute, bool train);

/* Declares states of W numbers. STATUS_NOMEM. */
enum status unrolled_create(struct unrolled *net, int64_t w, const struct unrolled_plan *plan,
                            struct error *err);
void unrolled_free(struct unrolled *net);

/* Runs `layers` layers on the segment the cell has begun, from what state 0 holds, to net->h.
 * With `train` unrolled_gradient will follow. */
void unrolled_run(struct unrolled *net, int64_t batch, int64_t length, int64_t layers,
                  double damping, bool train);

/* Before a run of tied layers, applies f plainly to sequence b counts[b] times, on the host, `most`
 * being the largest. State 0 ends as what the run goes on from. No gradient passes through. */
void unrolled_advance(struct unrolled *net, int64_t batch, int64_t length, const int64_t *counts,
                      int64_t most);

/* Given dh [B,L,W], the gradient of net->h, accumulates the gradients of parameters and injection.
 * Returns the gradient of the first state, valid until the next call. */
struct tensor unrolled_gradient(struct unrolled *net, const struct tensor *dh);

/* Hands the run's states to the cell's memory. */
void unrolled_remember(struct unrolled *net);

#endif
