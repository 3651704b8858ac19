/* Gradients of queries on tensor cores (attention_mma.h). A block has 64 queries and goes over the
 * keys that they see, as the forward kernel does, with operands of scores in registers. The
 * gradient of a positional score goes the way back along its diagonal, and is then multiplied with
 * the same rows of rk. The next keys and rows of rk come during the whole work on a tile, and the
 * next values during its second half.
 *
 * What is wanted of the queries is content + place, in one sum. Only where biases have gradients
 * too, once a step, the two are computed one after the other, since two sums would not fit into the
 * registers. */
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

/* A block's memory, and the rows that it reads. */
template <class shape> struct query_tiles {
    bf16 *key[2], *value, *dout, *qr, *ring;
    const bf16 *k, *v, *rk;
    int count, nearest; /* keys, and distance of the ring's row 0 to key 0 */
};

template <class shape, int HEAD, bool PLACE>
__device__ __forceinline__ query_tiles<shape> tiles_of(const att &f, const att_packed &packed,
                                                       const att_place &at, bf16 *shared)
{
    int64_t pair = at.b * f.heads + at.n;
    query_tiles<shape> t;
    t.key[0] = shared;
    t.key[1] = t.key[0] + shape::KEY_NUMBERS;
    t.value = t.key[1] + shape::KEY_NUMBERS;
    t.dout = t.value + shape::KEY_NUMBERS;
    t.qr = t.dout + shape::QUERY_NUMBERS;
    t.ring = t.qr + shape::QUERY_NUMBERS;
    t.k = packed.k + pair * f.keys * HEAD;
    t.v = packed.v + pair * f.keys * HEAD;
    t.rk = PLACE ? packed.rk + at.n * f.span * HEAD : NULL;
    t.count = (int)f.keys;
    t.nearest = (int)(f.mem_len + at.first) + MMA_QUERIES - 1;
    return t;
}

/* What is there before the first tile, which begins with key `begin`: the block's queries too. */
template <class shape, int HEAD, bool PLACE>
__device__ __forceinline__ void fetch_first(const att &f, const att_packed &packed,
                                            const att_place &at, const query_tiles<shape> &t,
                                            int begin)
{
    int64_t queries = (at.b * f.heads + at.n) * f.length * HEAD;
    int first = (int)at.first, length = (int)f.length;
    fetch_rows<HEAD>(t.dout, packed.dout + queries, MMA_QUERIES, first, 1, length);
    if (PLACE)
        fetch_rows<HEAD>(t.qr, packed.qr + queries, MMA_QUERIES, first, 1, length);
    fetch_rows<HEAD>(t.key[0], t.k, shape::KEYS, begin, 1, t.count);
    fetch_rows<HEAD>(t.value, t.v, shape::KEYS, begin, 1, t.count);
    fetch_window<HEAD>(f, t.ring, t.rk, 0, shape::KEYS + MMA_QUERIES, t.nearest - begin);
    copy_commit();
}

/* The block's results: dq of the warp's queries from `row` on, and with `part` the sum of all. */
template <int HEAD>
__device__ __forceinline__ void write_results(const att_vjp &p, const att_place &at, int row,
                                              const float sum[HEAD / 8][4], int what, float *part,
                                              void *shared)
{
    write_queries<HEAD>(p, at, row, sum, (what & CONTENT) == 0);
    if (part == NULL)
        return;
    __syncthreads();
    int64_t tiles = (p.f.length + MMA_QUERIES - 1) / MMA_QUERIES;
    part += (at.b * tiles + at.first / MMA_QUERIES) * p.f.width;
    write_bias_part<HEAD>(p.f, at, sum, part, static_cast<float *>(shared));
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
    int row = (int)at.first + MMA_ROWS * ((int)threadIdx.x / 32);
    att_keys keys = keys_seen(f, at, at_most(f.length - at.first, MMA_QUERIES));
    int begin = (int)keys.begin, end = (int)keys.end, turn = 0, now = 0;
    query_tiles<shape> t = tiles_of<shape, HEAD, PLACE>(f, packed, at, shared);
    fetch_first<shape, HEAD, PLACE>(f, packed, at, t, begin);
    uint32_t qw[HEAD / 16][4];
    rows_from_packed<HEAD>(qw, packed.qw + ((at.b * f.heads + at.n) * f.length + row) * HEAD,
                           f.length - row);
    mma_rows r = rows_of(p, at, row);
    float sum[HEAD / 8][4] = {};
    for (int j0 = begin; j0 < end; j0 += KEYS) {
        float s[KEYS / 8][4] = {}, da[KEYS / 8][4] = {};
        bool busy = meets<KEYS>(f, row, j0), more = j0 + KEYS < end;
        copy_wait<0>();
        __syncthreads();
        if (more) {
            fetch_rows<HEAD>(now == 0 ? t.key[1] : t.key[0], t.k, KEYS, j0 + KEYS, 1, t.count);
            fetch_window<HEAD>(f, t.ring, t.rk, (turn + KEYS + MMA_QUERIES) % shape::RING, KEYS,
                               t.nearest - j0 - KEYS - MMA_QUERIES);
        }
        copy_commit();
        const bf16 *key = now == 0 ? t.key[0] : t.key[1];
        if (busy) {
            uint32_t rows[HEAD / 16][4];
            add_scores<shape, PLACE, HEAD / 16>(s, qw, t.qr, key, t.ring, turn);
            rows_from_tile<HEAD>(rows, t.dout);
            add_by_rows<HEAD, KEYS>(da, rows, t.value);
        }
        __syncthreads();
        if (more)
            fetch_rows<HEAD>(t.value, t.v, KEYS, j0 + KEYS, 1, t.count);
        copy_commit();
        if (busy) {
            score_gradients<KEYS>(f, at, row, j0, r, s, da);
            if (what & CONTENT)
                add_rows<HEAD, KEYS>(sum, s, key);
            if (PLACE && (what & PLACES))
                add_places<shape, HEAD>(sum, s, t.ring, turn);
        }
        turn = (turn + KEYS) % shape::RING;
        now = 1 - now;
    }
    copy_wait<0>();
    write_results<HEAD>(p, at, row, sum, what, part, shared);
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
