/* The DEQ-TrellisNet's f is one gated, causal convolution over the state z = (h, c) with injection
 * of the embedded tokens (Bai, Kolter, Koltun 2019, section 4).
 *
 *   us = conv(e) + b_x ;  a = us + conv(h) + b_z ;  c' = f c_{t-1} + i g ;  h' = o tanh(c')
 *
 * A segment goes on where the last one ended: the convolutions see the last states and embeddings
 * of it, as many as they reach back. With `compat`, as published, they see only the last state,
 * repeated for every tap, and no embeddings. With mem_len 0 each segment starts from zeros. */
#ifndef DEQ_CELL_TRELLIS_TRELLIS_CELL_H
#define DEQ_CELL_TRELLIS_TRELLIS_CELL_H

#include "cell/cell.h"
#include "cell/trellis/causal_conv.h"
#include "nn/normed_weight.h"

/* Dropout of a weight matrix (AWD-LSTM's weight drop). v loses some entries, drawn anew for each
 * segment, in front of the weight normalisation. Tensors are in the workspace. */
struct dropped_weight {
    double rate;
    struct tensor mask;  /* [out, taps * in], 1 at the newest tap */
    struct tensor drawn; /* [out, (taps - 1) * in] */
    struct weight v;     /* v under the mask */
    bool without_norm;   /* then v is the effective weight itself */
};

struct trellis_cell {
    struct cell base;
    struct cell_plan plan;
    int64_t half;  /* H, width of h and of c */
    int64_t embed; /* E */
    int64_t pad;   /* rows of history in the padded buffers */
    bool published, wnorm;
    double dropouth;
    struct causal_conv state,
        inject; /* their weights are effective ones with wnorm, else parameters */
    struct normed_weight state_norm, inject_norm;
    struct weight state_bias, inject_bias; /* borrows: [4H] */
    struct dropped_weight drop;            /* of the state's convolution, rate > 0 only */
    /* In the workspace. */
    struct tensor e_rows, u, h_rows; /* [B,pitch,E], [B,pitch,4H], [B,pitch,H] */
    struct tensor c0;                /* [B,H] */
    struct tensor dpre, dh;          /* [B,pitch,4H], [B,pitch,H] */
    struct tensor du;                /* [B,pitch,4H], sum over full vjps */
    struct tensor mask_hidden;       /* [B,H] */
    struct tensor *gates;            /* owns [plan.slots] of [B,pitch,4H] */
    struct tensor kept;              /* for memory_push */

    struct memory *states, *embeds; /* owns [plan.memories] with the last rows of z and e */
    struct tensor e;                /* borrowed from the current segment */
    int64_t length, pitch;          /* of the current segment */
    int now;                        /* memory in use */
    bool masked;
    bool started;  /* there is a state before the segment */
    bool gathered; /* du holds gradients of this segment */
};

extern const struct cell_ops trellis_cell_ops;

/* build.c */
enum status trellis_cell_init(struct cell *base, struct error *err);
void trellis_cell_free(struct cell *base);

#endif
