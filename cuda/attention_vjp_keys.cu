/* Relative attention, backward, for keys and for distances (see attention_vjp.cu). */
#include "attention_vjp.h"

enum { KEYS_EACH = KEYS / LANES_Y }; /* rows of a thread where the output has KEYS of them */

/* to[r] += sum_i weight[i][8 ty + r] row_i, for a tile of weights [QUERIES][WEIGHTS]. */
template <int COLS>
__device__ __forceinline__ void add_transposed(const att &f, const att_place &at,
                                               float to[KEYS_EACH][COLS], const float *weight,
                                               const float *row, int64_t rows)
{
    for (int i = 0; i < rows; i++) {
        float w[KEYS_EACH];
        const float *from = weight + i * WEIGHTS + at.ty * KEYS_EACH;
#pragma unroll
        for (int r = 0; r < KEYS_EACH; r += 4) {
            float4 v = load_vec<float4>(from + r);
            w[r] = v.x;
            w[r + 1] = v.y;
            w[r + 2] = v.z;
            w[r + 3] = v.w;
        }
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            float x = row[i * f.stride + at.tx + LANES_X * c];
#pragma unroll
            for (int r = 0; r < KEYS_EACH; r++)
                to[r][c] = fmaf(w[r], x, to[r][c]);
        }
    }
}

/* dk and dv of this block's chunk. */
template <int COLS>
__device__ __forceinline__ void write_key_gradients(const att_vjp &p, const att_place &at,
                                                    const float dk[KEYS_EACH][COLS],
                                                    const float dv[KEYS_EACH][COLS])
{
    const att &f = p.f;
    att_columns cols = block_columns(f);
#pragma unroll
    for (int r = 0; r < KEYS_EACH; r++) {
        int64_t j = at.first + at.ty * KEYS_EACH + r;
        float *to = key_gradient(p, at, j);
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            int e = at.tx + LANES_X * c;
            if (to == NULL || e >= cols.count)
                continue;
            if (j < f.mem_len)
                to[cols.start + e] = 0; /* the q part of a memory row has no gradient */
            to[f.width + cols.start + e] = dk[r][c];
            to[2 * f.width + cols.start + e] = dv[r][c];
        }
    }
}

/* Floats of the keys' kernel behind its rows, for rk by diagonals and later two tiles of
 * weights. */
static __host__ __device__ __forceinline__ int diagonal_floats(int stride, int weight_tiles)
{
    int tiles = weight_tiles * QUERIES * WEIGHTS;
    return DIAGONALS * stride > tiles ? DIAGONALS * stride : tiles;
}

/* A block for KEYS keys of a head. Shared memory holds keys, values, queries (first q + r_r, then q
 * + r_w), dout, and rk or weights. */
template <int COLS>
__global__ void __launch_bounds__(ATT_THREADS, ATT_BLOCKS)
    k_attention_keys(att_vjp p, int64_t tiles)
{
    DYNAMIC_SHARED(float, shared);
    const att &f = p.f;
    att_place at = place_of(f, tiles, KEYS);
    at.first += p.first_key;
    float *key = shared, *value = key + KEYS * f.stride, *query = value + KEYS * f.stride;
    float *dout = query + QUERIES * f.stride, *rel = dout + QUERIES * f.stride;
    float *weight = rel, *ds = rel + QUERIES * WEIGHTS;
    float dk[KEYS_EACH][COLS] = {}, dv[KEYS_EACH][COLS] = {};
    int64_t last = at.first + KEYS < f.keys ? at.first + KEYS - 1 : f.keys - 1;
    int64_t begin = at.first - f.mem_len > 0 ? at.first - f.mem_len : 0;
    int64_t end = last - f.mem_len + f.span < f.length ? last - f.mem_len + f.span : f.length;
    for (int64_t i0 = begin; i0 < end; i0 += QUERIES) {
        float s[EACH][EACH] = {}, da[EACH][EACH] = {};
        int64_t rows = at_most(f.length - i0, QUERIES);
        int64_t nearest = f.mem_len + i0 - at.first - (KEYS - 1);
        for (int c = 0; c < f.chunks; c++) {
            if (f.chunks > 1 || i0 == begin) {
                load_keys<COLS>(f, at, key, KEYS, c, PART_K, at.first);
                load_keys<COLS>(f, at, value, KEYS, c, PART_V, at.first);
            }
            load_queries<COLS>(f, at, query, c, i0, f.r_r);
            load_plain<COLS>(f, at, dout, c, i0, p.dout);
            load_rk<COLS>(f, at, rel, DIAGONALS, c, nearest);
            __syncthreads();
            if (at.ty < rows) {
                add_products<COLS>(f, at, da, dout, value);
                add_diagonals<COLS>(f, at, s, query, rel);
            }
            __syncthreads();
            load_queries<COLS>(f, at, query, c, i0, f.r_w);
            __syncthreads();
            if (at.ty < rows)
                add_products<COLS>(f, at, s, query, key);
            if (f.chunks > 1)
                __syncthreads();
        }
        if (f.chunks > 1) {
            load_queries<COLS>(f, at, query, (int)blockIdx.y, i0, f.r_w);
            load_plain<COLS>(f, at, dout, (int)blockIdx.y, i0, p.dout);
        }
#pragma unroll
        for (int a = 0; a < EACH; a++)
#pragma unroll
            for (int b = 0; b < EACH; b++) {
                int i = at.ty + LANES_Y * a, j = at.tx + LANES_X * b;
                int64_t d = f.mem_len + i0 + i - at.first - j;
                weight_pair w = weight_of(p, at, i0 + i, d, s[a][b], da[a][b]);
                weight[i * WEIGHTS + j] = w.kept;
                ds[i * WEIGHTS + j] = w.dscore;
            }
        __syncthreads();
        add_transposed<COLS>(f, at, dv, weight, dout, rows);
        add_transposed<COLS>(f, at, dk, ds, query, rows);
        __syncthreads();
    }
    write_key_gradients<COLS>(p, at, dk, dv);
}

/* --- distances -------------------------------------------------------------------------------- */

/* This group's part of drk, of this block's chunk. */
template <int COLS>
__device__ __forceinline__ void write_distance_gradients(const att_vjp &p, const att_place &at,
                                                         int64_t group,
                                                         const float drk[KEYS_EACH][COLS])
{
    const att &f = p.f;
    att_columns cols = block_columns(f);
#pragma unroll
    for (int r = 0; r < KEYS_EACH; r++) {
        int64_t d = at.first + at.ty * KEYS_EACH + r;
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            int e = at.tx + LANES_X * c;
            if (d < p.reach && e < cols.count)
                p.drk[(group * p.reach + d) * f.width + at.n * f.head + cols.start + e] = drk[r][c];
        }
    }
}

/* A block for KEYS distances of a head and the sequences b = group, group + groups, ... Columns of
 * a tile are distances, so rk is paired directly, and keys and values run along diagonals. Shared
 * memory holds rk, queries (first q + r_w, then q + r_r), dout, and values, keys or gradients of
 * scores. */
template <int COLS>
__global__ void __launch_bounds__(ATT_THREADS, ATT_BLOCKS)
    k_attention_distances(att_vjp p, int64_t tiles)
{
    DYNAMIC_SHARED(float, shared);
    const att &f = p.f;
    att_place at = place_of(f, tiles, KEYS);
    int64_t group = at.b;
    float *rk = shared, *query = rk + KEYS * f.stride, *dout = query + QUERIES * f.stride;
    float *diagonal = dout + QUERIES * f.stride, *ds = diagonal;
    float drk[KEYS_EACH][COLS] = {};
    int64_t begin = at.first - f.mem_len > 0 ? at.first - f.mem_len : 0;
    for (at.b = group; at.b < f.batch; at.b += p.groups)
        for (int64_t i0 = begin; i0 < f.length; i0 += QUERIES) {
            float s[EACH][EACH] = {}, da[EACH][EACH] = {};
            int64_t rows = at_most(f.length - i0, QUERIES);
            int64_t oldest = f.mem_len + i0 - at.first - (KEYS - 1); /* key of row 0 */
            for (int c = 0; c < f.chunks; c++) {
                load_rk<COLS>(f, at, rk, KEYS, c, at.first);
                load_plain<COLS>(f, at, dout, c, i0, p.dout);
                load_queries<COLS>(f, at, query, c, i0, f.r_w);
                load_keys<COLS>(f, at, diagonal, DIAGONALS, c, PART_V, oldest);
                __syncthreads();
                if (at.ty < rows)
                    add_diagonals<COLS>(f, at, da, dout, diagonal);
                __syncthreads();
                load_keys<COLS>(f, at, diagonal, DIAGONALS, c, PART_K, oldest);
                __syncthreads();
                if (at.ty < rows)
                    add_diagonals<COLS>(f, at, s, query, diagonal);
                __syncthreads();
                load_queries<COLS>(f, at, query, c, i0, f.r_r);
                __syncthreads();
                if (at.ty < rows)
                    add_products<COLS>(f, at, s, query, rk);
                if (f.chunks > 1)
                    __syncthreads();
            }
            if (f.chunks > 1)
                load_queries<COLS>(f, at, query, (int)blockIdx.y, i0, f.r_r);
#pragma unroll
            for (int a = 0; a < EACH; a++)
#pragma unroll
                for (int b = 0; b < EACH; b++) {
                    int i = at.ty + LANES_Y * a, d = at.tx + LANES_X * b;
                    ds[i * WEIGHTS + d] =
                        weight_of(p, at, i0 + i, at.first + d, s[a][b], da[a][b]).dscore;
                }
            __syncthreads();
            add_transposed<COLS>(f, at, drk, ds, query, rows);
            __syncthreads();
        }
    write_distance_gradients<COLS>(p, at, group, drk);
}

/* --- on the host ------------------------------------------------------------------------------ */

void attention_keys_allow(struct cuda *cuda)
{
    ATT_ALLOW(k_attention_keys, cuda->shared_limit);
    ATT_ALLOW(k_attention_distances, cuda->shared_limit);
}

void attention_keys(struct cuda *cuda, const att_vjp &p)
{
    const att &f = p.f;
    int64_t tiles = div_up(f.keys - p.first_key, KEYS);
    size_t bytes = att_bytes(f, 2 * KEYS + 2 * QUERIES, diagonal_floats(f.stride, 2));
    ATT_LAUNCH(k_attention_keys, f, f.batch * f.heads * tiles, bytes, cuda->stream, p, tiles);
}

void attention_distances(struct cuda *cuda, const att_vjp &p)
{
    const att &f = p.f;
    int64_t tiles = div_up(p.reach, KEYS);
    size_t bytes = att_bytes(f, KEYS + 2 * QUERIES, diagonal_floats(f.stride, 1));
    ATT_LAUNCH(k_attention_distances, f, p.groups * f.heads * tiles, bytes, cuda->stream, p, tiles);
}
