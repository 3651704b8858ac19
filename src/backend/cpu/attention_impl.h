/* What the directions of attention share, such as sizes, packed operands of a head, and scores.
 *
 * A task is one head of one sequence. Its keys are packed so that the products run along contiguous
 * vectors. Queries are processed in blocks of QUERY_BLOCK rows, so that scores only ever exist for
 * one block, in the thread's scratch. Within a block every strip of TILE_ROWS queries has its own
 * range of keys. What none of them sees is not computed.
 *
 * Positional scores come from a second product with the rows of rk in the order of columns
 * c = K-1-d. Query i meets key j in column j + L-1-i, which is a shift per row. */
#ifndef DEQ_BACKEND_CPU_ATTENTION_IMPL_H
#define DEQ_BACKEND_CPU_ATTENTION_IMPL_H

#include "backend/cpu/cpu_impl.h"
#include "backend/cpu/tile.h"

#include <math.h>
#include <string.h>

enum { QUERY_BLOCK = 32, FEW_QUERIES = 8 };

struct head_shape {
    int64_t batch, len, mem, keys, width, heads, head; /* B, L, P, K, D, H, h */
    int64_t keys_up, head_up;                          /* K and h rounded up to vectors */
    int64_t span;                                      /* keys a query may see, 0 for all */
    float scale;                                       /* 1 / sqrt(h) */
    bool relative; /* there are positions, that is, scores have a second product */
};

/* What one thread works on, all in its scratch. */
struct head_work {
    float *key_t;             /* [h, keys_up] */
    const float *rel_t;       /* borrowed, [h, keys_up] rk by column, from `positions` */
    float *value;             /* [K, head_up] */
    float *query_w, *query_r; /* [QUERY_BLOCK, head_up] q + r_w and q + r_r */
    float *score;             /* [QUERY_BLOCK, keys_up] */
    float *shift;             /* [QUERY_BLOCK, keys_up + VEC] positional scores by column */
    float *out;               /* [QUERY_BLOCK, head_up] */
};

/* A block of `count` queries at positions row[0] = first < row[1] < ... . They see keys below
 * `reach`, and use columns of the positional scores from `column`. reach is rounded up to reach_up,
 * and column down to a vector. */
struct query_block {
    int64_t b, n; /* sequence and head */
    int64_t first, count, reach, reach_up, column;
    int64_t row[QUERY_BLOCK];
};

/* Keys [start, end) that a query may look at, and the vectors [from, to) that they lie in. */
struct key_range {
    int64_t start, end, from, to;
};

/* Queries [at, at + count) of a block, with the keys that one of them may look at. The columns of
 * their positional scores go from `column` (of a vector) to the end. */
struct query_strip {
    int64_t at, count, column;
    struct key_range keys;
};

struct head_shape head_shape_of(const struct attention *p);
/* Returns the floats of a head_work. If `data` is not NULL, lays it out there. */
size_t head_work_layout(struct head_work *w, const struct head_shape *s, float *data);
/* A block of neighbouring queries from `first` on. */
struct query_block query_block_of(const struct head_shape *s, int64_t b, int64_t n, int64_t first);

/* Returns head n's numbers of part 0 (q), 1 (k) or 2 (v) of key row j of sequence b. */
static inline const float *head_row(const struct attention *p, const struct head_shape *s,
                                    int64_t b, int64_t n, int part, int64_t j)
{
    const float *row = j < s->mem ? cpu_f32(&p->mem) + (b * s->mem + j) * 3 * s->width
                                  : cpu_f32(&p->qkv) + (b * s->len + j - s->mem) * 3 * s->width;
    return row + part * s->width + n * s->head;
}

/* Returns the mask of query number `index` of [B,H,L], or NULL. */
static inline const uint8_t *head_mask_row(const struct attention *p, const struct head_shape *s,
                                           int64_t index)
{
    return p->mask.data == NULL ? NULL : (const uint8_t *)p->mask.data + index * s->keys;
}

/* The positions by column, c = K-1-d, are the same for all sequences. They are packed once an
 * operation, for every head as columns [h, keys_up] and, with `rows`, also as rows [keys_up,
 * head_up]. Distances that rk does not reach are 0. positions_count tells how many floats that
 * takes, which is none without positions. */
size_t positions_count(const struct head_shape *s, bool rows);
/* Packs the positions into data, on all threads. */
void positions_pack(struct backend *be, const struct attention *p, const struct head_shape *s,
                    bool rows, float *data);
const float *positions_columns(const struct head_shape *s, bool rows, const float *data, int64_t n);
const float *positions_rows(const struct head_shape *s, const float *data, int64_t n);

/* Sets t[e, j] = row_j[e] for VEC keys, where t is the column of the first one. A NULL row gives
 * zeros. */
void head_put_columns(float *t, int64_t ld, const float *const row[VEC], int64_t head);

/* Pack the keys of a head by column, and its values. */
void head_pack_keys(const struct attention *p, const struct head_shape *s,
                    const struct head_work *w, int64_t b, int64_t n);
void head_pack_values(const struct attention *p, const struct head_shape *s,
                      const struct head_work *w, int64_t b, int64_t n);
/* What a task prefetches of the next one while it computes. A head's numbers lie in many short
 * pieces whose order the processor cannot foresee. Keys before `key` have been fetched. */
struct head_fetch {
    const struct attention *p;
    int64_t task, key;
    const float *more[2]; /* [B,L,D] rows that belong to the queries, or NULL */
};

/* The keys that the query at position `row` may look at. */
struct key_range key_range_of(const struct attention *p, const struct head_shape *s, int64_t row);
/* Returns the strip of at most `most` queries that begins at query `at` of the block. */
struct query_strip query_strip_of(const struct attention *p, const struct head_shape *s,
                                  const struct query_block *q, int64_t at, int64_t most);
/* Packs a block's queries and computes the two products behind its scores. They go into `score` by
 * key and into `shift` by column, for every strip in its own range. */
void head_products(const struct attention *p, const struct head_shape *s, const struct head_work *w,
                   const struct query_block *q, struct head_fetch *next);

/* Returns the sum of the products for query i at the VEC keys from j on, -inf where it may not
 * look. It is the score before it is divided by sqrt(h). */
static inline vec head_score(const struct head_shape *s, const struct head_work *w,
                             const struct query_block *q, const struct key_range *keys, int64_t i,
                             int64_t j)
{
    vec x = vec_load(w->score + i * s->keys_up + j);
    if (s->relative)
        x += vec_load(w->shift + i * (s->keys_up + VEC) + s->len - 1 - q->row[i] + j);
    if (j >= keys->start && j + VEC <= keys->end)
        return x;
    return vec_select(vec_lanes(keys->start - j, keys->end - j), x, vec_set(-INFINITY));
}

/* Fills x[from .. to) with value, in whole vectors. */
static inline void vec_fill(float *x, int64_t from, int64_t to, float value)
{
    for (int64_t j = from; j < to; j += VEC)
        vec_store(x + j, vec_set(value));
}

/* Sets to[count] = from[count] * factor. */
static inline void head_scale_row(float *to, const float *from, float factor, int64_t count)
{
    int64_t e = 0;
    for (; e + VEC <= count; e += VEC)
        vec_store(to + e, vec_load(from + e) * factor);
    for (; e < count; e++)
        to[e] = from[e] * factor;
}

/* Copies from[head] to to[head_up] and pads it with zeros. All are zeros if `from` is NULL. */
static inline void head_put_row(float *to, const float *from, int64_t head, int64_t head_up)
{
    int64_t known = from == NULL ? 0 : head, e = 0;
    for (; e + VEC <= known; e += VEC)
        vec_store(to + e, vec_load(from + e));
    for (; e < known; e++)
        to[e] = from[e];
    for (; e < head_up; e++)
        to[e] = 0;
}

/* Adds the threads' shares, `stride` numbers apart, to total in the order of threads. */
void head_add_shares(const struct tensor *total, const float *shares, size_t stride, int threads);

/* Computes the whole operation without packing, for at most FEW_QUERIES queries a sequence. */
void attention_few(struct backend *be, const struct attention *p, const struct head_shape *s);

#endif
