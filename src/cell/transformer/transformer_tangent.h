/* Second-order derivatives of a transformer block: how f and its vjp change when z moves along a
 * direction (forward-over-reverse). The gradient of v . (J w) with respect to weights, injection
 * and z, for constant v and w, is what the Jacobian's penalty asks for: |v^T J|^2 has twice that
 * gradient at w = J^T v.
 *
 * A name ending in _t is the derivative along the direction of what the name without it stands for.
 */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_TANGENT_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_TANGENT_H

#include "cell/transformer/transformer_block.h"

/* What block_jvp saves for block_vjp_tangent; planned for the largest B and L. owns. */
struct block_tangent {
    struct tensor qkv_t, attn_t; /* [B,L,3D] [B,L,D] */
    struct tensor norm_in_t;     /* pre-LN: norm(z) [N,D] */
    struct tensor s1_t, mid_t;   /* sum of the attention half, and what the other half sees [N,D] */
    struct tensor h_t;           /* low-precision [N,I] */
    struct tensor s2_t;          /* post-LN: sum in front of the output norm [N,D] */
};

/* Scratch of both functions, shared by all blocks, beside that of the block. owns. */
struct tangent_scratch {
    struct tensor dy, dattn;           /* [N,D] */
    struct tensor dy_t, da_t, dattn_t; /* [N,D] */
    struct tensor dqkv_t;              /* [N,3D] */
    struct tensor dh_t;                /* low-precision [N,I] */
};

enum status block_tangent_create(struct block_tangent *t, struct backend *be,
                                 const struct block_shape *shape, int64_t batch, int64_t length,
                                 struct error *err);
void block_tangent_free(struct block_tangent *t, struct backend *be);
enum status tangent_scratch_create(struct tangent_scratch *s, struct backend *be,
                                   const struct block_shape *shape, int64_t batch, int64_t length,
                                   struct error *err);
void tangent_scratch_free(struct tangent_scratch *s, struct backend *be);

/* Everything the two functions share: a block, evaluated at z. */
struct tangent_call {
    struct block_call block;
    const struct block_tangent *tangent;
    const struct tangent_scratch *more;
    struct tensor z, f; /* [B,L,D] as given to block_eval, unchanged */
    struct tensor z_t;  /* [B,L,D] the direction */
};

/* f_t [B,L,D] <- J z_t. */
void block_jvp(const struct tangent_call *c, const struct tensor *f_t);

/* After block_jvp at the same direction: dz <- J^T df, dz_t its derivative with df moving along
 * df_t (data NULL: standing still). The derivatives of the gradients of all weights are added to
 * w->*.dw, those of the injection and of the positions to grads->du and ->drk; grads->dmem gets
 * that of mem_qkv. All [B,L,D]; dz and dz_t may not be df or df_t. */
void block_vjp_tangent(const struct tangent_call *c, const struct tensor *df,
                       const struct tensor *df_t, const struct tensor *dz,
                       const struct tensor *dz_t, const struct block_grads *grads);

#endif
