/* The DEQ-Transformer's f: `blocks` stacked Transformer-XL blocks with injection (model-spec 1;
 * blocks > 1: each block has its own injection and its own memory, the states it saw as input). */
#ifndef DEQ_MODEL_TRANSFORMER_CELL_H
#define DEQ_MODEL_TRANSFORMER_CELL_H

#include "model/cell.h"
#include "model/memory.h"
#include "nn/transformer_tangent.h"

enum { NORMED_WEIGHTS = 5 }; /* W_qkv, W_r, W_o, W_1, W_2 */

/* A weight-normalised matrix: parameters v and g, and the effective weight the block sees. */
struct normed_weight {
    struct weight v, g;
    struct tensor inv; /* owns: [rows] 1 / ||v|| */
};

struct transformer_cell_block {
    struct block_weights w;
    struct normed_weight normed[NORMED_WEIGHTS]; /* with wnorm; owns w and dw of those in `w` */
    struct weight inject, inject_bias;           /* [3D,D], [3D] */
    struct tensor u, du;                         /* owns: [B,L,3D], [N,3D] */
    struct memory *mem_z, *mem_u; /* owns: [memories], keep_states: states and injections */
    struct memory *mem_kv;        /* owns: [memories], else: W_qkv z + u */
    struct tensor mem_normed, mem_qkv, dmem;   /* owns: [B,P,D], [B,P,3D], [B*P,3D] */
    struct tensor mem_xhat, mem_rstd, dmem_in; /* owns: pre-LN with a gain and training, for the
                                                  gain's gradient: [B*P,D], [B*P], [B*P,D] */
    struct tensor rk, drk;                     /* owns: [R,D] */
    struct tensor mask_attention;              /* owns: U8 [B,H,L,K] */
    struct tensor mask_attn_out, mask_ff1, mask_ff2; /* owns: [B,D], [B,I], [B,D] */
    struct block_tape *tapes;                        /* owns: [plan.tapes] */
    struct tensor *outputs; /* owns: [plan.tapes] output of this block; the last one has none */
    struct block_tangent tangent; /* plan.tangents */
    struct tensor output_t;       /* owns: [B,L,D], of this block's output; the last one has none */
    struct block_input input;     /* of the current segment: views into the above */
};

struct transformer_cell {
    struct cell base;
    struct cell_plan plan;
    struct block_shape shape;
    bool wnorm;
    int64_t blocks;
    struct transformer_cell_block *block; /* owns: [blocks] */
    struct block_scratch scratch;
    struct tangent_scratch more;        /* plan.tangents, as the next ones */
    struct tensor pair_d[2], pair_t[2]; /* owns: [B,L,D] gradients between blocks, and theirs */
    struct tensor positions;            /* owns: [R,D], row d for distance d */
    struct tensor positions_in;         /* owns: the same under the segment's mask */
    struct tensor mask_pos;             /* owns: [D] */
    struct tensor kept; /* owns unless of `scratch`: for memory_push, B*mem_len*3D numbers */
    bool kept_borrowed;
    struct tensor dstack; /* owns: [B,L,D], stacked blocks: gradient between blocks */
    struct tensor e;      /* borrows: of the current segment */
    int64_t length;       /* L of the current segment */
    int now;              /* memory in use */
    bool masked;
};

/* Declares the parameters of f and the injection. */
enum status transformer_cell_declare(struct params *params, const struct config_model *model,
                                     struct error *err);
/* Builds the cell over declared and committed parameters, which it borrows. */
enum status transformer_cell_create(struct cell **out, const struct params *params,
                                    const struct config_model *model, const struct cell_plan *plan,
                                    struct error *err);

#endif
