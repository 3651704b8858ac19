/* The DEQ-Transformer's f: `blocks` stacked Transformer-XL blocks with injection (Bai, Kolter,
 * Koltun 2019, section 4). blocks > 1: each block has its own injection and its own memory, the
 * states it saw as input. */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_CELL_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_CELL_H

#include "cell/cell.h"
#include "cell/memory.h"
#include "cell/transformer/transformer_tangent.h"
#include "nn/normed_weight.h"

enum { NORMED_WEIGHTS = 5 }; /* W_qkv, W_r, W_o, W_1, W_2 */

/* What a block makes of its memory before a solve. owns. */
struct memory_tape {
    struct tensor qkv, normed; /* [B,P,3D]; pre-LN: [B,P,D] */
    struct tensor xhat, rstd;  /* pre-LN with a gain and training, for the gain's gradient:
                                  [B*P,D], [B*P] */
};

struct transformer_cell_block {
    struct block_weights w;
    struct normed_weight normed[NORMED_WEIGHTS]; /* with wnorm; owns w of those in `w` */
    struct weight inject, inject_bias;           /* [3D,D], [3D] */
    struct tensor u;                             /* owns: [B,L,3D] */
    struct tensor du;                            /* owns unless lent by the scratch: [N,3D] */
    bool du_lent;
    struct memory *mem_z, *mem_u; /* owns: [memories], keep_states: states and injections */
    struct memory *mem_kv;        /* owns: [memories], else: W_qkv z + u */
    struct tensor rk;             /* owns: [R,D] */
    struct tensor drk;            /* owns unless lent: [R,D] */
    bool drk_lent;                /* then it begins at zero in the only full vjp */
    struct tensor mask_attention; /* owns: U8 [B,H,L,K] */
    struct tensor mask_attn_out, mask_ff1, mask_ff2; /* owns: [B,D], [B,I], [B,D] */
    struct tensor *outputs; /* owns: [plan.tapes] output of this block; the last one has none */
    struct block_tangent tangent; /* plan.tangents */
    struct tensor output_t;       /* owns: [B,L,D], of this block's output; the last one has none */
    struct block_input input;     /* of the current segment: views into the above */
};

struct transformer_cell {
    struct cell base;
    struct cell_plan plan;
    double dropout, dropatt;
    struct block_shape shape;
    bool wnorm;
    int64_t blocks;
    bool layered;                         /* blocks are layers: no injection, one after the other */
    struct transformer_cell_block *block; /* owns: [blocks] */
    /* owns: of block j in tape t number t * blocks + j, and number j; in layers number t */
    struct block_tape *tapes;
    struct memory_tape *memory_tapes;
    struct tensor dmem;    /* gradient of memory_tape.qkv [B*P,3D]; owns unless lent */
    struct tensor dmem_in; /* owns: of memory_tape.normed [B*P,D] */
    bool dmem_lent;
    struct block_scratch scratch;
    struct tangent_scratch more;        /* plan.tangents, as the next ones */
    struct tensor pair_d[2], pair_t[2]; /* owns: [B,L,D] gradients between blocks, and theirs */
    struct tensor positions;            /* owns: [R,D], row d for distance d */
    struct tensor positions_in;         /* owns: the same under the segment's mask */
    struct tensor mask_pos;             /* owns: [D] */
    struct tensor kept; /* owns unless lent: for memory_push, B*mem_len*3D numbers */
    bool kept_lent;
    struct tensor dstack; /* owns: [B,L,D], stacked blocks: gradient between blocks */
    struct tensor e;      /* borrows: of the current segment */
    int64_t length;       /* L of the current segment */
    int now;              /* memory in use */
    bool injected;        /* this segment's injections are in their memory already */
    bool masked;
};

#endif
