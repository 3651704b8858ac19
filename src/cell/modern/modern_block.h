/* One block of the modern cell: attention over rotated heads and a feed-forward network, each with
 * a residual connection and norms without gains. With h the block's input,
 *
 *   pre:       y = h + attention(norm(h)) ;        out = y + ff(norm(y))
 *   post:      y = norm(h + attention(h)) ;        out = norm(y + ff(y))
 *   sandwich:  y = norm(h + attention(norm(h))) ;  out = norm(y + ff(norm(y)))
 *
 * No map has a bias. What a branch adds may be scaled by a gate, which lies in the effective weight
 * of its last map, so that it costs nothing in an evaluation (struct modern_matrix).
 *
 * An evaluation saves the activations that a vjp needs and overwrites those saved there before.
 * A name ending in _t is the derivative, along a direction, of what the name without it stands for.
 */
#ifndef DEQ_CELL_MODERN_MODERN_BLOCK_H
#define DEQ_CELL_MODERN_MODERN_BLOCK_H

#include "cell/cell.h"
#include "nn/normed_weight.h"

struct modern_shape {
    int64_t d_model, heads, groups, head; /* D, H, G, h */
    int64_t attn, wide;                   /* A = Hh and X = (H+2G)h, numbers of heads */
    int64_t inner, up;                    /* I, and the numbers in front of the activation */
    int64_t span;                         /* keys a query may see, itself included, or 0 for all */
    enum norm_kind norm;
    enum config_norm_place place;
    enum activation activation;
    double eps, dropout, dropatt;
    bool qk_norm, rope;
};

/* A matrix, perhaps of normalised rows, perhaps under a gate. w is what products take. Its gradient
 * is gathered where that of `own` is, and turned into theirs when the step ends. */
struct modern_matrix {
    struct weight w, own;
    struct normed_weight normed;   /* if normed.v.w has data */
    struct weight gate;            /* [rows] or [1] r, if there is one */
    struct tensor factor, dfactor; /* logistic(r), and its gradient. In the workspace */
};

enum { MODERN_MATRICES = 4 };
enum modern_matrix_id { MODERN_QKV, MODERN_OUT, MODERN_UP, MODERN_DOWN };

/* What enters a block in place of its input z. */
enum modern_entry {
    ENTRY_PLAIN,  /* h = z */
    ENTRY_ADD,    /* h = z * factor + u, the factor 1 if it has no data */
    ENTRY_LINEAR, /* h = W z + u */
    ENTRY_QKV     /* h = z, and u is added to the projection of q, k and v */
};

/* What stays constant during a solve. A tensor without data stands for nothing. */
struct modern_input {
    enum modern_entry entry;
    struct tensor u;                  /* [N,D], or [N,X] of ENTRY_QKV */
    struct tensor factor;             /* [D] */
    struct weight *state;             /* W of ENTRY_LINEAR, borrowed */
    struct tensor mem_qkv;            /* [B,P,3A] */
    int64_t first;                    /* position of the segment's first token */
    struct tensor turn;               /* [R,h] as struct heads takes it */
    struct tensor mask_attn, mask_ff; /* [B,D] dropout of what the halves add */
    struct tensor mask_weights;       /* U8 [B,H,L,K] of attention's weights */
    double weights_scale;             /* its factor */
};

/* Saved for block_vjp, for the largest B and L. In the workspace. Norms have no gain, so that a
 * normalised row is both their output and what their vjp needs. */
struct modern_activations {
    struct tensor n1, rstd1; /* what q, k and v are made of [N,D]. With post-LN h if it is not z */
    struct tensor x, qkv, attn, lse; /* [N,X] [N,3A] [N,A] [B,H,L] */
    struct tensor y, rstd_y;         /* [N,D], [N]. Not saved with pre-LN */
    struct tensor n2, rstd2;         /* what the feed-forward network sees. With post-LN y */
    struct tensor up;                /* [N,U], if it is kept */
    struct tensor rstd_out;          /* [N] of the output's norm */
};

/* Scratch of evaluations and vjps, shared by all blocks. In the workspace. */
struct modern_scratch {
    int64_t rows;                        /* of the feed-forward network at once */
    struct tensor h, y;                  /* [N,D] h, and y with pre-LN */
    struct tensor up, hidden;            /* [rows,U], low-precision [rows,I] */
    struct tensor row_z, row_u, row_qkv; /* of some rows, [N,D] [N,max(D,X)] [N,3A] */
    struct tensor row_mask[2];           /* [N,D] */
    /* Of vjps. `narrow` holds the gradient of attention's output, then of x. `wide` holds those of
     * the feed-forward network, then of qkv. */
    struct tensor narrow, wide;
    struct tensor dn, da; /* [N,D] gradients of a norm's output, and under a mask */
};

/* Where a full vjp leaves gradients that are not the block's weights'. */
struct modern_grads {
    struct tensor du; /* of input.u, accumulated or, if `first`, written. NULL with ENTRY_PLAIN */
    struct tensor dfactor; /* [D] accumulated, or NULL */
    bool first;
};

/* Saved by modern_block_jvp for modern_block_vjp_tangent. In the workspace. */
struct modern_tangent {
    struct tensor h_t, n1_t;             /* [N,D] */
    struct tensor x_t, qkv_t, attn_t;    /* [N,X] [N,3A] [N,A] */
    struct tensor s1_t, y_t, n2_t, s2_t; /* [N,D] the sums of both halves, y and n2 */
    struct tensor up_t;                  /* [N,U] */
    struct tensor out_t;                 /* [N,D] of the block's output */
};

/* Scratch of both, shared by all blocks, beside that of the block. In the workspace. */
struct modern_tangent_scratch {
    struct tensor hidden, hidden_t;       /* low-precision [N,I] */
    struct tensor dhidden, dhidden_t;     /* [N,I] */
    struct tensor dup, dup_t;             /* low-precision [N,U] */
    struct tensor dattn, dattn_t;         /* [N,A] */
    struct tensor dqkv, dqkv_t, dx, dx_t; /* [N,3A] [N,3A] [N,X] [N,X] */
    struct tensor d[3], t[3];             /* [N,D] gradients and their derivatives */
};

/* A block in a segment, and where its evaluations save what a vjp needs. */
struct modern_call {
    struct backend *be;
    const struct modern_shape *shape;
    const struct modern_matrix *w; /* [MODERN_MATRICES] */
    const struct modern_input *in;
    const struct modern_activations *saved;
    const struct modern_scratch *scratch;
};

/* `entry` is that of the block with the saved activations. */
void modern_activations_declare(struct modern_activations *s, const struct cell_plan *p,
                                const struct modern_shape *shape, enum modern_entry entry,
                                const char *of, struct lifetime life);

/* Lives of the scratch of evaluations, of vjps, and of full vjps. */
struct modern_lives {
    struct lifetime eval, vjp, full;
};
void modern_scratch_declare(struct modern_scratch *s, const struct cell_plan *p,
                            const struct modern_shape *shape, const struct modern_lives *lives);
void modern_tangent_declare(struct modern_tangent *t, const struct cell_plan *p,
                            const struct modern_shape *shape);
void modern_tangent_scratch_declare(struct modern_tangent_scratch *t, const struct cell_plan *p,
                                    const struct modern_shape *shape);

/* The planned buffer cut to `rows` rows. NULL stays NULL. */
static inline struct tensor modern_rows(const struct tensor *t, int64_t rows)
{
    if (t->data == NULL)
        return *t;
    if (t->ndim == 1)
        return tensor_prefix(t, 1, rows, 1, 1, 1);
    return tensor_prefix(t, 2, rows, t->dim[t->ndim - 1], 1, 1);
}

/* Calls of the block's operations at n rows, whose inputs and outputs are saved activations. The
 * heads' rows are numbers b*L + t, or NULL. */
struct heads modern_heads(const struct modern_call *c, int64_t length, int64_t n);
struct attention modern_attention(const struct modern_call *c, int64_t batch, int64_t length);

/* h and what q, k and v are made of, for z [n,D] and the injection u of the same rows. `h` and `n1`
 * receive views. */
void modern_enter(const struct modern_call *c, const struct tensor *z, const struct tensor *u,
                  struct tensor *h, struct tensor *n1);

/* f <- block(z), both [B,L,D]. f must not be z. */
void modern_block_eval(const struct modern_call *c, const struct tensor *z, const struct tensor *f);
/* The same in some rows, after a modern_block_eval with the same saved activations at a z that
 * differs in these at most (struct cell_ops, eval_rows). `from` and `out` receive views [n,D] of
 * these rows of z and of the block's output, in scratch. */
void modern_block_eval_rows(const struct modern_call *c, const struct tensor *z,
                            const struct tensor *rows, struct tensor *from, struct tensor *out);
/* dz <- J^T df at the z last evaluated, whose output f must still hold. All are [B,L,D], and dz may
 * not be df. With `grads` it also accumulates the gradients of all weights. */
void modern_block_vjp(const struct modern_call *c, const struct tensor *z, const struct tensor *f,
                      const struct tensor *df, const struct tensor *dz,
                      const struct modern_grads *grads);

/* What second derivatives take, which is a block evaluated at z. */
struct modern_tangent_call {
    struct modern_call block;
    const struct modern_tangent *tangent;
    const struct modern_tangent_scratch *more;
    struct tensor z, f; /* [B,L,D] as given to modern_block_eval, unchanged */
    struct tensor z_t;  /* [B,L,D] the direction */
};

/* tangent->out_t <- J z_t. */
void modern_block_jvp(const struct modern_tangent_call *c);
/* After modern_block_jvp at the same direction, dz <- J^T df and dz_t its derivative while df moves
 * along df_t. Adds the derivatives of the gradients to those of the weights and to grads. */
void modern_block_vjp_tangent(const struct modern_tangent_call *c, const struct tensor *df,
                              const struct tensor *df_t, const struct tensor *dz,
                              const struct tensor *dz_t, const struct modern_grads *grads);

#endif
