/* Relative attention, backward. Weights are recomputed from lse and never stored. Each of the three
 * kernels owns what it writes, so that no sum needs an atomic and every order is fixed.
 *   queries    dq of 32 queries over all keys they see, and the tile's share of dr_w, dr_r
 *   keys       dk, dv of 64 keys over all queries that see them
 *   distances  drk of 64 distances over all queries of a share of the batch (full gradients only)
 * Each computes the scores again. That costs 5 + 5 products of 2048 * h a tile where 7 would do if
 * they could share them, but nothing of size L x K is written. In a solve for the adjoint, where
 * the memory's gradient is not wanted, the second skips the memory's keys. */
#include "attention_bf16_vjp.h"

/* A warp for every row of a head. */
__global__ void k_attention_delta(att_vjp p, float *delta, int64_t rows)
{
    const att &f = p.f;
    int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows)
        return;
    int64_t i = row % f.length, n = row / f.length % f.heads, b = row / f.length / f.heads;
    int64_t start = (b * f.length + i) * f.width + n * f.head;
    float sum = 0;
    for (int64_t e = threadIdx.x % 32; e < f.head; e += 32)
        sum += p.dout[start + e] * f.out[start + e];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        delta[row] = sum;
}

/* --- queries ---------------------------------------------------------------------------------- */

/* content += ds [QUERIES,KEYS] key, and place += ds by diagonals rel */
template <int COLS>
__device__ __forceinline__ void
add_query_gradients(const att &f, const att_place &at, float content[EACH][COLS],
                    float place[EACH][COLS], const float *ds, const float *key, const float *rel)
{
    for (int j = 0; j < KEYS; j++) {
        float w[EACH];
#pragma unroll
        for (int a = 0; a < EACH; a++)
            w[a] = ds[(at.ty + LANES_Y * a) * WEIGHTS + j];
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            float k = key[j * f.stride + at.tx + LANES_X * c];
#pragma unroll
            for (int a = 0; a < EACH; a++)
                content[a][c] = fmaf(w[a], k, content[a][c]);
        }
    }
    /* by rows of rel, so that each is read once for all four queries */
    for (int r = 0; r < DIAGONALS; r++) {
        float w[EACH];
#pragma unroll
        for (int a = 0; a < EACH; a++) {
            int i = at.ty + LANES_Y * a, j = i + KEYS - 1 - r;
            w[a] = j >= 0 && j < KEYS ? ds[i * WEIGHTS + j] : 0;
        }
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            float k = rel[r * f.stride + at.tx + LANES_X * c];
#pragma unroll
            for (int a = 0; a < EACH; a++)
                place[a][c] = fmaf(w[a], k, place[a][c]);
        }
    }
}

/* The sum of a tile's rows into part [D] of this head, by way of shared memory. */
template <int COLS>
__device__ __forceinline__ void write_bias_part(const att &f, const att_place &at,
                                                const float rows[EACH][COLS], float *part,
                                                float *shared)
{
    att_columns cols = block_columns(f);
    __syncthreads();
#pragma unroll
    for (int c = 0; c < COLS; c++)
        shared[at.ty * f.stride + at.tx + LANES_X * c] =
            (rows[0][c] + rows[1][c]) + (rows[2][c] + rows[3][c]);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < cols.count; e += ATT_THREADS) {
        float sum = 0;
        for (int y = 0; y < LANES_Y; y++)
            sum += shared[y * f.stride + e];
        part[at.n * f.head + cols.start + e] = sum;
    }
}

/* dq = content + place, of this block's chunk. */
template <int COLS>
__device__ __forceinline__ void write_query_gradients(const att_vjp &p, const att_place &at,
                                                      const float content[EACH][COLS],
                                                      const float place[EACH][COLS])
{
    const att &f = p.f;
    att_columns cols = block_columns(f);
#pragma unroll
    for (int a = 0; a < EACH; a++) {
        int64_t i = at.first + at.ty + LANES_Y * a;
#pragma unroll
        for (int c = 0; c < COLS; c++)
            if (i < f.length && at.tx + LANES_X * c < cols.count)
                p.dqkv[(at.b * f.length + i) * 3 * f.width + at.n * f.head + cols.start + at.tx +
                       LANES_X * c] = content[a][c] + place[a][c];
    }
}

/* A block for QUERIES queries of a head. Shared memory holds q + r_w, q + r_r, dout, values or
 * keys, rk, and gradients of scores. */
template <int COLS>
__global__ void __launch_bounds__(ATT_THREADS, ATT_BLOCKS)
    k_attention_queries(att_vjp p, int64_t tiles)
{
    DYNAMIC_SHARED(float, shared);
    const att &f = p.f;
    att_place at = place_of(f, tiles, QUERIES);
    float *qw = shared, *qr = qw + QUERIES * f.stride, *dout = qr + QUERIES * f.stride;
    float *key = dout + QUERIES * f.stride, *rel = key + KEYS * f.stride;
    float *ds = rel + DIAGONALS * f.stride;
    int64_t rows = at_most(f.length - at.first, QUERIES);
    att_keys keys = keys_seen(f, at, rows);
    float content[EACH][COLS] = {}, place[EACH][COLS] = {};
    for (int64_t j0 = keys.begin; j0 < keys.end; j0 += KEYS) {
        float s[EACH][EACH] = {}, da[EACH][EACH] = {};
        int64_t nearest = f.mem_len + at.first - j0 - (KEYS - 1);
        for (int c = 0; c < f.chunks; c++) {
            if (f.chunks > 1 || j0 == keys.begin) {
                load_queries<COLS>(f, at, qw, c, at.first, f.r_w);
                load_queries<COLS>(f, at, qr, c, at.first, f.r_r);
                load_plain<COLS>(f, at, dout, c, at.first, p.dout);
            }
            load_keys<COLS>(f, at, key, KEYS, c, PART_V, j0);
            load_rk<COLS>(f, at, rel, DIAGONALS, c, nearest);
            __syncthreads();
            if (at.ty < rows) {
                add_products<COLS>(f, at, da, dout, key);
                add_diagonals<COLS>(f, at, s, qr, rel);
            }
            __syncthreads();
            load_keys<COLS>(f, at, key, KEYS, c, PART_K, j0);
            __syncthreads();
            if (at.ty < rows)
                add_products<COLS>(f, at, s, qw, key);
            if (f.chunks > 1)
                __syncthreads();
        }
        if (f.chunks > 1) {
            load_keys<COLS>(f, at, key, KEYS, (int)blockIdx.y, PART_K, j0);
            load_rk<COLS>(f, at, rel, DIAGONALS, (int)blockIdx.y, nearest);
        }
#pragma unroll
        for (int a = 0; a < EACH; a++)
#pragma unroll
            for (int b = 0; b < EACH; b++) {
                int i = at.ty + LANES_Y * a, j = at.tx + LANES_X * b;
                int64_t d = f.mem_len + at.first + i - j0 - j;
                ds[i * WEIGHTS + j] = weight_of(p, at, at.first + i, d, s[a][b], da[a][b]).dscore;
            }
        __syncthreads();
        if (at.ty < rows)
            add_query_gradients<COLS>(f, at, content, place, ds, key, rel);
        __syncthreads();
    }
    write_query_gradients<COLS>(p, at, content, place);
    int64_t part = (at.b * tiles + at.first / QUERIES) * f.width;
    if (p.dr_w != NULL)
        write_bias_part<COLS>(f, at, content, p.dr_w + part, shared);
    if (p.dr_r != NULL)
        write_bias_part<COLS>(f, at, place, p.dr_r + part, shared);
}

/* --- on the host ------------------------------------------------------------------------------ */

enum { MAX_GROUPS = 8 }; /* shares of the batch that sum drk side by side */

/* Scratch of a call beside delta and the parts of gradients, which are in att_vjp. */
struct vjp_work {
    float *columns; /* what adding up the parts needs */
    bf16 *packed;   /* operands in bf16 */
};

static int64_t aligned(int64_t floats)
{
    return div_up(floats, 64) * 64;
}

/* Divides scratch among delta, parts of the biases, parts of drk, and the rest. False if there is
 * no memory for it. */
static bool plan_work(struct backend *be, const struct attention_vjp *v, int64_t tiles, att_vjp *p,
                      struct vjp_work *w)
{
    const att &f = p->f;
    int64_t delta = aligned(f.batch * f.heads * f.length);
    int64_t bias = aligned(f.batch * tiles * f.width);
    int64_t drk = aligned(v->drk.data == NULL ? 0 : p->groups * p->reach * f.width);
    int64_t sums = aligned(columns_scratch(f.batch * tiles, f.width));
    int64_t packed = attention_is_bf16(be, f) ? div_up(attention_operands(&v->fwd, true), 2) : 0;
    int64_t count = delta + 2 * bias + drk + sums + packed;
    float *work =
        static_cast<float *>(cuda_work(be, (size_t)count * sizeof(float), OP_attention_vjp));
    if (work == NULL)
        return false;
    p->delta = work;
    p->dr_w = v->dr_w.data == NULL ? NULL : work + delta;
    p->dr_r = v->dr_r.data == NULL ? NULL : work + delta + bias;
    p->drk = work + delta + 2 * bias;
    w->columns = p->drk + drk;
    w->packed = reinterpret_cast<bf16 *>(w->columns + sums);
    return true;
}

static void allow_shared(struct cuda *cuda)
{
    if (cuda->attention_vjp_ready)
        return;
    ATT_ALLOW(k_attention_queries, cuda->shared_limit);
    attention_keys_allow(cuda);
    attention_bf16_queries_allow(cuda);
    attention_bf16_keys_allow(cuda);
    cuda->attention_vjp_ready = true;
}

/* Gradients of queries, keys and values, with delta at hand. */
static void start_gradients(struct backend *be, const att_vjp &p, int64_t tiles, bf16 *packed)
{
    struct cuda *cuda = cuda_of(be);
    const att &f = p.f;
    if (attention_is_bf16(be, f)) {
        att_packed operands = attention_pack(cuda, f, p.dout, packed);
        attention_bf16_queries(cuda, p, operands);
        attention_bf16_keys(cuda, p, operands);
        return;
    }
    ATT_LAUNCH(k_attention_queries, f, f.batch * f.heads * tiles,
               att_bytes(f, 3 * QUERIES + KEYS + DIAGONALS, QUERIES * WEIGHTS), cuda->stream, p,
               tiles);
    attention_keys(cuda, p);
}

void cuda_attention_vjp(struct backend *be, const struct attention_vjp *v)
{
    struct cuda *cuda = cuda_of(be);
    att_vjp p = {};
    p.f = att_of(&v->fwd);
    const att &f = p.f;
    int64_t tiles =
        div_up(f.length, attention_is_bf16(be, f) ? (int64_t)MMA_QUERIES : (int64_t)QUERIES);
    if (f.batch * f.heads * tiles == 0)
        return;
    p.dout = f32(&v->dout);
    p.dqkv = f32(&v->dqkv);
    p.dmem = f32(&v->dmem);
    p.reach = f.span;
    p.groups = at_most(f.batch, MAX_GROUPS);
    p.first_key = p.dmem == NULL ? f.mem_len : 0;
    struct vjp_work work;
    if (!plan_work(be, v, tiles, &p, &work))
        return;
    allow_shared(cuda);
    int64_t rows = f.batch * f.heads * f.length;
    LAUNCH(k_attention_delta, (unsigned)div_up(rows, ATT_THREADS / 32), ATT_THREADS, 0,
           cuda->stream, p, const_cast<float *>(p.delta), rows);
    start_gradients(be, p, tiles, work.packed);
    if (v->drk.data != NULL) {
        attention_distances(cuda, p);
        cuda_columns_in(be, work.columns, f32(&v->drk), p.drk, NULL, p.groups, p.reach * f.width);
    }
    if (p.dr_w != NULL)
        cuda_columns_in(be, work.columns, f32(&v->dr_w), p.dr_w, NULL, f.batch * tiles, f.width);
    if (p.dr_r != NULL)
        cuda_columns_in(be, work.columns, f32(&v->dr_r), p.dr_r, NULL, f.batch * tiles, f.width);
    cuda_launched(be, OP_attention_vjp);
}
