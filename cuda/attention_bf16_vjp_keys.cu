/* Gradients of keys and values on tensor cores (attention_mma.h). A block owns its keys and goes
 * over the queries that see them, 64 at a time. Each warp makes the weights and the gradients of
 * the scores of 16 queries, as the other kernels do, and leaves them in shared memory in bf16. From
 * there each warp takes 16 keys, of which it sums dk and dv.
 *
 * A block has 64 keys. With heads of more than 80 columns it has 32, two warps share 16 keys, and
 * each has half of the columns. */
#include "cuda_impl.h"

#include "attention_bf16_vjp.h"

/* Sizes of the kernel. COLUMNS of a row of dk and dv are a warp's. */
template <int HEAD> struct key_shape : mma_shape<HEAD, (HEAD > 80 ? 32 : 64)> {
    typedef mma_shape<HEAD, (HEAD > 80 ? 32 : 64)> base;
    static constexpr int GROUPS = base::KEYS / 16;
    static constexpr int COLUMNS = HEAD * GROUPS / MMA_WARPS;
    static constexpr int WEIGHT_STRIDE = base::KEYS + 8;
    static constexpr int WEIGHT_NUMBERS = MMA_QUERIES * WEIGHT_STRIDE;
};

/* A block's memory. The queries come once with each bias. */
struct key_tiles {
    bf16 *key, *value, *qw, *qr, *dout, *ring, *weight, *ds;
};

template <int HEAD, bool PLACE> __host__ __device__ __forceinline__ key_tiles tiles_at(bf16 *shared)
{
    typedef key_shape<HEAD> shape;
    key_tiles t;
    t.key = shared;
    t.value = t.key + shape::KEY_NUMBERS;
    t.qw = t.value + shape::KEY_NUMBERS;
    t.dout = t.qw + shape::QUERY_NUMBERS;
    t.weight = t.dout + shape::QUERY_NUMBERS;
    t.ds = t.weight + shape::WEIGHT_NUMBERS;
    t.qr = t.ds + shape::WEIGHT_NUMBERS;
    t.ring = t.qr + shape::QUERY_NUMBERS;
    return t;
}

template <int HEAD, bool PLACE> static size_t key_bytes()
{
    typedef key_shape<HEAD> shape;
    int common = 2 * (shape::KEY_NUMBERS + shape::QUERY_NUMBERS + shape::WEIGHT_NUMBERS);
    return (common + (PLACE ? shape::QUERY_NUMBERS + shape::RING_NUMBERS : 0)) * sizeof(bf16);
}

/* A warp's numbers of a tile [64,KEYS] into shared memory. */
template <int KEYS> __device__ __forceinline__ void leave_tile(bf16 *to, const float x[KEYS / 8][4])
{
    int row = MMA_ROWS * ((int)threadIdx.x / 32) + lane_of() / 4, column = lane_of() % 4 * 2;
#pragma unroll
    for (int t = 0; t < KEYS / 8; t++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            store_vec(to + (row + 8 * r) * (KEYS + 8) + 8 * t + column,
                      pack_bf16(x[t][2 * r], x[t][2 * r + 1]));
}

/* sum [16 keys,COLUMNS] += weight^T rows, from the warp's first column on. */
template <int HEAD>
__device__ __forceinline__ void add_by_columns(float sum[key_shape<HEAD>::COLUMNS / 8][4],
                                               const bf16 *weight, const bf16 *rows)
{
    typedef key_shape<HEAD> shape;
    int warp = (int)threadIdx.x / 32, group = warp % shape::GROUPS;
    int first = warp / shape::GROUPS * shape::COLUMNS;
#pragma unroll
    for (int k = 0; k < MMA_QUERIES / 16; k++) {
        uint32_t a[4];
        columns_as_a<shape::WEIGHT_STRIDE>(a, weight, 16 * k, 16 * group);
#pragma unroll
        for (int c = 0; c < shape::COLUMNS / 8; c += 2) {
            uint32_t b[4];
            rows_as_rows<HEAD + 8>(b, rows, 16 * k, first + 8 * c);
            add_pair(sum, c, a, b);
        }
    }
}

/* Weights and gradients of scores of a warp's queries from `row` on, into shared memory. */
template <int HEAD, bool PLACE>
__device__ __forceinline__ void leave_weights(const att_vjp &p, const att_place &at, int row,
                                              const key_tiles &t)
{
    constexpr int KEYS = key_shape<HEAD>::KEYS;
    float s[KEYS / 8][4] = {}, da[KEYS / 8][4] = {};
    if (meets<KEYS>(p.f, row, (int)at.first)) {
        uint32_t q[HEAD / 16][4];
        rows_from_tile<HEAD>(q, t.qw);
        add_scores<typename key_shape<HEAD>::base, PLACE, HEAD / 16>(s, q, t.qr, t.key, t.ring, 0);
        rows_from_tile<HEAD>(q, t.dout);
        add_by_rows<HEAD, KEYS>(da, q, t.value);
        score_gradients<KEYS>(p.f, at, row, (int)at.first, rows_of(p, at, row), s, da);
    }
    leave_tile<KEYS>(t.ds, s);
    leave_tile<KEYS>(t.weight, da);
}

/* dk and dv of a warp's keys and columns. */
template <int HEAD>
__device__ __forceinline__ void write_keys(const att_vjp &p, const att_place &at,
                                           const float dk[key_shape<HEAD>::COLUMNS / 8][4],
                                           const float dv[key_shape<HEAD>::COLUMNS / 8][4])
{
    typedef key_shape<HEAD> shape;
    const att &f = p.f;
    int warp = (int)threadIdx.x / 32, first = warp / shape::GROUPS * shape::COLUMNS;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int64_t j = at.first + 16 * (warp % shape::GROUPS) + lane_of() / 4 + 8 * r;
        float *to = key_gradient(p, at, j);
        if (to == NULL)
            continue;
#pragma unroll
        for (int c = 0; c < shape::COLUMNS / 8; c++)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                int e = first + 8 * c + lane_of() % 4 * 2 + k;
                if (e >= f.head)
                    continue;
                if (j < f.mem_len)
                    to[e] = 0; /* the q part of a memory row has no gradient */
                to[f.width + e] = dk[c][2 * r + k];
                to[2 * f.width + e] = dv[c][2 * r + k];
            }
    }
}

/* A block for KEYS keys of a head. What only the scores need comes while dk and dv are summed. */
template <int HEAD, bool PLACE>
__global__ void __launch_bounds__(MMA_THREADS, 2)
    k_attention_bf16_keys(att_vjp p, att_packed packed, int64_t tiles)
{
    typedef key_shape<HEAD> shape;
    constexpr int KEYS = shape::KEYS;
    DYNAMIC_SHARED(bf16, shared);
    const att &f = p.f;
    att_place at = place_of(f, tiles, KEYS);
    at.first += p.first_key;
    key_tiles t = tiles_at<HEAD, PLACE>(shared);
    int64_t pair = at.b * f.heads + at.n, queries = pair * f.length * HEAD;
    int first = (int)at.first, length = (int)f.length, count = (int)f.keys;
    int back = first - (int)f.mem_len, begin = back > 0 ? back : 0;
    int end = (int)at_most(at_most(first + KEYS, count) - 1 - f.mem_len + f.span, length);
    auto fetch_for_scores = [&](int i0) {
        if constexpr (PLACE) {
            fetch_rows<HEAD>(t.qr, packed.qr + queries, MMA_QUERIES, i0, 1, length);
            fetch_window<HEAD>(f, t.ring, packed.rk + at.n * f.span * HEAD, 0, shape::RING,
                               i0 - back + MMA_QUERIES - 1);
        }
    };
    auto fetch_for_both = [&](int i0) {
        fetch_rows<HEAD>(t.qw, packed.qw + queries, MMA_QUERIES, i0, 1, length);
        fetch_rows<HEAD>(t.dout, packed.dout + queries, MMA_QUERIES, i0, 1, length);
    };
    fetch_rows<HEAD>(t.key, packed.k + pair * f.keys * HEAD, KEYS, first, 1, count);
    fetch_rows<HEAD>(t.value, packed.v + pair * f.keys * HEAD, KEYS, first, 1, count);
    fetch_for_scores(begin);
    fetch_for_both(begin);
    copy_commit();
    float dk[shape::COLUMNS / 8][4] = {}, dv[shape::COLUMNS / 8][4] = {};
    for (int i0 = begin; i0 < end; i0 += MMA_QUERIES) {
        copy_wait<0>();
        __syncthreads();
        leave_weights<HEAD, PLACE>(p, at, i0 + MMA_ROWS * ((int)threadIdx.x / 32), t);
        __syncthreads();
        if (i0 + MMA_QUERIES < end)
            fetch_for_scores(i0 + MMA_QUERIES);
        copy_commit();
        add_by_columns<HEAD>(dv, t.weight, t.dout);
        add_by_columns<HEAD>(dk, t.ds, t.qw);
        __syncthreads();
        if (i0 + MMA_QUERIES < end)
            fetch_for_both(i0 + MMA_QUERIES);
        copy_commit();
    }
    copy_wait<0>();
    write_keys<HEAD>(p, at, dk, dv);
}

/* --- on the host ------------------------------------------------------------------------------ */

void attention_bf16_keys_allow(struct cuda *cuda)
{
    MMA_ALLOW(k_attention_bf16_keys, cuda->shared_limit);
}

/* Starts the kernel with or without positions. */
template <bool PLACE>
static void start(struct cuda *cuda, const att_vjp &p, const att_packed &packed)
{
    const att &f = p.f;
    MMA_BY_HEAD(f, int64_t tiles = div_up(f.keys - p.first_key, (int64_t)key_shape<HEAD>::KEYS);
                LAUNCH((k_attention_bf16_keys<HEAD, PLACE>), (unsigned)(f.batch * f.heads * tiles),
                       MMA_THREADS, (key_bytes<HEAD, PLACE>()), cuda->stream, p, packed, tiles));
}

void attention_bf16_keys(struct cuda *cuda, const att_vjp &p, const att_packed &packed)
{
    if (p.f.rk != NULL)
        start<true>(cuda, p, packed);
    else
        start<false>(cuda, p, packed);
}
