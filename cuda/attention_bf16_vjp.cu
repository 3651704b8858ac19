/* Gradients of queries on tensor cores (attention_mma.h). A block has 64 queries and goes over the
 * keys that they see, as the forward kernel does, with operands of scores in registers. The
 * gradient of a positional score goes the way back along its diagonal, and is then multiplied with
 * the same rows of rk. The next keys and rows of rk come during the whole work on a tile, and the
 * next values during its second half.
 *
 * What is wanted of the queries is content + place, in one sum. Only where biases have gradients
 * too, once a step, the two are computed one after the other, since two sums would not fit into the
 * registers. Expected are at most 255 registers without spills, and at most 82 KiB of shared memory
 * a block, which is 2 blocks a multiprocessor on sm_90. */
#include "cuda_impl.h"

#include "attention_bf16_vjp.h"

/* Keys of a tile, by what fits into registers and into sm_80's shared memory. */
static __host__ __device__ constexpr int query_tile_keys(int head)
{
    return head > 64 ? 32 : 64;
}

/* Rows of a packed tensor as operands a. */
template <int HEAD>
__device__ __forceinline__ void rows_from_packed(uint32_t to[HEAD / 16][4], const bf16 *from,
                                                 int64_t rows)
{
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int r = lane_of() / 4 + i % 2 * 8, e = 16 * k + lane_of() % 4 * 2 + i / 2 * 8;
            to[k][i] = r < rows ? load_vec<uint32_t>(from + r * HEAD + e) : 0;
        }
}

/* The inverse of along_diagonals, with zeros where there is no score. */
template <int TILES>
__device__ __forceinline__ void against_diagonals(float product[TILES + 2][4],
                                                  const float score[TILES][4])
{
    diagonal m = diagonal_of();
#pragma unroll
    for (int t = 0; t < TILES + 2; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int low = i / 2 * 2, here = t - (i < 2 ? 1 : 0), b = i % 2, step = m.step[1 - b];
            bool upper = m.odd != (b == 1), beyond = m.member + step >= 4;
            float same = 0, before = 0;
            if (here >= 0 && here < TILES)
                same = upper ? score[here][low + 1] : score[here][low];
            if (here >= 1 && here - 1 < TILES)
                before = upper ? score[here - 1][low + 1] : score[here - 1][low];
            product[t][i] =
                __shfl_sync(WARP_ALL, beyond ? before : same, m.quad + (m.member + 4 - step) % 4);
        }
}

/* sum [16,HEAD] += ds key */
template <int HEAD, int KEYS>
__device__ __forceinline__ void add_content(float sum[HEAD / 8][4], const float ds[KEYS / 8][4],
                                            const bf16 *key)
{
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t a[4];
        sums_as_a(a, ds[2 * k], ds[2 * k + 1]);
#pragma unroll
        for (int c = 0; c < HEAD / 8; c += 2) {
            uint32_t b[4];
            rows_as_rows<HEAD + 8>(b, key, 16 * k, 8 * c);
            add_pair(sum, c, a, b);
        }
    }
}

/* sum [16,HEAD] += ds by diagonals the window of rk */
template <class shape, int HEAD>
__device__ __forceinline__ void
add_places(float sum[HEAD / 8][4], const float ds[shape::KEYS / 8][4], const bf16 *ring, int turn)
{
    float product[shape::WINDOW / 8][4];
    against_diagonals<shape::KEYS / 8>(product, ds);
#pragma unroll
    for (int k = 0; k < shape::WINDOW / 16; k++) {
        uint32_t a[4];
        int row = (turn + window_row() + 16 * k) % shape::RING;
        sums_as_a(a, product[2 * k], product[2 * k + 1]);
#pragma unroll
        for (int c = 0; c < HEAD / 8; c += 2) {
            uint32_t b[4];
            rows_as_rows<HEAD + 8>(b, ring, row, 8 * c);
            add_pair(sum, c, a, b);
        }
    }
}

/* dq of a warp, added to what is there if `add` is true. */
template <int HEAD>
__device__ __forceinline__ void write_queries(const att_vjp &p, const att_place &at, int row,
                                              const float sum[HEAD / 8][4], bool add)
{
    const att &f = p.f;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int i = row + lane_of() / 4 + 8 * r;
        if (i >= f.length)
            continue;
        float *to = p.dqkv + (at.b * f.length + i) * 3 * f.width + at.n * f.head;
#pragma unroll
        for (int c = 0; c < HEAD / 8; c++)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                int e = 8 * c + lane_of() % 4 * 2 + k;
                if (e < f.head)
                    to[e] = (add ? to[e] : 0) + sum[c][2 * r + k];
            }
    }
}

/* The sum of a block's rows into `part` [D] of its head, by way of shared memory, which no warp
 * reads any more. */
template <int HEAD>
__device__ __forceinline__ void write_bias_part(const att &f, const att_place &at,
                                                const float sum[HEAD / 8][4], float *part,
                                                float *shared)
{
    int warp = (int)threadIdx.x / 32;
#pragma unroll
    for (int c = 0; c < HEAD / 8; c++)
#pragma unroll
        for (int k = 0; k < 2; k++) {
            float x = sum[c][k] + sum[c][k + 2];
            for (int step = 4; step < 32; step *= 2)
                x += __shfl_xor_sync(WARP_ALL, x, step);
            if (lane_of() < 4)
                shared[warp * HEAD + 8 * c + 2 * lane_of() + k] = x;
        }
    __syncthreads();
    for (int e = (int)threadIdx.x; e < f.head; e += MMA_THREADS)
        part[at.n * f.head + e] =
            (shared[e] + shared[HEAD + e]) + (shared[2 * HEAD + e] + shared[3 * HEAD + e]);
}

/* A block for 64 queries of a head, the longest rows first. `what` says which terms. With `part`
 * the sum of all rows goes there. */
template <int HEAD, bool PLACE>
__global__ void __launch_bounds__(MMA_THREADS, 2)
    k_attention_bf16_queries(att_vjp p, att_packed packed, int64_t tiles, int what, float *part)
{
    typedef mma_shape<HEAD, query_tile_keys(HEAD), 2> shape;
    constexpr int KEYS = shape::KEYS;
    DYNAMIC_SHARED(bf16, shared);
    const att &f = p.f;
    att_place at = place_of(f, tiles, MMA_QUERIES);
    at.first = (tiles - 1) * MMA_QUERIES - at.first;
    bf16 *key = shared, *value = key + 2 * shape::KEY_NUMBERS;
    bf16 *dout = value + shape::KEY_NUMBERS, *qr = dout + shape::QUERY_NUMBERS;
    bf16 *ring = qr + shape::QUERY_NUMBERS;
    int64_t pair = at.b * f.heads + at.n;
    int row = (int)at.first + MMA_ROWS * ((int)threadIdx.x / 32);
    const bf16 *k = packed.k + pair * f.keys * HEAD, *v = packed.v + pair * f.keys * HEAD;
    const bf16 *rk = PLACE ? packed.rk + at.n * f.span * HEAD : NULL;
    att_keys keys = keys_seen(f, at, at_most(f.length - at.first, MMA_QUERIES));
    int begin = (int)keys.begin, end = (int)keys.end, count = (int)f.keys;
    int first = (int)at.first;
    int nearest = (int)f.mem_len + first + MMA_QUERIES - 1;
    int64_t start = (pair * f.length + row) * HEAD;
    fetch_rows<HEAD>(dout, packed.dout + pair * f.length * HEAD, MMA_QUERIES, at.first, 1,
                     f.length);
    if constexpr (PLACE)
        fetch_rows<HEAD>(qr, packed.qr + pair * f.length * HEAD, MMA_QUERIES, at.first, 1,
                         f.length);
    fetch_rows<HEAD>(key, k, KEYS, begin, 1, count);
    fetch_rows<HEAD>(value, v, KEYS, begin, 1, count);
    fetch_window<HEAD>(f, ring, rk, 0, KEYS + MMA_QUERIES, nearest - begin);
    copy_commit();
    uint32_t qw[HEAD / 16][4];
    rows_from_packed<HEAD>(qw, packed.qw + start, f.length - row);
    mma_rows r = rows_of(p, at, row);
    float sum[HEAD / 8][4] = {};
    int turn = 0, now = 0;
    for (int j0 = begin; j0 < end; j0 += KEYS) {
        float s[KEYS / 8][4] = {}, da[KEYS / 8][4] = {};
        bool busy = meets<KEYS>(f, row, j0), more = j0 + KEYS < end;
        copy_wait<0>();
        __syncthreads();
        if (more) {
            fetch_rows<HEAD>(key + (1 - now) * shape::KEY_NUMBERS, k, KEYS, j0 + KEYS, 1, count);
            fetch_window<HEAD>(f, ring, rk, (turn + KEYS + MMA_QUERIES) % shape::RING, KEYS,
                               nearest - j0 - KEYS - MMA_QUERIES);
        }
        copy_commit();
        const bf16 *key_now = key + now * shape::KEY_NUMBERS;
        if (busy) {
            add_scores<shape, PLACE, HEAD / 16>(s, qw, qr, key_now, ring, turn);
            uint32_t rows[HEAD / 16][4];
            rows_from_tile<HEAD>(rows, dout);
            add_by_rows<HEAD, KEYS>(da, rows, value);
        }
        __syncthreads();
        if (more)
            fetch_rows<HEAD>(value, v, KEYS, j0 + KEYS, 1, count);
        copy_commit();
        if (busy) {
            score_gradients<KEYS>(f, at, row, j0, r, s, da);
            if (what & CONTENT)
                add_content<HEAD, KEYS>(sum, s, key_now);
            if (PLACE && (what & PLACES))
                add_places<shape, HEAD>(sum, s, ring, turn);
        }
        turn = (turn + KEYS) % shape::RING;
        now = 1 - now;
    }
    copy_wait<0>();
    write_queries<HEAD>(p, at, row, sum, (what & CONTENT) == 0);
    if (part != NULL) {
        __syncthreads();
        write_bias_part<HEAD>(f, at, sum, part + (at.b * tiles + at.first / MMA_QUERIES) * f.width,
                              reinterpret_cast<float *>(shared));
    }
}

/* --- on the host ------------------------------------------------------------------------------ */

template <int HEAD, bool PLACE> static size_t query_bytes()
{
    typedef mma_shape<HEAD, query_tile_keys(HEAD), 2> shape;
    return (3 * shape::KEY_NUMBERS + shape::QUERY_NUMBERS +
            (PLACE ? shape::QUERY_NUMBERS + shape::RING_NUMBERS : 0)) *
           sizeof(bf16);
}

void attention_bf16_queries_allow(struct cuda *cuda)
{
    MMA_ALLOW(k_attention_bf16_queries, cuda->shared_limit);
}

static void start(struct cuda *cuda, const att_vjp &p, const att_packed &packed, int what,
                  float *part)
{
    int64_t tiles = div_up(p.f.length, MMA_QUERIES);
    unsigned blocks = (unsigned)(p.f.batch * p.f.heads * tiles);
    if (p.f.rk != NULL)
        MMA_BY_HEAD(p.f, LAUNCH((k_attention_bf16_queries<HEAD, true>), blocks, MMA_THREADS,
                                (query_bytes<HEAD, true>()), cuda->stream, p, packed, tiles, what,
                                part));
    else
        MMA_BY_HEAD(p.f, LAUNCH((k_attention_bf16_queries<HEAD, false>), blocks, MMA_THREADS,
                                (query_bytes<HEAD, false>()), cuda->stream, p, packed, tiles, what,
                                part));
}

void attention_bf16_queries(struct cuda *cuda, const att_vjp &p, const att_packed &packed)
{
    if (p.dr_w == NULL && p.dr_r == NULL) {
        start(cuda, p, packed, CONTENT | PLACES, NULL);
        return;
    }
    start(cuda, p, packed, CONTENT, p.dr_w);
    start(cuda, p, packed, PLACES, p.dr_r);
}
