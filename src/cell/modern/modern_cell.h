/* The modern cell. f is a stack of K blocks (modern_block.h) between what makes its injection and
 * what reads its output:
 *
 *   e = norm(prelude(norm(embedding)))   untied blocks, run once a segment
 *   h_0 = inject(z, e)                   the injection's form, model.inject
 *   f(z; e) = h_K - z, h_K or norm(h_K)
 *   head = norm(coda(f))                 untied blocks, run once, whose output the softmax sees
 *
 * z is taken off again where it passes through unchanged (model.norm_place pre, model.inject add, v
 * or qkv, no model.outer_norm). That leaves the identity out of the Jacobian. One evaluation from
 * z = 0 is then the explicit network of the same blocks.
 *
 * Every block's attention remembers the keys and values of earlier segments, not normalised and not
 * turned. They are constants, in training too. Positions are those in memory and segment together,
 * since attention sees only their differences.
 */
#ifndef DEQ_CELL_MODERN_MODERN_CELL_H
#define DEQ_CELL_MODERN_MODERN_CELL_H

#include "cell/cell.h"
#include "cell/memory.h"
#include "cell/modern/modern_block.h"

/* Tensors are in the workspace. */
struct modern_cell_block {
    struct modern_matrix w[MODERN_MATRICES];
    struct memory *mem;               /* owns [memories], rows of k and v */
    struct tensor mem_qkv;            /* [B,P,3A], unless layers share that of their slot */
    struct tensor mask_attn, mask_ff; /* [B,D] */
    struct tensor mask_weights;       /* U8 [B,H,L,K] */
    struct tensor output;             /* [B,L,D] of a block of the prelude or the coda */
    struct modern_input input;        /* views into the above, of the current segment */
    struct modern_tangent tangent;    /* CELL_TANGENT */
};

struct modern_cell {
    struct cell base;
    struct cell_plan plan;
    struct modern_shape shape;
    enum config_injection inject;
    double rope_base;
    bool outer_norm, takes_off, layered;
    int64_t prelude, core, coda;            /* blocks, which lie in this order. Layers are a core */
    struct modern_cell_block *block;        /* owns */
    struct weight inject_w, state_w, decay; /* W_e, and of some forms W and r */
    /* Owns the lists. Those of the prelude come first, then core block j in slot s with number
     * s * core + j, then the coda. In layers slot s has number s. */
    struct modern_activations *saved;
    struct tensor *outputs;   /* [slots * core] of the core's blocks but the last */
    struct tensor *rstd_f;    /* [slots] of [N], with outer_norm */
    struct tensor *layer_mem; /* [slots] of [B,P,3A], of layers */
    /* In the workspace. */
    struct modern_scratch scratch;
    struct modern_tangent_scratch more;
    struct tensor turn;            /* [R,h] */
    struct tensor rstd_embed;      /* [N] of the embedding's norm */
    struct tensor e_in, rstd_in;   /* [B,L,D], [N] the prelude's normed output, if there is one */
    struct tensor u, du;           /* [N,D] or [N,X] */
    struct tensor factor, dfactor; /* [D] logistic(decay), and its gradient */
    /* [B,L,D] gradients between blocks of the core, prelude and coda, and of their outputs. */
    struct tensor dstack, douter, dother[2], dprelude;
    struct tensor head_x, head_rstd;       /* [N,D], [N] of the head's norm, in training */
    struct tensor pair_d[2], pair_t[2];    /* [B,L,D] gradients between blocks, and theirs */
    struct tensor remember_h, remember_kv; /* [N,D], [N,2Gh] */
    struct tensor kept;                    /* for memory_push */
    struct tensor e;                       /* borrowed from the current segment */
    int64_t length;
    int now;       /* memory in use */
    bool gathered; /* du holds gradients of this segment */
    bool masked;
};

extern const struct cell_ops modern_cell_ops;

static inline struct modern_cell *modern_self(const struct cell *c)
{
    return (struct modern_cell *)c;
}

static inline int64_t modern_blocks(const struct modern_cell *c)
{
    return c->prelude + c->core + c->coda;
}

/* What block i saves of evaluations in a slot, of which the prelude and the coda have one. */
struct modern_activations *modern_saved(const struct modern_cell *c, int64_t i, int slot);
struct modern_call modern_call_of(const struct modern_cell *c, int64_t i, int slot);
/* Input and output of core block j in a slot, given those of the cell. */
struct tensor modern_core_in(const struct modern_cell *c, int64_t j, int slot,
                             const struct tensor *z);
struct tensor modern_core_out(const struct modern_cell *c, int64_t j, int slot,
                              const struct tensor *f);

/* params.c. STATUS_NOMEM. */
enum status modern_cell_declare(struct params *p, const struct config_model *m, struct error *err);
/* Binds all weights to parameters. */
void modern_cell_bind(struct modern_cell *c, const struct params *p, const struct config_model *m);
void modern_cell_refresh(struct cell *base);
void modern_cell_finish_gradients(struct cell *base);

/* build.c */
enum status modern_cell_init(struct cell *base, struct error *err);
void modern_cell_free(struct cell *base);

/* memory.c. What attention of block i sees of its memory, into its input. */
void modern_cell_begin_memory(struct modern_cell *c, int64_t i, const struct tensor *mem_qkv);
void modern_cell_remember(struct cell *base, int slot, const struct tensor *h);
void modern_cell_remember_layer(struct cell *base, int64_t j, const struct tensor *z);
void modern_cell_select_memory(struct cell *base, int index);
int64_t modern_cell_memory_length(const struct cell *base);
struct memory *modern_cell_memory(struct cell *base, int index);

/* head.c, vjp.c and tangent.c have entries of the table. */
void modern_cell_head(struct cell *base, const struct tensor *h, const struct tensor *q);
void modern_cell_head_vjp(struct cell *base, const struct tensor *h, const struct tensor *dq,
                          const struct tensor *dh);
/* The gradients that a full vjp of core block j leaves outside of its weights. */
struct modern_grads modern_cell_grads(struct modern_cell *c, int64_t j);
void modern_cell_vjp(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                     const struct tensor *df, const struct tensor *dz, bool full);
void modern_cell_vjp_layer(struct cell *base, int64_t j, int slot, const struct tensor *z,
                           const struct tensor *f, const struct tensor *df,
                           const struct tensor *dz);
void modern_cell_end_backward(struct cell *base, const struct tensor *de);
/* dz <- gradient at the input of blocks [first, first + count) of the prelude or the coda, from df.
 * `input` is that of the first. All [B,L,D], dz not df. */
void modern_cell_stack_vjp(struct modern_cell *c, int64_t first, int64_t count,
                           const struct tensor *input, const struct tensor *df,
                           const struct tensor *dz);
/* Gradient at s of norm(s) = xhat. ds may be dy. */
void modern_cell_norm_vjp(const struct modern_cell *c, const struct tensor *dy,
                          const struct tensor *xhat, const struct tensor *rstd,
                          const struct tensor *ds);
void modern_cell_jvp(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                     const struct tensor *z_t, const struct tensor *f_t);
void modern_cell_vjp_tangent(struct cell *base, int slot, const struct tensor *z,
                             const struct tensor *f, const struct tensor *z_t,
                             const struct tensor *df, const struct tensor *dz_t);

#endif
