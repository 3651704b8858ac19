/* What the kernels of attention's backward pass share. */
#ifndef DEQ_CUDA_ATTENTION_VJP_H
#define DEQ_CUDA_ATTENTION_VJP_H

#include "cuda_impl.h"

#include "attention_tile.h"

struct att_vjp {
    att f;
    const float *dout, *delta; /* delta [B,H,L] is dout . out of a head */
    float *dqkv, *dmem;
    float *dr_w, *dr_r; /* [B * tiles, D] parts, or NULL */
    float *drk;         /* [groups, reach, D] parts */
    int64_t reach, groups;
    int64_t first_key;
};

/* Weight of query i and key j = P + i - d from its raw score, with dropout, and the gradient of the
 * score from dweight, dout . v. Zero where i does not see j. */
struct weight_pair {
    float kept, dscore;
};

__device__ __forceinline__ weight_pair weight_of(const att_vjp &p, const att_place &at, int64_t i,
                                                 int64_t d, float score, float dweight)
{
    const att &f = p.f;
    weight_pair w = {0, 0};
    if (!sees(f, i, d))
        return w;
    int64_t row = (at.b * f.heads + at.n) * f.length + i;
    float a = expf(score * f.scale - f.lse[row]), m = kept(f, at, i, f.mem_len + i - d);
    w.kept = a * m;
    w.dscore = a * (m * dweight - p.delta[row]) * f.scale;
    return w;
}

/* Row j of dqkv or dmem, NULL if it is not wanted. */
__device__ __forceinline__ float *key_gradient(const att_vjp &p, const att_place &at, int64_t j)
{
    const att &f = p.f;
    if (j >= f.keys || (j < f.mem_len && p.dmem == NULL))
        return NULL;
    float *row = j < f.mem_len ? p.dmem + (at.b * f.mem_len + j) * 3 * f.width
                               : p.dqkv + (at.b * f.length + j - f.mem_len) * 3 * f.width;
    return row + at.n * f.head;
}

/* Launches of attention_vjp_keys.cu. attention_keys writes dk and dv of the keys from first_key on,
 * attention_distances the parts of drk. */
void attention_keys(struct cuda *cuda, const att_vjp &p);
void attention_distances(struct cuda *cuda, const att_vjp &p);
void attention_keys_allow(struct cuda *cuda);

static inline size_t att_bytes(const att &f, int rows, int rest)
{
    return (size_t)(rows * f.stride + rest) * sizeof(float);
}

#endif
