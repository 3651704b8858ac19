/* One block of the DEQ-Transformer, which is relative multi-head attention and a position-wise
 * feed-forward network, each with a residual connection and a norm (Dai et al. 2019).
 *
 *   post-LN:  y = norm(attn(z) + z) ;            f = norm(ff(y) + y)
 *   pre-LN:   y = attn(norm(z)) + z ; n = norm(y); f = ff(n) + y   (published_residual: ff(n) + n)
 *
 * An evaluation saves the activations that a vjp needs and overwrites those saved there before. One
 * struct block_activations serves any number of evaluations, of which the last can be
 * differentiated.
 *
 * A name ending in _t is the derivative, along a direction, of what the name without it stands for.
 */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_BLOCK_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_BLOCK_H

#include "cell/cell.h"
#include "nn/weight.h"

struct block_shape {
    int64_t d_model, n_head, d_inner;
    int64_t span; /* keys a query may see, itself included, or 0 for all */
    enum norm_kind norm;
    double norm_eps;
    double dropout;
    bool pre_norm;
    bool published_residual; /* the quirk of the published code, pre-LN only */
};

struct block_weights {
    struct weight qkv, r, o, ff1, ff2; /* [3D,D] [D,D] [D,D] [I,D] [D,I] */
    struct weight o_bias, ff1_bias, ff2_bias, r_w, r_r;
    struct weight attn_gain, ff_gain; /* [D], NORM_RMS only, else data NULL */
};

/* Dropout masks, fixed for a segment (Gal and Ghahramani 2016). One without data is not applied. */
struct block_masks {
    struct tensor attention; /* U8 [B,H,L,K] */
    double attention_scale;
    struct tensor attn_out; /* [B,D] */
    struct tensor ff1;      /* [B,I] */
    double ff1_scale;       /* its numbers other than 0 */
    struct tensor ff2;      /* [B,D] */
};

/* What stays constant during a solve. A tensor without data stands for nothing. */
struct block_input {
    struct tensor u;       /* [B,L,3D] injection of the current segment */
    struct tensor mem_z;   /* [B,P,D] memory states as seen by W_qkv */
    struct tensor mem_qkv; /* [B,P,3D] W_qkv mem_z + injection of the memory */
    struct tensor rk;      /* [R,D] W_r R, row d for distance d */
    struct block_masks masks;
    struct tensor sequence; /* I32 [n], of chosen rows the row of masks.ff1 */
};

/* Saved by block_eval for block_vjp, for the largest B and L. In the workspace. */
struct block_activations {
    struct tensor qkv, attn, lse;   /* [B,L,3D] [B,L,D] [B,H,L] */
    struct tensor norm_in, rstd_in; /* norm(z) [N,D], [N] with pre-LN */
    struct tensor y;                /* output of the attention half [N,D] */
    struct tensor mid;          /* input of the feed-forward half, with pre-LN norm(y), else none */
    struct tensor xhat1, rstd1; /* that norm before the gain [N,D], if there is one, and [N] */
    struct tensor h;            /* low-precision [N,I] after relu and mask, if kept */
    struct tensor relu_mask;    /* bits of h for vjps, U8 [N, op_relu_mask_width], or NULL */
    struct tensor xhat2, rstd2; /* the output norm with post-LN, as xhat1 */
    struct tensor xhat_in;      /* norm(z) before the gain [N,D], pre-LN with gain */
};

/* Scratch of evaluations and vjps, shared by all blocks. In the workspace. */
struct block_scratch {
    int64_t rows;       /* of the hidden layer that exist at once */
    struct tensor work; /* so many rows of the hidden layer, for evaluations */
    struct tensor row_z, row_qkv, row_b, row_mask; /* of some rows, [N,D] [N,3D] [N,D] [rows,I] */
    /* Of vjps. It first holds rows of the hidden layer's gradient and, behind them, with pre-LN
     * that of its input. Then it holds the gradient of attention's output and behind it that of
     * qkv. */
    struct tensor vjp_work;
    struct tensor b;     /* of vjps [N,D], only under masks */
    struct tensor again; /* of full vjps, low-precision [rows,I] where no hidden layer is kept */
};

/* Saved by block_jvp for block_vjp_tangent, for the largest B and L. In the workspace. */
struct block_tangent {
    struct tensor qkv_t, attn_t; /* [B,L,3D] [B,L,D] */
    struct tensor norm_in_t;     /* norm(z) [N,D] with pre-LN */
    struct tensor s1_t, mid_t;   /* sum of the attention half, and what the other half sees [N,D] */
    struct tensor h_t;           /* low-precision [N,I] */
    struct tensor s2_t;          /* sum in front of the output norm [N,D] with post-LN */
};

/* Scratch of both functions, shared by all blocks, beside that of the block. In the workspace. */
struct tangent_scratch {
    struct tensor dy, dattn;           /* [N,D] */
    struct tensor dy_t, da_t, dattn_t; /* [N,D] */
    struct tensor dqkv_t;              /* [N,3D] */
    struct tensor dh_t;                /* low-precision [N,I] */
};

/* Where a full vjp leaves gradients that are not weights'. One without data is not wanted. */
struct block_grads {
    struct tensor du;   /* [N,3D] accumulated or, if `first`, written */
    struct tensor dmem; /* [B*P,3D] written with the gradient of mem_qkv */
    struct tensor drk;  /* [R,D] accumulated */
    bool first;
};

/* Declare the tensors for blocks of a shape in plan->ws. `of` begins the names. */
void block_activations_declare(struct block_activations *saved, const struct cell_plan *plan,
                               const struct block_shape *shape, const char *of,
                               struct lifetime life);
void block_scratch_declare(struct block_scratch *s, const struct cell_plan *plan,
                           const struct block_shape *shape);
void block_tangent_declare(struct block_tangent *t, const struct cell_plan *plan,
                           const struct block_shape *shape, const char *of);
void tangent_scratch_declare(struct tangent_scratch *s, const struct cell_plan *plan,
                             const struct block_shape *shape);

/* The first numbers of a scratch tensor as a matrix. */
struct tensor block_work(const struct tensor *scratch, enum dtype dtype, int64_t rows,
                         int64_t width);
/* The gradient of qkv [n,3D] in vjp_work, behind that of attention's output. */
struct tensor block_dqkv(const struct block_scratch *s, int64_t n, int64_t d_model);

/* With pre-LN, the gradient [n,D] of the feed-forward half's input in vjp_work, behind rows of the
 * hidden layer's gradient, `inner` numbers of type `low` each. */
struct tensor block_dinput(const struct block_scratch *s, enum dtype low, int64_t inner, int64_t n,
                           int64_t d_model);

/* A block of given weights in a segment, and where its evaluations save what a vjp needs. */
struct block_call {
    struct backend *be;
    const struct block_shape *shape;
    const struct block_weights *w;
    const struct block_input *in;
    const struct block_activations *saved;
    const struct block_scratch *scratch;
};

/* The planned buffer cut to `rows` rows. NULL stays NULL. */
static inline struct tensor block_rows(const struct tensor *t, int64_t rows)
{
    if (t->data == NULL)
        return *t;
    return t->ndim == 1 ? tensor_prefix(t, 1, rows, 1, 1, 1)
                        : tensor_prefix(t, 2, rows, t->dim[t->ndim - 1], 1, 1);
}

/* Rows [first, first + count) of it. NULL stays NULL. */
static inline struct tensor block_part(const struct tensor *t, int64_t first, int64_t count)
{
    return t->data == NULL ? *t : tensor_slice(t, first, count);
}

/* The attention of the block evaluated at z [B,L,D]. Inputs and outputs are saved activations. */
struct attention block_attention(const struct block_call *c, const struct tensor *z);

/* The call that takes `dy` [n,D] back through rows [first, first + n) of the evaluated block's
 * hidden layer, whole sequences of `length`, to `dh` [n,I]. */
struct ffn_up_vjp block_ffn_up_vjp(const struct block_call *c, int64_t length, int64_t first,
                                   const struct tensor *dy, const struct tensor *dh);

/* Rows of the hidden layer to work through at once, in whole sequences of `length` rows. */
int64_t block_rows_at_once(const struct block_scratch *s, int64_t n, int64_t length);
/* h <- the hidden layer of rows [first, first + count) of `mid`. Its bits go to `relu_mask` unless
 * that is NULL. */
void block_hidden(const struct block_call *c, int64_t length, const struct tensor *mid,
                  int64_t first, const struct tensor *h, const struct tensor *relu_mask);

/* f <- block(z), both [B,L,D], where f must not be z. saved->y then holds the output of the
 * attention half. */
void block_eval(const struct block_call *c, const struct tensor *z, const struct tensor *f);

/* The same in some rows, after a block_eval with the same saved activations at a z that differs in
 * these at most. rows I32 [2,n] holds their rising numbers b*L + t, then their b. Other rows of f
 * stay as they are. No vjp may follow. */
void block_eval_rows(const struct block_call *c, const struct tensor *z, const struct tensor *f,
                     const struct tensor *rows);

/* dz <- J^T df at the z last evaluated, whose output f must still hold. z, f, df, dz are [B,L,D],
 * and dz may not be df. With `grads`, the gradients of all weights are accumulated into w->*.dw too
 * and grads is filled. NULL gives only dz, as a solve needs it. */
void block_vjp(const struct block_call *c, const struct tensor *z, const struct tensor *f,
               const struct tensor *df, const struct tensor *dz, const struct block_grads *grads);

/* What second derivatives take, which is a block evaluated at z. */
struct tangent_call {
    struct block_call block;
    const struct block_tangent *tangent;
    const struct tangent_scratch *more;
    struct tensor z, f; /* [B,L,D] as given to block_eval, unchanged */
    struct tensor z_t;  /* [B,L,D] the direction */
};

/* f_t [B,L,D] <- J z_t. */
void block_jvp(const struct tangent_call *c, const struct tensor *f_t);

/* After block_jvp at the same direction, dz <- J^T df and dz_t its derivative with df moving along
 * df_t, or standing still where that has no data. The derivatives of the gradients of all weights
 * are added to w->*.dw, those of the injection and of the positions to grads->du and ->drk.
 * grads->dmem gets that of mem_qkv. All are [B,L,D], and dz and dz_t may not be df or df_t.
 *
 * The gradient of v . (J w) for constant v and w is what the Jacobian's penalty asks for, since
 * |v^T J|^2 has twice that gradient at w = J^T v (forward-over-reverse). */
void block_vjp_tangent(const struct tangent_call *c, const struct tensor *df,
                       const struct tensor *df_t, const struct tensor *dz,
                       const struct tensor *dz_t, const struct block_grads *grads);

#endif
