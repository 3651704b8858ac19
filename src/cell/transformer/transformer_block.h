/* One block of the DEQ-Transformer: relative multi-head attention and a position-wise
 * feed-forward network, each with a residual connection and a norm (Dai et al. 2019).
 *
 *   post-LN:  y = norm(attn(z) + z) ;            f = norm(ff(y) + y)
 *   pre-LN:   y = attn(norm(z)) + z ; n = norm(y); f = ff(n) + y   (published_residual: ff(n) + n)
 *
 * The block keeps what the vjp needs in a tape. Evaluating f overwrites the tape it is given, so
 * one tape serves any number of evaluations, and the last one can be differentiated.
 */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_BLOCK_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_BLOCK_H

#include "backend/idle.h"
#include "nn/weight.h"

struct block_shape {
    int64_t d_model, n_head, d_inner;
    int64_t span; /* keys a query may see, itself included; 0: all */
    enum norm_kind norm;
    double norm_eps;
    bool pre_norm;
    bool published_residual; /* pre-LN only: the quirk of the published code */
};

struct block_weights {
    struct weight qkv, r, o, ff1, ff2; /* [3D,D] [D,D] [D,D] [I,D] [D,I] */
    struct weight o_bias, ff1_bias, ff2_bias, r_w, r_r;
    struct weight attn_gain, ff_gain; /* [D], NORM_RMS only, else data NULL */
};

/* Dropout masks, fixed for a segment (variational: Gal and Ghahramani 2016); data NULL: none. */
struct block_masks {
    struct tensor attention; /* U8 [B,H,L,K] */
    double attention_scale;
    struct tensor attn_out; /* [B,D] */
    struct tensor ff1;      /* [B,I] */
    double ff1_scale;       /* its numbers other than 0 */
    struct tensor ff2;      /* [B,D] */
};

/* What stays constant during a solve. */
struct block_input {
    struct tensor u;       /* [B,L,3D] injection of the current segment, or NULL: none */
    struct tensor mem_z;   /* [B,P,D] memory states as seen by W_qkv; NULL when P = 0 */
    struct tensor mem_qkv; /* [B,P,3D] W_qkv mem_z + injection of the memory; NULL when P = 0 */
    struct tensor rk;      /* [R,D] W_r R, row d for distance d */
    struct block_masks masks;
    struct tensor sequence; /* I32 [n] or NULL: of chosen rows, the row of masks.ff1 of each */
};

/* Saved by block_eval for block_vjp; planned for the largest B and L. owns all tensors. */
struct block_tape {
    struct tensor qkv, attn, lse;   /* [B,L,3D] [B,L,D] [B,H,L] */
    struct tensor norm_in, rstd_in; /* pre-LN: norm(z) [N,D], [N] */
    struct tensor y;                /* output of the attention half [N,D] */
    struct tensor mid;              /* input of the feed-forward half: post-LN y, pre-LN norm(y) */
    struct tensor xhat1, rstd1;     /* that norm: before the gain [N,D] (NULL without one), [N] */
    struct tensor h;                /* low-precision [N,I] after relu and mask, or NULL: not kept */
    struct tensor relu_mask;        /* of h, for vjps: U8 [N, op_relu_mask_width], or NULL */
    struct tensor xhat2, rstd2;     /* post-LN: the output norm, as xhat1 */
    struct tensor xhat_in;          /* pre-LN with gain: norm(z) before the gain [N,D] */
};

/* What the tapes and the scratch of a cell's blocks are planned for. */
struct block_plan {
    int64_t batch, length; /* the largest B and L */
    bool vjp;              /* evaluations will be differentiated */
    bool train;            /* by weights too */
    bool tangents;         /* and twice (transformer_tangent.h) */
    bool masked;
    bool rows;        /* block_eval_rows will be called */
    bool keep_hidden; /* tapes keep the hidden layer, which a full vjp would else compute again */
    bool dqkv_lent;   /* the caller puts scratch->dqkv there, unless `rows` */
};

/* Scratch of evaluations and vjps, shared by all blocks. owns what is not said to be lent. */
struct block_scratch {
    /* rows of the hidden layer, then of its gradient; behind them in a vjp, gradients [N,D] */
    struct tensor work;
    struct tensor b;    /* [N,D], only under masks */
    struct tensor dqkv; /* [N,3D], for vjps, and some rows; may be lent */
    struct tensor
        again; /* low-precision [rows,I], for full vjps where tapes keep none; may be lent */
    struct tensor row_z, row_mask; /* [N,D], [rows,I]: for some rows */
    int64_t rows;                  /* of the hidden layer that exist at once */
    bool owns_dqkv, again_lent;
};

/* Where a full vjp leaves gradients that are not weights'; data NULL: not wanted. */
struct block_grads {
    struct tensor du;   /* [N,3D] accumulated; scratch->dqkv: written */
    struct tensor dmem; /* [B*P,3D] out: gradient of mem_qkv */
    struct tensor drk;  /* [R,D] accumulated */
};

enum status block_tape_create(struct block_tape *tape, struct backend *be,
                              const struct block_shape *shape, const struct block_plan *plan,
                              struct error *err);
void block_tape_free(struct block_tape *tape, struct backend *be);
/* `idle`, or NULL, lends what is needed in full vjps only. */
enum status block_scratch_create(struct block_scratch *s, struct backend *be,
                                 const struct block_shape *shape, const struct block_plan *plan,
                                 struct idle *idle, struct error *err);
void block_scratch_free(struct block_scratch *s, struct backend *be);
/* scratch->work as a matrix. */
struct tensor block_work(const struct block_scratch *s, enum dtype dtype, int64_t rows,
                         int64_t width);

/* A block of given weights in a segment, and where its evaluations leave what a vjp needs. */
struct block_call {
    struct backend *be;
    const struct block_shape *shape;
    const struct block_weights *w;
    const struct block_input *in;
    const struct block_tape *tape;
    const struct block_scratch *scratch;
};

/* The attention of the block evaluated at z [B,L,D]: its inputs and outputs in the tape. */
struct attention block_attention(const struct block_call *c, const struct tensor *z);

/* The call that takes `dy` [n,D] back through rows [first, first + n) of the evaluated block's
 * hidden layer, whole sequences of `length`, to `dh` [n,I]. */
struct ffn_up_vjp block_ffn_up_vjp(const struct block_call *c, int64_t length, int64_t first,
                                   const struct tensor *dy, const struct tensor *dh);

/* f <- block(z), both [B,L,D]; f must not be z. tape->y then holds the output of the attention
 * half. */
void block_eval(const struct block_call *c, const struct tensor *z, const struct tensor *f);

/* The same in some rows, after a block_eval with the tape at a z that differs in these at most:
 * rows I32 [2,n] holds their rising numbers b*L + t, then their b. Other rows of f stay as they
 * are. The tape then serves no vjp. */
void block_eval_rows(const struct block_call *c, const struct tensor *z, const struct tensor *f,
                     const struct tensor *rows);

/* dz <- J^T df at the z last evaluated with the tape (post-LN: f must still hold its output).
 * z, f, df, dz are [B,L,D]; dz may not be df. With `grads`, the gradients of all weights are
 * accumulated into w->*.dw too and grads is filled; NULL: only dz, as a solve needs it. */
void block_vjp(const struct block_call *c, const struct tensor *z, const struct tensor *f,
               const struct tensor *df, const struct tensor *dz, const struct block_grads *grads);

#endif
