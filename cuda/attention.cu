/* Relative attention, forward, in one pass over the keys with a running softmax (Milakov and
 * Gimelshein 2018, Dao et al. 2022). The positional term is computed by diagonals
 * (attention_tile.h).
 *
 * A tile of 32 x 64 scores with head width h takes 2 * 2048 * h multiply-adds for the scores and
 * 2048 * h for the values. It reads (64 + 64 + 95) * h numbers from memory or the caches. These are
 * some 27 operations a byte, so the kernel is bound by arithmetic. A decoder of width 700 and inner
 * width 48,000 spends 2 * 69e6 operations a token in its products and 6 * 700 * 225 = 0.9e6 here.
 * These kernels serve float32 and tf32, and heads of more than 128 columns in bf16. All other calls
 * in bf16 run on tensor cores (attention_bf16.cu). */
#include "cuda_impl.h"

#include "attention_mma.h"

/* Maximum and sum over the 16 threads that share a query. */
__device__ __forceinline__ float lanes_max(float x)
{
    for (int step = LANES_X / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(WARP_ALL, x, step));
    return x;
}

__device__ __forceinline__ float lanes_sum(float x)
{
    for (int step = LANES_X / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(WARP_ALL, x, step);
    return x;
}

/* State of a thread's queries. `top` is the largest score so far, and `sum` and `out` are relative
 * to it. */
template <int COLS> struct running {
    float top[EACH], sum[EACH], out[EACH][COLS];
};

/* Turns a tile's scores into weights, in shared memory [QUERIES][WEIGHTS]. */
template <int COLS>
__device__ __forceinline__ void take_scores(const att &p, const att_place &at, int64_t j0,
                                            float s[EACH][EACH], running<COLS> *run, float *weight)
{
#pragma unroll
    for (int a = 0; a < EACH; a++) {
        int64_t i = at.first + at.ty + LANES_Y * a;
        float top = -INFINITY, sum = 0;
#pragma unroll
        for (int b = 0; b < EACH; b++) {
            int64_t j = j0 + at.tx + LANES_X * b;
            s[a][b] = sees(p, i, p.mem_len + i - j) ? s[a][b] * p.scale : -INFINITY;
            top = fmaxf(top, s[a][b]);
        }
        top = fmaxf(lanes_max(top), run->top[a]);
        /* While nothing has been seen any finite reference will do. */
        float reference = top == -INFINITY ? 0 : top;
        float keep = expf(run->top[a] - reference);
#pragma unroll
        for (int b = 0; b < EACH; b++) {
            int64_t j = j0 + at.tx + LANES_X * b;
            float w = expf(s[a][b] - reference);
            sum += w;
            bool seen = sees(p, i, p.mem_len + i - j);
            weight[(at.ty + LANES_Y * a) * WEIGHTS + at.tx + LANES_X * b] =
                seen ? w * kept(p, at, i, j) : 0;
        }
        run->sum[a] = run->sum[a] * keep + lanes_sum(sum);
        run->top[a] = top;
#pragma unroll
        for (int c = 0; c < COLS; c++)
            run->out[a][c] *= keep;
    }
}

/* out += weight [QUERIES,KEYS] value [KEYS,chunk] */
template <int COLS>
__device__ __forceinline__ void add_values(const att &p, const att_place &at, running<COLS> *run,
                                           const float *weight, const float *value)
{
    for (int j = 0; j < KEYS; j += 4) {
        float4 w[EACH];
#pragma unroll
        for (int a = 0; a < EACH; a++)
            w[a] = load_vec<float4>(weight + (at.ty + LANES_Y * a) * WEIGHTS + j);
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            const float *v = value + j * p.stride + at.tx + LANES_X * c;
            float4 column = make_float4(v[0], v[p.stride], v[2 * p.stride], v[3 * p.stride]);
#pragma unroll
            for (int a = 0; a < EACH; a++)
                run->out[a][c] = dot4(run->out[a][c], w[a], column);
        }
    }
}

template <int COLS>
__device__ __forceinline__ void write_output(const att &p, const att_place &at,
                                             const running<COLS> &run)
{
    att_columns cols = block_columns(p);
#pragma unroll
    for (int a = 0; a < EACH; a++) {
        int64_t i = at.first + at.ty + LANES_Y * a;
        if (i >= p.length)
            continue;
        float *to = p.out + (at.b * p.length + i) * p.width + at.n * p.head + cols.start;
#pragma unroll
        for (int c = 0; c < COLS; c++)
            if (at.tx + LANES_X * c < cols.count)
                to[at.tx + LANES_X * c] = run.out[a][c] / run.sum[a];
        if (p.lse != NULL && at.tx == 0 && blockIdx.y == 0)
            p.lse[(at.b * p.heads + at.n) * p.length + i] = run.top[a] + logf(run.sum[a]);
    }
}

/* Floats for a tile of keys, which later holds the weights. */
static __host__ __device__ __forceinline__ int key_floats(int stride)
{
    return KEYS * stride > QUERIES * WEIGHTS ? KEYS * stride : QUERIES * WEIGHTS;
}

/* A block for QUERIES queries of a head. */
template <int COLS>
__global__ void __launch_bounds__(ATT_THREADS, ATT_BLOCKS)
    k_attention(att p, int64_t tiles, att_list list)
{
    DYNAMIC_SHARED(float, shared);
    att_place at = place_of(p, tiles, QUERIES);
    if (!is_wanted(p, at, list, QUERIES))
        return;
    float *qw = shared, *qr = qw + QUERIES * p.stride, *key = qr + QUERIES * p.stride;
    float *rel = key + key_floats(p.stride);
    int64_t rows = at_most(p.length - at.first, QUERIES);
    att_keys keys = keys_seen(p, at, rows);
    running<COLS> run = {};
#pragma unroll
    for (int a = 0; a < EACH; a++)
        run.top[a] = -INFINITY;
    for (int64_t j0 = keys.begin; j0 < keys.end; j0 += KEYS) {
        float s[EACH][EACH] = {};
        int64_t nearest = p.mem_len + at.first - j0 - (KEYS - 1); /* distance of rel's row 0 */
        for (int c = 0; c < p.chunks; c++) {
            if (p.chunks > 1 || j0 == keys.begin) {
                load_queries<COLS>(p, at, qw, c, at.first, p.r_w);
                load_queries<COLS>(p, at, qr, c, at.first, p.r_r);
            }
            load_keys<COLS>(p, at, key, KEYS, c, PART_K, j0);
            load_rk<COLS>(p, at, rel, DIAGONALS, c, nearest);
            __syncthreads();
            if (at.ty < rows) {
                add_products<COLS>(p, at, s, qw, key);
                add_diagonals<COLS>(p, at, s, qr, rel);
            }
            __syncthreads();
        }
        take_scores<COLS>(p, at, j0, s, &run, key);
        load_keys<COLS>(p, at, rel, KEYS, (int)blockIdx.y, PART_V, j0);
        __syncthreads();
        if (at.ty < rows)
            add_values<COLS>(p, at, &run, key, rel);
        __syncthreads();
    }
    write_output<COLS>(p, at, run);
}

void cuda_attention(struct backend *be, const struct attention *f)
{
    struct cuda *cuda = cuda_of(be);
    att p = att_of(f);
    int64_t tiles = div_up(p.length, QUERIES), blocks = p.batch * p.heads * tiles;
    att_list list = {i32(&f->rows), f->rows.dim[0]};
    if (blocks == 0)
        return;
    if (attention_is_bf16(be, p)) {
        attention_bf16(be, f, p);
        return;
    }
    if (!cuda->attention_ready)
        ATT_ALLOW(k_attention, cuda->shared_limit);
    cuda->attention_ready = true;
    size_t floats =
        (size_t)(2 * QUERIES + DIAGONALS) * (size_t)p.stride + (size_t)key_floats(p.stride);
    ATT_LAUNCH(k_attention, p, blocks, floats * sizeof(float), cuda->stream, p, tiles, list);
    cuda_launched(be, OP_attention);
}
