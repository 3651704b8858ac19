/* What the backward kernels on tensor cores share (attention_bf16_vjp*.cu). */
#ifndef DEQ_CUDA_ATTENTION_BF16_VJP_H
#define DEQ_CUDA_ATTENTION_BF16_VJP_H

#include "attention_mma.h"
#include "attention_vjp.h"

/* What of the gradient of queries is computed. */
enum { CONTENT = 1, PLACES = 2 };

/* dq, dk and dv of a call whose heads are not too wide, with delta and lse at hand. Parts of dr_w
 * and dr_r have a row for each 64 queries of a sequence. Shared memory must have been allowed. */
void attention_bf16_queries(struct cuda *cuda, const att_vjp &p, const att_packed &packed);
void attention_bf16_keys(struct cuda *cuda, const att_vjp &p, const att_packed &packed);
void attention_bf16_queries_allow(struct cuda *cuda);
void attention_bf16_keys_allow(struct cuda *cuda);

/* Of a lane's two queries: lse times log2(e), infinite where there is no such query, and delta. */
struct mma_rows {
    float lse[2], delta[2];
};

__device__ __forceinline__ mma_rows rows_of(const att_vjp &p, const att_place &at, int row)
{
    const att &f = p.f;
    mma_rows r;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        int i = row + lane_of() / 4 + 8 * k;
        int64_t place = (at.b * f.heads + at.n) * f.length + i;
        r.lse[k] = i < f.length ? f.lse[place] * 1.44269504f : INFINITY;
        r.delta[k] = i < f.length ? p.delta[place] : 0;
    }
    return r;
}

/* From raw scores in s and products of dout and values in da: gradients of scores, divided by
 * sqrt(h), in s, and weights with dropout in da. `row` is the warp's first query and j0 the tile's
 * first key. */
template <int KEYS>
__device__ __forceinline__ void score_gradients(const att &p, const att_place &at, int row, int j0,
                                                const mma_rows &r, float s[KEYS / 8][4],
                                                float da[KEYS / 8][4])
{
    int back = (int)p.mem_len + row - j0;
    bool whole = back >= KEYS - 1 && back + MMA_ROWS - 1 < p.span;
    int first = back + lane_of() / 4 - lane_of() % 4 * 2, span = (int)p.span;
    float scale = p.scale * 1.44269504f;
    uint32_t kept = kept_bits<KEYS>(p, at, row, j0);
    float factor = p.mask == NULL ? 1 : p.mask_scale;
#pragma unroll
    for (int t = 0; t < KEYS / 8; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int d = first + i / 2 * 8 - 8 * t - i % 2;
            float a = exp2_fast(fmaf(s[t][i], scale, -r.lse[i / 2]));
            float m = kept >> (4 * t + i) & 1u ? factor : 0;
            bool seen = whole || (d >= 0 && d < span);
            s[t][i] = seen ? a * fmaf(m, da[t][i], -r.delta[i / 2]) * p.scale : 0;
            da[t][i] = seen ? a * m : 0;
        }
}

#endif
