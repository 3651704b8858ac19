/* The DEQ-Transformer's f, which is `blocks` stacked Transformer-XL blocks with injection (Bai,
 * Kolter, Koltun 2019, section 4). Each has its own injection and its own memory, the states it saw
 * as input.
 *
 * The folder has one file for each thing a cell does, from params and build to eval, vjp, tangent
 * and memory.
 */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_CELL_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_CELL_H

#include "cell/cell.h"
#include "cell/memory.h"
#include "cell/transformer/transformer_block.h"
#include "nn/normed_weight.h"

enum { NORMED_WEIGHTS = 5 }; /* W_qkv, W_r, W_o, W_1, W_2 */

/* What a block makes of its memory before a solve. In the workspace. */
struct memory_activations {
    struct tensor qkv, normed; /* [B,P,3D], and with pre-LN [B,P,D] */
    struct tensor xhat, rstd;  /* [B*P,D], [B*P] for the gain's gradient, if pre-LN has one */
};

/* Tensors are in the workspace. */
struct transformer_cell_block {
    struct block_weights w;
    struct normed_weight normed[NORMED_WEIGHTS]; /* with wnorm */
    struct weight inject, inject_bias;           /* [3D,D], [3D] */
    struct tensor u;                             /* [B,L,3D] */
    struct tensor du;                            /* [N,3D] */
    struct memory *mem_z, *mem_u; /* owns [memories] of states and injections, MEMORY_STATES */
    struct memory *mem_kv;        /* owns [memories] of W_qkv z + u, MEMORY_KEYS */
    struct tensor rk;             /* [R,D] */
    struct tensor drk;            /* [R,D] */
    bool gathered;                /* du and drk hold gradients of this segment */
    struct tensor mask_attention; /* U8 [B,H,L,K] */
    struct tensor mask_attn_out, mask_ff1, mask_ff2; /* [B,D], [B,I], [B,D] */
    struct tensor *outputs; /* owns [plan.slots] output of this block, unless it is the last */
    struct block_tangent tangent; /* CELL_TANGENT */
    struct tensor output_t;       /* [B,L,D], of this block's output, unless it is the last */
    struct block_input input;     /* views into the above, of the current segment */
};

struct transformer_cell {
    struct cell base;
    struct cell_plan plan;
    double dropatt;
    struct block_shape shape;
    bool wnorm;
    int64_t blocks;
    bool layered; /* blocks are layers, one after the other without injection */
    struct transformer_cell_block *block; /* owns: [blocks] */
    /* owns both lists. Block j in slot s has number s * blocks + j, and number j. In layers slot s
     * has number s. */
    struct block_activations *saved;
    struct memory_activations *memory_saved;
    /* In the workspace. */
    struct tensor dmem;    /* gradient of memory_activations.qkv [B*P,3D] */
    struct tensor dmem_in; /* of memory_activations.normed [B*P,D] */
    struct block_scratch scratch;
    struct tangent_scratch more;        /* CELL_TANGENT, as the next ones */
    struct tensor pair_d[2], pair_t[2]; /* [B,L,D] gradients between blocks, and theirs */
    struct tensor positions;            /* [R,D], row d for distance d */
    struct tensor positions_in;         /* the same under the segment's mask */
    struct tensor mask_pos;             /* [D] */
    struct tensor kept, kept_early;     /* for memory_push, B*mem_len*3D numbers at the end of a
                                           segment, and of its evaluations */
    struct tensor dstack;               /* [B,L,D] gradient between stacked blocks */

    struct tensor e; /* borrowed from the current segment */
    int64_t length;  /* L of the current segment */
    int now;         /* memory in use */
    bool injected;   /* this segment's injections are in their memory already */
    bool masked;
};

extern const struct cell_ops transformer_cell_ops;

/* Input of block j in a slot, given the cell's own input, and output, given its own output. */
struct tensor transformer_cell_block_in(const struct transformer_cell *c, int64_t j, int slot,
                                        const struct tensor *z);
struct tensor transformer_cell_block_out(const struct transformer_cell *c, int64_t j, int slot,
                                         const struct tensor *f);
/* Block j in the current segment, with its part of a slot. */
struct block_call transformer_cell_call(const struct transformer_cell *c, int64_t j, int slot);
/* Where a full vjp of block j for rows of shape z [B,L,D] leaves the gradients of its inputs. The
 * segment's first one starts them. */
struct block_grads transformer_cell_grads(struct transformer_cell *c, int64_t j,
                                          const struct tensor *z);
/* Whether injections go to their memory once evaluations have ended, so that their buffer is free.
 */
static inline bool transformer_cell_injects_early(const struct transformer_cell *c)
{
    return c->plan.mode >= CELL_TRAIN && c->plan.last_eval == PHASE_OUTPUT;
}

/* What block j saves of evaluations in a slot. */
static inline struct block_activations *transformer_cell_saved(const struct transformer_cell *c,
                                                               int64_t j, int slot)
{
    return &c->saved[c->layered ? slot : slot * c->blocks + j];
}

/* params.c. Blocks with their own parameters. They are model.blocks, or the layers of an explicit
 * network.
 */
int64_t transformer_cell_blocks(const struct config_model *m);
/* STATUS_NOMEM. */
enum status transformer_cell_declare(struct params *p, const struct config_model *m,
                                     struct error *err);
/* Binds block j's weights to parameters, and to effective weights where those are normalised. */
void transformer_cell_bind(struct transformer_cell *c, const struct params *p,
                           const struct config_model *m, int64_t j);

/* build.c */
enum status transformer_cell_init(struct cell *base, struct error *err);
void transformer_cell_free(struct cell *base);

/* memory.c. Queries, keys and values of the memory of block b, into its input. */
void transformer_cell_begin_memory(struct transformer_cell *c, struct transformer_cell_block *b,
                                   int64_t slot);
/* The gain of a norm over memory states of block j is a parameter too. Accumulates its gradient,
 * given that of the memory's queries, keys and values. Does nothing without data. */
void transformer_cell_gain_gradient(struct transformer_cell *c, int64_t j, int slot,
                                    const struct tensor *dmem);
/* Appends the segment's injections to their memories, where that has not been done. */
void transformer_cell_remember_injections(struct transformer_cell *c, const struct tensor *kept);
void transformer_cell_end_evals(struct cell *base);
void transformer_cell_remember(struct cell *base, int slot, const struct tensor *h);
void transformer_cell_remember_layer(struct cell *base, int64_t j, const struct tensor *z);
void transformer_cell_select_memory(struct cell *base, int index);
int64_t transformer_cell_memory_length(const struct cell *base);
struct memory *transformer_cell_memory(struct cell *base, int index);

/* vjp.c and tangent.c have entries of the table. */
void transformer_cell_vjp(struct cell *base, int slot, const struct tensor *z,
                          const struct tensor *f, const struct tensor *df, const struct tensor *dz,
                          bool full);
void transformer_cell_vjp_layer(struct cell *base, int64_t j, int slot, const struct tensor *z,
                                const struct tensor *f, const struct tensor *df,
                                const struct tensor *dz);
void transformer_cell_end_backward(struct cell *base, const struct tensor *de);
void transformer_cell_finish_gradients(struct cell *base);
void transformer_cell_jvp(struct cell *base, int slot, const struct tensor *z,
                          const struct tensor *f, const struct tensor *z_t,
                          const struct tensor *f_t);
void transformer_cell_vjp_tangent(struct cell *base, int slot, const struct tensor *z,
                                  const struct tensor *f, const struct tensor *z_t,
                                  const struct tensor *df, const struct tensor *dz_t);

#endif
