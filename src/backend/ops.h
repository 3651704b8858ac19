/* The operations that every backend implements, and their contracts.
 *
 * A model, solver or trainer is written once against this table; where memory lives and how a
 * product is computed is the backend's business. Every slot must be filled: memory may be on a
 * device, so nothing could stand in for a missing operation; backend_init refuses a NULL slot.
 *
 * Common rules, unless an entry says otherwise:
 *  - `real` tensors have the backend's own floating type (F32; F64 in `ref`); indices are I32.
 *  - `low-precision` tensors have the type that op_low_precision (backend.h) tells: real, or BF16
 * where factors of products are rounded to it anyway. Only weights and hidden layers are.
 *  - Tensors are contiguous. Outputs must not overlap inputs, except where "in place" is said.
 *  - Row sums, norms, softmax statistics and dot products are accumulated at least in F32 with a
 *    fixed order for a given thread count: the same inputs give the same bits.
 *  - NaN and infinity propagate; no operation hides them.
 *  - Nothing returns a number to the host but `download`, the only synchronisation; it is counted.
 *  - Operations do not fail one by one: a device fault is latched with the operation's name and
 *    reported by backend_check.
 * Call the op_* functions (ops*.c), not the table: they check shapes with assert and keep the
 * counts of calls, seconds, floating-point operations and bytes.
 *
 * A new operation is a slot here with its contract, an entry in OP_LIST and an op_* function
 * (backend.h), a function of its name in each of ref, cpu, count and cuda, and cases of the suite
 * (tests/ops).
 */
#ifndef DEQ_BACKEND_OPS_H
#define DEQ_BACKEND_OPS_H

#include "backend/tensor.h"
#include "base/rng.h"
#include "base/status.h"
#include <stdbool.h>

struct backend;
struct collectives;

/* What the factors of `gemm` are rounded to before they are multiplied; sums are in the real type,
 * everything else keeps it, and so may products too small to gain by it. TF32 has 10 bits of
 * mantissa, BF16 7 (units of 2^-11 and 2^-8): a residual of a solve cannot fall much below that. */
enum precision { PRECISION_FP32, PRECISION_TF32, PRECISION_BF16, PRECISION_COUNT };

/* c = alpha * op(a) * op(b) + beta * c, all 2-D; op transposes where the flag is set. a and b may
 * be low-precision. beta 0 overwrites c whatever it held, NaN included; an empty inner dimension
 * leaves beta * c. A stride other than 0 is the distance between rows of a, b or c as stored: the
 * tensor is then a block of columns of a wider matrix, the one exception to contiguity. With `add`,
 * beta multiplies that in place of c. */
struct gemm {
    bool trans_a, trans_b;
    double alpha, beta;
    struct tensor a, b, c;
    int64_t a_stride, b_stride, c_stride;
    struct tensor add; /* of c's count, not c itself; NULL: c */
};

/* The hidden layer of a feed-forward network:  h = relu(x w^T + bias) * mask.
 * Row n uses mask row n / rows_per_mask. The mask's numbers are 0 or mask_scale, the same for all.
 * relu passes a NaN on (BF16: or makes it 0, as the device's library does; the residual connection
 * around a feed-forward network keeps those of x). BF16: h is rounded once, at its end.
 * Where h is BF16 a row of w has room behind its D numbers, w_stride >= D + op_ffn_up_padding in
 * all, whose content is the backend's: no other operation may want it to stay. */
struct ffn_up {
    struct tensor x;         /* [N,D] */
    struct tensor w;         /* low-precision [I,D], rows w_stride apart (0: contiguous) */
    struct tensor bias;      /* [I] */
    struct tensor mask;      /* [N / rows_per_mask, I] or NULL: 1 */
    struct tensor h;         /* low-precision [N,I] out */
    struct tensor relu_mask; /* U8 [N, op_relu_mask_width] out, for ffn_up_vjp; NULL: not wanted */
    int64_t w_stride, rows_per_mask;
    double mask_scale;
};

/* Through it, from what follows or (forward) along a direction of x:
 *   dh = h > 0 ? (dy w) * mask : 0 ;  forward: dh = h > 0 ? (dy w^T) * mask : 0
 * `relu_mask` is as `hidden` left it with h, for the same sizes and mask, or NULL. Where the table
 * has ffn_rows it stands for h, which may then be NULL. */
struct ffn_up_vjp {
    struct tensor dy; /* [N,D] */
    struct tensor w;  /* low-precision [D,I] ([I,D] forward), rows w_stride apart (0: contiguous) */
    struct tensor mask;      /* as in struct ffn_up */
    struct tensor h;         /* low-precision [N,I] or NULL */
    struct tensor relu_mask; /* U8 [N, op_relu_mask_width] or NULL */
    struct tensor dh;        /* low-precision [N,I] out */
    int64_t w_stride, rows_per_mask;
    double mask_scale;
    bool forward;
};

enum norm_kind { NORM_NONE, NORM_LAYER, NORM_RMS };

/* One pass over the N rows of D:  s = (a + bias) * mask + res ;  y = norm(s).
 * NORM_LAYER: (s - mean) * rstd, biased variance, no gain or bias;
 * NORM_RMS: s * rstd * gain, rstd = 1 / sqrt(mean(s^2) + eps).
 * Row n uses mask row n / rows_per_mask. Tensors with data NULL are left out: bias, mask, res,
 * gain (then 1), sum, y (with NORM_NONE), xhat, rstd. */
struct residual_norm {
    struct tensor a;    /* [N,D] */
    struct tensor bias; /* [D] */
    struct tensor mask; /* [N / rows_per_mask, D] */
    struct tensor res;  /* [N,D]; may be the same tensor as `sum` or `y` */
    struct tensor gain; /* [D], NORM_RMS only */
    struct tensor sum;  /* [N,D] out: s; may be the same as `a` */
    struct tensor y;    /* [N,D] out; may be the same as `a` */
    struct tensor xhat; /* [N,D] out: normalised s before the gain (equals y without one) */
    struct tensor rstd; /* [N] out */
    int64_t rows_per_mask;
    enum norm_kind kind;
    double eps;
};

/* Its vector-Jacobian product. ds = norm'(s)^T dy + dsum ;  da = ds * mask ;  dgain += ...
 * The gradient of `res` is ds. The gradient of bias is the column sum of da (col_sum). */
struct residual_norm_vjp {
    struct tensor dy;    /* [N,D]; NULL with NORM_NONE */
    struct tensor dsum;  /* [N,D] or NULL: gradient that reaches s directly */
    struct tensor xhat;  /* [N,D] saved (unused with NORM_NONE) */
    struct tensor rstd;  /* [N] saved */
    struct tensor gain;  /* [D] or NULL */
    struct tensor mask;  /* [N / rows_per_mask, D] or NULL */
    struct tensor ds;    /* [N,D] out; may be the same as dy or dsum */
    struct tensor da;    /* [N,D] out or NULL (then read ds); needed only with a mask */
    struct tensor dgain; /* [D] accumulated, or NULL */
    int64_t rows_per_mask;
    enum norm_kind kind;
};

/* Derivative of residual_norm_vjp along a direction, beside the vjp itself: s moves along s_t, the
 * cotangents dy and dsum along dy_t and dsum_t. vjp.ds and vjp.da are written as residual_norm_vjp
 * writes them, ds_t and da_t get their derivatives, and vjp.dgain accumulates the derivative of
 * the gain's gradient alone. With rho = -rstd mean(xhat s_t), the derivative of xhat is
 * xhat_t = rstd (s_t - mean(s_t) - xhat mean(xhat s_t)) (NORM_RMS: without mean(s_t)), and
 *   ds_t = rho norm'(s)^T dy + rstd (g_t - mean(g_t) - xhat_t mean(g xhat)
 *          - xhat (mean(g_t xhat) + mean(g xhat_t))) + dsum_t,  g = dy gain, g_t = dy_t gain.
 * In place as in residual_norm_vjp, derivatives on derivatives; s_t is only read. */
struct norm_vjp_tangent {
    struct residual_norm_vjp vjp;
    struct tensor s_t;    /* [N,D]; NULL with NORM_NONE */
    struct tensor dy_t;   /* [N,D] or NULL: 0 */
    struct tensor dsum_t; /* [N,D] or NULL: 0 */
    struct tensor ds_t;   /* [N,D] out; may be the same as dy_t or dsum_t */
    struct tensor da_t;   /* [N,D] out; NULL exactly if vjp.da is */
};

/* Multi-head relative attention of one segment over memory and itself (Dai et al. 2019). D = H*h.
 * Inside a row of 3D numbers: q (D), k (D), v (D); head n is columns [n*h, (n+1)*h) of each. Keys
 * are the P memory rows followed by the L current ones.
 *   score_ij = ((q_i + r_w) . k_j + (q_i + r_r) . rk[P + i - j]) / sqrt(h)
 * for keys j with 0 <= P + i - j < span, -inf otherwise; a = softmax_j ; out_i = sum_j a_ij m_ij
 * v_j with m = mask * mask_scale (1 without a mask). The q part of `mem` is ignored.
 * With `rows` only those queries are wanted; other rows of out and lse are unspecified afterwards.
 * What a query gets, to the last bit, does not depend on which others are listed. */
struct attention {
    struct tensor qkv;  /* [B,L,3D] */
    struct tensor mem;  /* [B,P,3D], NULL when P = 0 */
    struct tensor rk;   /* [R,D], R >= min(K, span): row d belongs to distance d */
    struct tensor r_w;  /* [H,h] */
    struct tensor r_r;  /* [H,h] */
    struct tensor mask; /* U8 [B,H,L,K], 0 or 1, or NULL */
    struct tensor out;  /* [B,L,D] */
    struct tensor lse;  /* [B,H,L] out: log-sum-exp of the scores; NULL if not wanted */
    struct tensor rows; /* I32 [n], rising numbers b*L + i, or NULL: all; forward only */
    double mask_scale;
    int64_t heads;
    int64_t span; /* number of keys a query may see, itself included; 0: all */
};

/* Its vector-Jacobian product: scores are recomputed from fwd.lse, never stored. */
struct attention_vjp {
    struct attention fwd; /* as given to attention; out and lse now inputs */
    struct tensor dout;   /* [B,L,D] */
    struct tensor dqkv;   /* [B,L,3D] out */
    struct tensor dmem;   /* [B,P,3D] out (q part 0), or NULL */
    struct tensor drk;    /* [R,D] accumulated, or NULL */
    struct tensor dr_w;   /* [H,h] accumulated, or NULL */
    struct tensor dr_r;   /* [H,h] accumulated, or NULL */
};

/* Derivatives of attention and of its vjp along a direction of qkv; memory and positions stand
 * still. out_t is the derivative of `out`. With dout: dqkv is the vjp at dout; the tensors in _t
 * are the derivatives of what attention_vjp gives under the same name, dout moving along dout_t.
 * Scores are computed again from fwd.lse. */
struct attention_tangent {
    struct attention fwd;         /* as given to attention; out and lse now inputs */
    struct tensor qkv_t;          /* [B,L,3D] */
    struct tensor out_t;          /* [B,L,D] out, or NULL */
    struct tensor dout, dout_t;   /* [B,L,D]; both NULL: only out_t is wanted */
    struct tensor dqkv, dqkv_t;   /* [B,L,3D] out, with dout */
    struct tensor dmem_t;         /* [B,P,3D] out (q part 0), or NULL */
    struct tensor drk_t;          /* [R,D] accumulated, or NULL */
    struct tensor dr_w_t, dr_r_t; /* [H,h] accumulated, or NULL */
};

/* A block of rows and columns inside wider arrays: number (b,t,d) of `to` lies at
 * to.data[b * to_batch + t * to_row + d], likewise `from`; 0 for a distance: contiguous.
 *   to[b,t,d] = from[b,t,d] * mask[b,d]
 * The blocks do not overlap; what lies between the rows of `to` stays as it is. `to` may be
 * low-precision: rounded then, and without a mask. */
struct copy_block {
    struct tensor to, from; /* [B,T,D]: the sizes of the block, data at its first number */
    int64_t to_batch, to_row, from_batch, from_row;
    struct tensor mask; /* [B,D] or NULL: 1 */
};

/* The gates of an LSTM whose input is the state before, position by position (TrellisNet, Bai,
 * Kolter, Koltun 2019). A state is 2H numbers, h then c; R >= L rows a sequence.
 *   (i, o, g, f) = (s, s, tanh, s)(pre + u + bias), s the logistic function, H numbers each
 *   c'_t = f c_{t-1} + i g ;  h'_t = o tanh(c'_t) ;  c_{-1} = c0 (NULL: 0)
 * The first L rows of `pre` become the gates; its other rows are unspecified afterwards. */
struct lstm_cell {
    struct tensor pre;  /* [B,R,4H] in place */
    struct tensor u;    /* [B,R,4H] */
    struct tensor bias; /* [4H] */
    struct tensor z;    /* [B,L,2H]: c of it is read */
    struct tensor c0;   /* [B,H] or NULL */
    struct tensor out;  /* [B,L,2H] out: h', c' */
};

/* Its vector-Jacobian product. With dc' = dout_c + dout_h o (1 - tanh(c')^2): dpre from the four
 * products above, dz_c at t - 1 = dc'_t f_t (0 at the last position), dc0 = dc'_0 f_0. Rows of dpre
 * beyond L become 0; the h part of dz is not touched. */
struct lstm_cell_vjp {
    struct tensor gates; /* [B,R,4H] as lstm_cell left them */
    struct tensor z, c0; /* as given to it */
    struct tensor out;   /* [B,L,2H] as it gave */
    struct tensor dout;  /* [B,L,2H] */
    struct tensor dpre;  /* [B,R,4H] out */
    struct tensor dz;    /* [B,L,2H] out: c part */
    struct tensor dc0;   /* [B,H] out or NULL */
};

/* Cross entropy of n rows over C classes. logits += bias; nll[pos[i]] += lse_i - logit_i[target_i]
 * (pos NULL: position i). With `gradient`, logits become (softmax - onehot) * scale in place;
 * without, their content afterwards is unspecified. Targets are in [0, C). */
struct softmax_xent {
    struct tensor logits; /* [n,C] in place */
    struct tensor bias;   /* [C] or NULL */
    struct tensor target; /* I32 [n] */
    struct tensor pos;    /* I32 [n] or NULL */
    struct tensor nll;    /* [N] accumulated */
    bool gradient;
    double scale;
};

/* Over which numbers a row's inner products are summed (see solver/solver.h). */
enum scope { SCOPE_TOKEN, SCOPE_PREFIX, SCOPE_SEQUENCE, SCOPE_BATCH };

enum solve_stop { STOP_REL, STOP_ABS, STOP_FIXED };

/* How an iteration ended; 0 while it runs. Running out of iterations is normal in training. */
enum solve_reason {
    SOLVE_ACTIVE,        /* still iterating */
    SOLVE_CONVERGED_ABS, /* absolute residual below the tolerance */
    SOLVE_CONVERGED_REL, /* relative residual below the tolerance */
    SOLVE_FIXED,         /* fixed number of iterations done */
    SOLVE_MAX_ITER,      /* out of iterations */
    SOLVE_NONFINITE,     /* residual not finite */
    SOLVE_DIVERGED,      /* residual grew too far */
    SOLVE_STALLED,       /* no better residual for too many iterations */
    SOLVE_REASON_COUNT
};

/* Judges iterate number k of every row that is still active (reason 0). With r = sqrt(norms[n,0])
 * (absolute) or that / (sqrt(norms[n,1]) + rel_floor) (relative; also for STOP_FIXED):
 *  evals = k + 1; r or one of the two norms not finite -> NONFINITE (an overflow of ||f|| must not
 *  make r small); r < best -> best, best_at and the rows best_z, best_f
 *  are taken; then, unless STOP_FIXED: k + 1 >= min_iter and r <= tol -> CONVERGED;
 *  r > first * diverge -> DIVERGED (first = r of k 0); k - best_at >= stall -> STALLED.
 * A row that ends otherwise than converged gets its best iterate back into z (if it has one), so
 * that a bad iterate cannot reach other rows. *active counts the rows still active. */
struct convergence_check {
    struct tensor norms;       /* [N,2] squared norms of g and f, summed over the stopping scope */
    struct tensor z;           /* [N,D] in place */
    struct tensor f;           /* [N,D] */
    struct tensor best_z;      /* [N,D] */
    struct tensor best_f;      /* [N,D] or NULL */
    struct tensor best, first; /* [N]; best starts as +inf */
    struct tensor best_at, reason, evals; /* I32 [N] */
    struct tensor active;                 /* I32 [1] out */
    int64_t k, min_iter, stall;
    enum solve_stop stop;
    double tol, rel_floor, diverge;
};

/* Most slots of a history. */
enum { HISTORY_MOST = 64 };

/* Inner products of every row with a history: dots[n,0,j] = x[n] . hist[j,n] for j < count and,
 * with y, dots[n,1,j] = y[n] . hist[j,n]: the history is read once for both. 0 in rows with a
 * reason that is not 0, of which nothing is read. Other numbers of dots are unchanged. */
struct row_dots {
    struct tensor dots;   /* [N,m] or, with y, [N,2,m] out */
    struct tensor x, y;   /* [N,D]; y or NULL */
    struct tensor hist;   /* [m,N,D] */
    struct tensor reason; /* I32 [N] or NULL: all rows */
    int64_t count;
};

/* Anderson mixing weights of every row. dots [N,m]: inner products of the newest residual (slot
 * `slot`) with the residuals in slots 0..count-1, summed over the mixing scope; they become row
 * and column `slot` of the row's Gram matrix. Slots form a ring: before `slot` comes slot - 1, and
 * count - 1 before 0 (a ring that is not full yet is filled up to `slot`). Then (G + ridge I) a = 1
 * over the newest `len` slots, alpha = a / sum(a), zero elsewhere; ridge is multiplied by
 * trace(G)/len if `relative`. len is first counted up, to `count` at most; if the system has no
 * finite solution (a zero pivot, a NaN, a zero sum), alpha picks the newest slot, len becomes 1 and
 * restarts is counted. Solved in double precision. Rows with a reason that is not 0 are left as
 * they are. */
struct anderson_weights {
    struct tensor alpha;         /* [N,m] out */
    struct tensor gram;          /* [N,m,m] in place */
    struct tensor dots;          /* [N,m] */
    struct tensor len, restarts; /* I32 [N] in place */
    int64_t slot, count;
    double ridge;
    bool relative;
    struct tensor reason; /* I32 [N] or NULL: all rows */
};

/* Most that Broyden's newest update may enlarge a residual: inner products in float32 do not tell
 * how far 1 - rho_k below is from 0 when it is a matter of their rounding. */
enum { BROYDEN_GAIN = 100000 };

/* Broyden's next step of every row, as a combination of its residual g and of the steps kept, the
 * newest of which is d_k, k = count - 1. dots: the inner products of g, then of d_k, with
 * d_0 .. d_k, summed over the mixing scope; the latter become row k of its Gram matrix G.
 * lengths[j] is the part of d_j that was taken. With rho_{-1} = 0, in double precision,
 *   rho_j = rho_{j-1} + (g . d_j + sum_{i < j} c_i G_ji) / G_jj ;
 *   c_j = rho_{j-1} - (1 - lengths[j]) rho_j ;  next step (g + sum_j c_j d_j) / (1 - rho_k)
 * (solver/broyden.c has the derivation). coef gets what multiplies d_0 .. d_k, then g. A rho_j that
 * is not finite is taken as 0: that update is left out. So is rho_k if it makes |1 / (1 - rho_k)|
 * larger than BROYDEN_GAIN or a coefficient not finite; restarts counts updates left out as the
 * newest, though not those where d_k is 0. Groups of N / G rows have the same sums, and a Gram
 * matrix together: what a group gets is computed once, from the sums of its first row. */
struct broyden_weights {
    struct tensor coef;     /* [N,count+1] out */
    struct tensor gram;     /* [G,m(m+1)/2] in place: lower triangles, row after row; count <= m */
    struct tensor dots;     /* [N,2,count] */
    struct tensor restarts; /* I32 [N] in place */
    int64_t count;          /* 1 .. HISTORY_MOST */
    double lengths[HISTORY_MOST];
};

/* out = a x + b y + sum_{j < count} coef[n,j] (c hist[j] + c2 hist2[j]), and sum += out, on rows
 * with reason 0; other rows of out are unchanged or, with `clear`, 0. out may be x, y or a slot of
 * the histories. */
struct row_combine {
    struct tensor out;         /* [N,D] */
    struct tensor x, y;        /* [N,D] or NULL */
    struct tensor coef;        /* [N,m] */
    struct tensor hist, hist2; /* [m,N,D]; hist2 or NULL */
    struct tensor sum;         /* [N,D] in place, or NULL */
    struct tensor reason;      /* I32 [N] or NULL: all rows */
    int64_t count;
    double a, b, c, c2;
    bool clear;
};

/* Numbers in a row that decay alike, see struct adam. */
enum { ADAM_BLOCK = 16 };

/* One Adam or AdamW update (Kingma & Ba 2015; Loshchilov & Hutter 2019) over flat arrays.
 * The gradient is first scaled by min(1, clip / (sqrt(norm2) + 1e-6)) (clip 0: not). If norm2 is
 * not finite nothing changes. g itself is left as it is. `step` counts from 1. `decay` is
 * decoupled, w -= lr * decay * w with the old w, or, if `coupled`, a term decay * w of the scaled
 * gradient. It holds for the blocks of ADAM_BLOCK numbers whose entry in `decays` is not 0. */
struct adam {
    struct tensor w, g, m, v; /* [n] */
    struct tensor norm2;      /* F64 [1] squared global norm of the gradient */
    double lr, beta1, beta2, eps, decay, clip;
    int64_t step;
    struct tensor decays; /* U8 [n / ADAM_BLOCK rounded up], or NULL: all */
    bool coupled;
};

/* The table. */
struct ops {
    const char *name;
    enum dtype real;
    /* Size of a temporary that is worked through in pieces: enough to keep the device busy, small
     * beside a step. */
    int64_t chunk_numbers;
    /* Rows of a hidden layer that keep the device busy, so that no more need to be there at once;
     * 0: all of them, and ffn_up_vjp wants h. */
    int64_t ffn_rows;
    bool low_precision_bf16; /* low-precision tensors are BF16 while products are in bfloat16 */
    const struct collectives *collectives; /* NULL: memory is the host's (backend/collectives.h) */

    /* --- memory ---------------------------------------------------------------------------- */
    /* 64-byte aligned, uninitialised as far as the caller may assume. */
    enum status (*alloc)(struct backend *be, void **out, size_t bytes, struct error *err);
    void (*release)(struct backend *be, void *ptr);
    /* dst <- host numbers of type src_type (F32, F64 or dst's own type), converted. */
    void (*upload)(struct backend *be, const struct tensor *dst, const void *src,
                   enum dtype src_type);
    /* host <- src, converted to dst_type (F32, F64 or src's own type). Synchronises. */
    void (*download)(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src);
    /* Same type and count; the regions do not overlap. */
    void (*copy)(struct backend *be, const struct tensor *dst, const struct tensor *src);
    void (*fill)(struct backend *be, const struct tensor *t, double value);
    void (*close)(struct backend *be);
    /* Products from now on: see enum precision. STATUS_DEVICE, with the remedy, if the device has
     * no such products, and nothing has changed then. Callers use backend_set_precision. */
    enum status (*set_precision)(struct backend *be, enum precision precision, struct error *err);

    /* A backend may start operations later, several at a time, and faster if the same ones come
     * again (cuda/queue.h). What comes next need not come again together with what came before:
     * callers say so around operations whose sizes change from batch to batch. */
    void (*graph_break)(struct backend *be);

    /* --- products and elementwise ------------------------------------------------------------ */
    void (*gemm)(struct backend *be, const struct gemm *p);
    void (*ffn_up)(struct backend *be, const struct ffn_up *p);
    void (*ffn_up_vjp)(struct backend *be, const struct ffn_up_vjp *p);
    /* y = a x + b y; b 0 overwrites. */
    void (*axpby)(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
                  double b);
    /* out[b,t,d] = x[b,t,d] * mask[b or 0, t or 0, d or 0]: mask is 3-D, its sizes 1 or x's.
     * In place allowed. */
    void (*mul_bcast)(struct backend *be, const struct tensor *out, const struct tensor *x,
                      const struct tensor *mask);
    /* acc[d] += sum_n x[n,d]; x may be low-precision */
    void (*col_sum)(struct backend *be, const struct tensor *acc, const struct tensor *x);
    void (*copy_block)(struct backend *be, const struct copy_block *p);

    /* --- rows ----------------------------------------------------------------------------------
     */
    void (*residual_norm)(struct backend *be, const struct residual_norm *p);
    void (*residual_norm_vjp)(struct backend *be, const struct residual_norm_vjp *p);
    void (*attention)(struct backend *be, const struct attention *p);
    void (*attention_vjp)(struct backend *be, const struct attention_vjp *p);
    /* second derivatives, for the Jacobian's penalty */
    void (*norm_vjp_tangent)(struct backend *be, const struct norm_vjp_tangent *p);
    void (*attention_tangent)(struct backend *be, const struct attention_tangent *p);
    void (*lstm_cell)(struct backend *be, const struct lstm_cell *p);
    void (*lstm_cell_vjp)(struct backend *be, const struct lstm_cell_vjp *p);

    /* --- tables and loss --------------------------------------------------------------------- */
    /* out[i] = scale * table[idx[i]]; rows of E numbers, idx I32 [n] within the table. */
    void (*gather_rows)(struct backend *be, const struct tensor *out, const struct tensor *table,
                        const struct tensor *idx, double scale);
    /* table[idx[i]] += scale * x[i], in the order of i for equal indices. */
    void (*scatter_add_rows)(struct backend *be, const struct tensor *table, const struct tensor *x,
                             const struct tensor *idx, double scale);
    /* table[idx[i]] = x[i]; no index twice. */
    void (*scatter_rows)(struct backend *be, const struct tensor *table, const struct tensor *x,
                         const struct tensor *idx);
    void (*softmax_xent)(struct backend *be, const struct softmax_xent *p);
    /* logits[n,C] = log_softmax(logits + bias) in place; bias may be NULL. */
    void (*log_softmax)(struct backend *be, const struct tensor *logits, const struct tensor *bias);

    /* --- random numbers (base/rng.h: the same values on every backend, up to rounding) ---------
     */
    /* Element i: 1 (U8) or 1/(1-p) (real) if rng_unit(rng_word(key, first + i)) >= p, else 0:
     * `mask` is the part of a larger one that begins at its element `first`. */
    void (*dropout_mask)(struct backend *be, const struct tensor *mask, double p,
                         struct rng_key key, uint64_t first);
    /* Element i: std * rng_normal(key, i). */
    void (*fill_normal)(struct backend *be, const struct tensor *t, double std, struct rng_key key);
    /* Element i: lo + (hi - lo) * rng_uniform(key, i). */
    void (*fill_uniform)(struct backend *be, const struct tensor *t, double lo, double hi,
                         struct rng_key key);

    /* --- weight normalisation (Salimans & Kingma 2016), per row of [R,C] ------------------------
     */
    /* w[r,:] = g[r] * v[r,:] * inv[r], inv[r] = 1 / ||v[r,:]|| (out [R]). */
    void (*weight_norm)(struct backend *be, const struct tensor *w, const struct tensor *inv,
                        const struct tensor *v, const struct tensor *g);
    /* dg[r] += dw.v inv ;  dv += g inv (dw - (dw.v inv^2) v), given dw [R,C]. dv may be dw: then it
     * is overwritten, not added to. */
    void (*weight_norm_vjp)(struct backend *be, const struct tensor *dv, const struct tensor *dg,
                            const struct tensor *dw, const struct tensor *v, const struct tensor *g,
                            const struct tensor *inv);

    /* --- fixed-point solvers: every row n = b*T + t carries its own numbers ----------------------
     */
    /* g = f - z; norms[n] = (sum g^2, sum f^2), 0 in rows whose reason (I32 [N], or NULL) is not 0:
     * nothing of them is read, and g stays as it is; total[0..1] = the sums of norms over all rows
     * (F64 [2]). */
    void (*solve_residual)(struct backend *be, const struct tensor *g, const struct tensor *f,
                           const struct tensor *z, const struct tensor *norms,
                           const struct tensor *total, const struct tensor *reason);
    void (*row_dots)(struct backend *be, const struct row_dots *p);
    /* val [B,T,C] in place: TOKEN as is; PREFIX val_t += decay * val_{t-1} along t (from the end,
     * val_{t+1}, if `reverse`); SEQUENCE every t gets the sum over t; BATCH the sum over b and t.
     */
    void (*scope_sum)(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                      bool reverse);
    void (*convergence_check)(struct backend *be, const struct convergence_check *p);
    void (*anderson_weights)(struct backend *be, const struct anderson_weights *p);
    void (*broyden_weights)(struct backend *be, const struct broyden_weights *p);
    void (*row_combine)(struct backend *be, const struct row_combine *p);

    /* --- optimizer ------------------------------------------------------------------------------
     */
    /* acc += sum x^2, accumulated in double; acc F64 [1]. */
    void (*sum_squares)(struct backend *be, const struct tensor *acc, const struct tensor *x);
    void (*adam)(struct backend *be, const struct adam *p);
};

#endif
