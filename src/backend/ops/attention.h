/* Relative attention of one segment over memory and itself, and its derivatives. */
#ifndef DEQ_BACKEND_OPS_ATTENTION_H
#define DEQ_BACKEND_OPS_ATTENTION_H

#include "backend/tensor.h"

#define ATTENTION_OPS(OP)                                     \
    OP(attention, (be, p), const struct attention *p)         \
    OP(attention_vjp, (be, p), const struct attention_vjp *p) \
    OP(attention_tangent, (be, p), const struct attention_tangent *p)

/* Multi-head relative attention (Dai et al. 2019). D = H*h. A row of 3D numbers holds q (D), k (D)
 * and v (D), and head n is columns [n*h, (n+1)*h) of each. The keys are the P memory rows followed
 * by the L current ones.
 *   score_ij = ((q_i + r_w) . k_j + (q_i + r_r) . rk[P + i - j]) / sqrt(h)
 *   a_i      = softmax over j of score_ij
 *   out_i    = sum_j a_ij m_ij v_j
 * Without rk the score is q_i . k_j / sqrt(h), as where q and k have been turned by their positions
 * (ops/heads.h). r_w and r_r are then absent too.
 * A query sees keys j with 0 <= P + i - j < span, and the score of any other key is -inf.
 * m = mask * mask_scale, or 1 without a mask. The q part of `mem` is ignored.
 * With `rows` only those queries are computed, and other rows of out and lse are unspecified
 * afterwards. The result of a query does not depend, to the last bit, on which others are listed.
 */
struct attention {
    struct tensor qkv;  /* [B,L,3D] */
    struct tensor mem;  /* [B,P,3D], NULL when P = 0 */
    struct tensor rk;   /* [R,D] with R >= min(K, span), row d for distance d, or NULL */
    struct tensor r_w;  /* [H,h], NULL exactly if rk is */
    struct tensor r_r;  /* [H,h], NULL exactly if rk is */
    struct tensor mask; /* U8 [B,H,L,K] of 0 and 1, or NULL */
    struct tensor out;  /* [B,L,D] */
    struct tensor lse;  /* [B,H,L] out, the log-sum-exp of the scores, or NULL */
    struct tensor rows; /* I32 [n], rising numbers b*L + i, or NULL for all. Forward only */
    double mask_scale;
    int64_t heads;
    int64_t span; /* number of keys a query may see, itself included, 0 for all */
};

/* The vector-Jacobian product of attention. Scores are computed again from fwd.lse. */
struct attention_vjp {
    struct attention fwd; /* as given to attention, with out and lse as inputs */
    struct tensor dout;   /* [B,L,D] */
    struct tensor dqkv;   /* [B,L,3D] out */
    struct tensor dmem;   /* [B,P,3D] out with q part 0, or NULL */
    struct tensor drk;    /* [R,D] accumulated, or NULL */
    struct tensor dr_w;   /* [H,h] accumulated, or NULL */
    struct tensor dr_r;   /* [H,h] accumulated, or NULL */
};

/* Derivatives of attention and of its vjp along a direction of qkv. Memory and positions stay
 * fixed. out_t is the derivative of `out`. With dout, dqkv is the vjp at dout, and the tensors in
 * _t are the derivatives of what attention_vjp gives under the same name while dout moves along
 * dout_t. Scores are computed again from fwd.lse. */
struct attention_tangent {
    struct attention fwd;         /* as given to attention, with out and lse as inputs */
    struct tensor qkv_t;          /* [B,L,3D] */
    struct tensor out_t;          /* [B,L,D] out, or NULL */
    struct tensor dout, dout_t;   /* [B,L,D], both NULL if only out_t is wanted */
    struct tensor dqkv, dqkv_t;   /* [B,L,3D] out, with dout */
    struct tensor dmem_t;         /* [B,P,3D] out with q part 0, or NULL */
    struct tensor drk_t;          /* [R,D] accumulated, or NULL */
    struct tensor dr_w_t, dr_r_t; /* [H,h] accumulated, or NULL */
};

#endif
