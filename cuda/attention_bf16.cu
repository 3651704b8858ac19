/* Relative attention, forward, on tensor cores (attention_mma.h).
 *
 * Keys of the next tile come while the values of this one are multiplied, and values while the
 * scores are made, so that one place in shared memory for each does. With HEAD 80 and positions a
 * warp has 130 matrix instructions a tile, fed by 75 loads of matrices. What is planned for, and
 * what the compiler makes of it, is in cuda/README.md. */
#include "cuda_impl.h"

#include "attention_mma.h"

/* Keys of a tile. */
enum { FORWARD_KEYS = 64 };

/* State of a lane's two queries. `top` is the largest score so far, times log2(e) / sqrt(h), and
 * `sum` (of this lane's keys) and `out` are relative to it. */
template <int HEAD> struct mma_running {
    float top[2], sum[2], out[HEAD / 8][4];
};

/* Over the four lanes that share a query. */
__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(WARP_ALL, x, 1));
    return fmaxf(x, __shfl_xor_sync(WARP_ALL, x, 2));
}

__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(WARP_ALL, x, 1);
    return x + __shfl_xor_sync(WARP_ALL, x, 2);
}

/* Puts -inf where a query does not look. `back` is the distance of query 0 of the warp to key 0 of
 * the tile. */
template <int KEYS>
__device__ __forceinline__ void hide_unseen(const att &p, int back, float s[KEYS / 8][4])
{
    if (back >= KEYS - 1 && back + MMA_ROWS - 1 < p.span)
        return;
    int first = back + lane_of() / 4 - lane_of() % 4 * 2, span = (int)p.span;
#pragma unroll
    for (int t = 0; t < KEYS / 8; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int d = first + i / 2 * 8 - 8 * t - i % 2;
            if (d < 0 || d >= span)
                s[t][i] = -INFINITY;
        }
}

/* Turns raw scores into weights relative to the new `top`. */
template <int HEAD, int KEYS>
__device__ __forceinline__ void weigh(float scale, float s[KEYS / 8][4], mma_running<HEAD> *run)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = -INFINITY, sum = 0;
#pragma unroll
        for (int t = 0; t < KEYS / 8; t++)
            top = fmaxf(top, fmaxf(s[t][2 * r], s[t][2 * r + 1]));
        top = fmaxf(quad_max(top) * scale, run->top[r]);
        /* While nothing has been seen any finite reference will do. */
        float reference = top == -INFINITY ? 0 : top;
        float keep = exp2_fast(run->top[r] - reference);
#pragma unroll
        for (int t = 0; t < KEYS / 8; t++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[t][i] = exp2_fast(fmaf(s[t][i], scale, -reference));
                sum += s[t][i];
            }
        run->sum[r] = fmaf(run->sum[r], keep, sum);
        run->top[r] = top;
#pragma unroll
        for (int c = 0; c < HEAD / 8; c++) {
            run->out[c][2 * r] *= keep;
            run->out[c][2 * r + 1] *= keep;
        }
    }
}

/* Drops weights. */
template <int KEYS> __device__ __forceinline__ void drop(uint32_t kept, float s[KEYS / 8][4])
{
#pragma unroll
    for (int t = 0; t < KEYS / 8; t++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[t][i] = kept >> (4 * t + i) & 1u ? s[t][i] : 0;
}

template <int HEAD>
__device__ __forceinline__ void write_rows(const att &p, const att_place &at, int row,
                                           const mma_running<HEAD> &run)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int i = row + lane_of() / 4 + 8 * r;
        float sum = quad_sum(run.sum[r]);
        if (i >= p.length)
            continue;
        float scale = p.mask == NULL ? 1 / sum : p.mask_scale / sum;
        float *to = p.out + (at.b * p.length + i) * p.width + at.n * p.head;
#pragma unroll
        for (int c = 0; c < HEAD / 8; c++)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                int e = 8 * c + lane_of() % 4 * 2 + k;
                if (e < p.head)
                    to[e] = run.out[c][2 * r + k] * scale;
            }
        if (p.lse != NULL && lane_of() % 4 == 0)
            p.lse[(at.b * p.heads + at.n) * p.length + i] =
                (run.top[r] + log2f(sum)) * 0.693147181f;
    }
}

/* A warp's queries as operands. With positions those for the positional term go to shared memory,
 * since they are used but once a tile. */
template <int HEAD, bool PLACE>
__device__ __forceinline__ void query_operands(const att &p, const att_place &at, int row,
                                               uint32_t qw[HEAD / 16][4], bf16 *qr)
{
    int64_t start = at.n * p.head, stride = 3 * p.width, rows = p.length - row;
    const float *q = p.qkv + (at.b * p.length + row) * stride + start;
    if constexpr (PLACE) {
        rows_from_global<HEAD>(qw, q, stride, rows, p.head, p.r_r + start);
        rows_into_tile<HEAD>(qr, qw);
    }
    rows_from_global<HEAD>(qw, q, stride, rows, p.head, PLACE ? p.r_w + start : NULL);
}

/* A block for 64 queries of a head, the longest rows first. */
template <int HEAD, bool PLACE>
__global__ void __launch_bounds__(MMA_THREADS, HEAD > (PLACE ? 64 : 80) ? 2 : 3)
    k_attention_bf16(att p, att_packed packed, int64_t tiles, att_list list)
{
    typedef mma_shape<HEAD, FORWARD_KEYS> shape;
    constexpr int KEYS = shape::KEYS;
    DYNAMIC_SHARED(bf16, shared);
    att_place at = place_of(p, tiles, MMA_QUERIES);
    at.first = (tiles - 1) * MMA_QUERIES - at.first;
    if (!is_wanted(p, at, list, MMA_QUERIES))
        return;
    bf16 *key = shared, *value = key + shape::KEY_NUMBERS, *qr = value + shape::KEY_NUMBERS;
    bf16 *ring = qr + shape::QUERY_NUMBERS;
    int64_t pair = at.b * p.heads + at.n;
    const bf16 *k = packed.k + pair * p.keys * HEAD, *v = packed.v + pair * p.keys * HEAD;
    const bf16 *rk = PLACE ? packed.rk + at.n * p.span * HEAD : NULL;
    att_keys keys = keys_seen(p, at, at_most(p.length - at.first, MMA_QUERIES));
    int begin = (int)keys.begin, end = (int)keys.end, count = (int)p.keys;
    int row = (int)at.first + MMA_ROWS * ((int)threadIdx.x / 32);
    int nearest = (int)(p.mem_len + at.first) + MMA_QUERIES - 1; /* of row 0 of rk to key 0 */
    fetch_rows<HEAD>(key, k, KEYS, begin, 1, count);
    fetch_window<HEAD>(p, ring, rk, 0, shape::RING, nearest - begin);
    copy_commit();
    uint32_t qw[HEAD / 16][4];
    query_operands<HEAD, PLACE>(p, at, row, qw, qr);
    mma_running<HEAD> run = {};
    run.top[0] = run.top[1] = -INFINITY;
    int turn = 0;
    for (int j0 = begin; j0 < end; j0 += KEYS) {
        float s[KEYS / 8][4] = {};
        bool busy = meets<KEYS>(p, row, j0);
        fetch_rows<HEAD>(value, v, KEYS, j0, 1, count);
        copy_commit();
        copy_wait<1>();
        __syncthreads();
        if (busy)
            add_scores<shape, PLACE, HEAD / 16>(s, qw, qr, key, ring, turn);
        __syncthreads();
        if (j0 + KEYS < end) {
            fetch_rows<HEAD>(key, k, KEYS, j0 + KEYS, 1, count);
            fetch_window<HEAD>(p, ring, rk, turn, KEYS, nearest - j0 - shape::RING);
        }
        copy_commit();
        turn = (turn + KEYS) % shape::RING;
        if (busy) {
            hide_unseen<KEYS>(p, (int)p.mem_len + row - j0, s);
            weigh<HEAD, KEYS>(p.scale * 1.44269504f, s, &run);
            if (p.mask != NULL)
                drop<KEYS>(kept_bits<KEYS>(p, at, row, j0), s);
        }
        copy_wait<1>();
        __syncthreads();
        if (busy)
            add_rows<HEAD, KEYS>(run.out, s, value);
        __syncthreads();
    }
    copy_wait<0>();
    write_rows<HEAD>(p, at, row, run);
}

/* --- on the host ------------------------------------------------------------------------------ */

template <int HEAD, bool PLACE> static size_t forward_bytes()
{
    typedef mma_shape<HEAD, FORWARD_KEYS> shape;
    return (2 * shape::KEY_NUMBERS + (PLACE ? shape::QUERY_NUMBERS + shape::RING_NUMBERS : 0)) *
           sizeof(bf16);
}

void attention_bf16(struct backend *be, const struct attention *f, const att &p)
{
    struct cuda *cuda = cuda_of(be);
    cudaStream_t stream = cuda->stream;
    att_list list = {i32(&f->rows), f->rows.dim[0]};
    int64_t tiles = div_up(p.length, MMA_QUERIES);
    unsigned blocks = (unsigned)(p.batch * p.heads * tiles);
    size_t bytes = (size_t)attention_operands(f, false) * sizeof(bf16);
    bf16 *scratch = static_cast<bf16 *>(cuda_work(be, bytes, OP_attention));
    if (scratch == NULL)
        return;
    if (!cuda->attention_bf16_ready)
        MMA_ALLOW(k_attention_bf16, cuda->shared_limit);
    cuda->attention_bf16_ready = true;
    att_packed packed = attention_pack(cuda, p, NULL, scratch);
    if (p.rk != NULL)
        MMA_BY_HEAD(p, LAUNCH((k_attention_bf16<HEAD, true>), blocks, MMA_THREADS,
                              (forward_bytes<HEAD, true>()), stream, p, packed, tiles, list));
    else
        MMA_BY_HEAD(p, LAUNCH((k_attention_bf16<HEAD, false>), blocks, MMA_THREADS,
                              (forward_bytes<HEAD, false>()), stream, p, packed, tiles, list));
    cuda_launched(be, OP_attention);
}
