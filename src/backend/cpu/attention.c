/* Relative attention, forward. */
#include "backend/cpu/attention_impl.h"

#include <math.h>
#include <string.h>

struct head_shape head_shape_of(const struct attention *p)
{
    struct head_shape s;
    s.batch = p->qkv.dim[0];
    s.len = p->qkv.dim[1];
    s.mem = p->mem.data == NULL ? 0 : p->mem.dim[1];
    s.keys = s.mem + s.len;
    s.width = p->qkv.dim[2] / 3;
    s.heads = p->heads;
    s.head = s.width / s.heads;
    s.span = p->span;
    s.keys_up = tile_round(s.keys);
    s.head_up = tile_round(s.head);
    s.scale = 1.0f / sqrtf((float)s.head);
    s.relative = p->rk.data != NULL;
    return s;
}

size_t head_work_layout(struct head_work *w, const struct head_shape *s, float *data)
{
    size_t at = 0;
    const struct {
        float **to;
        int64_t count;
    } parts[] = {
        {&w->key_t, s->head * s->keys_up},       {&w->value, s->keys * s->head_up},
        {&w->query_w, QUERY_BLOCK * s->head_up}, {&w->query_r, QUERY_BLOCK * s->head_up},
        {&w->score, QUERY_BLOCK * s->keys_up},   {&w->shift, QUERY_BLOCK * (s->keys_up + VEC)},
        {&w->out, QUERY_BLOCK * s->head_up}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = data + at;
        at += (size_t)parts[i].count;
    }
    return at;
}

/* Sets what follows from the positions of a block's queries. */
static void measure_block(const struct head_shape *s, struct query_block *q)
{
    int64_t last = q->row[q->count - 1];
    q->first = q->row[0];
    q->reach = s->mem + last + 1;
    q->reach_up = tile_round(q->reach);
    q->column = (s->len - 1 - last) / VEC * VEC;
}

struct query_block query_block_of(const struct head_shape *s, int64_t b, int64_t n, int64_t first)
{
    struct query_block q = {.b = b, .n = n};
    q.count = s->len - first < QUERY_BLOCK ? s->len - first : QUERY_BLOCK;
    for (int64_t i = 0; i < q.count; i++)
        q.row[i] = first + i;
    measure_block(s, &q);
    return q;
}

/* Makes a block of the first of `left` listed queries of sequence b, which begins at row b * L. */
static struct query_block listed_block(const struct head_shape *s, const int32_t *rows,
                                       int64_t left, int64_t b, int64_t n)
{
    struct query_block q = {.b = b, .n = n};
    q.count = left < QUERY_BLOCK ? left : QUERY_BLOCK;
    for (int64_t i = 0; i < q.count; i++)
        q.row[i] = rows[i] - b * s->len;
    measure_block(s, &q);
    return q;
}

void head_put_columns(float *t, int64_t ld, const float *const row[VEC], int64_t head)
{
    int64_t e = 0;
    for (; e + VEC <= head; e += VEC) {
        vec x[VEC];
        for (int j = 0; j < VEC; j++)
            x[j] = row[j] != NULL ? vec_load(row[j] + e) : vec_set(0);
        vec_transpose(x);
        for (int i = 0; i < VEC; i++)
            vec_store(t + (e + i) * ld, x[i]);
    }
    for (; e < head; e++)
        for (int j = 0; j < VEC; j++)
            t[e * ld + j] = row[j] != NULL ? row[j][e] : 0;
}

/* Floats of one head's positions. */
static size_t positions_stride(const struct head_shape *s, bool rows)
{
    return s->relative ? (size_t)(s->keys_up * (s->head + (rows ? s->head_up : 0))) : 0;
}

size_t positions_count(const struct head_shape *s, bool rows)
{
    return (size_t)s->heads * positions_stride(s, rows);
}

const float *positions_columns(const struct head_shape *s, bool rows, const float *data, int64_t n)
{
    return data + (size_t)n * positions_stride(s, rows);
}

const float *positions_rows(const struct head_shape *s, const float *data, int64_t n)
{
    return positions_columns(s, true, data, n) + s->head * s->keys_up;
}

void positions_pack(struct backend *be, const struct attention *p, const struct head_shape *s,
                    bool rows, float *data)
{
    int64_t distances = p->rk.dim[0];
    if (!s->relative)
        return;
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(s->heads * s->keys * s->head))
    for (int64_t n = 0; n < s->heads; n++) {
        float *columns = data + (size_t)n * positions_stride(s, rows);
        float *to = columns + s->head * s->keys_up;
        for (int64_t first = 0; first < s->keys_up; first += VEC) {
            const float *row[VEC];
            for (int64_t j = 0; j < VEC; j++) {
                int64_t distance = s->keys - 1 - first - j;
                bool known = distance >= 0 && distance < distances;
                row[j] = known ? cpu_f32(&p->rk) + distance * s->width + n * s->head : NULL;
                if (rows)
                    head_put_row(to + (first + j) * s->head_up, row[j], s->head, s->head_up);
            }
            head_put_columns(columns + first, s->keys_up, row, s->head);
        }
    }
}

void head_pack_keys(const struct attention *p, const struct head_shape *s,
                    const struct head_work *w, int64_t b, int64_t n)
{
    for (int64_t first = 0; first < s->keys_up; first += VEC) {
        const float *row[VEC];
        for (int64_t j = 0; j < VEC; j++)
            row[j] = first + j < s->keys ? head_row(p, s, b, n, 1, first + j) : NULL;
        head_put_columns(w->key_t + first, s->keys_up, row, s->head);
    }
}

void head_pack_values(const struct attention *p, const struct head_shape *s,
                      const struct head_work *w, int64_t b, int64_t n)
{
    for (int64_t j = 0; j < s->keys; j++)
        head_put_row(w->value + j * s->head_up, head_row(p, s, b, n, 2, j), s->head, s->head_up);
}

/* Prefetches a few more keys of the next task, with their values and queries. The share of them
 * that has been fetched follows `done`, the share of this task's queries. */
static void fetch(const struct head_shape *s, struct head_fetch *next, int64_t done)
{
    enum { AT_ONCE = 3, LINE = 16 }; /* the processor drops what is too much at once */
    int64_t b = next->task / s->heads, n = next->task % s->heads, to = s->keys * done / s->len;
    if (b >= s->batch)
        return;
    if (to > next->key + AT_ONCE)
        to = next->key + AT_ONCE;
    __asm__ volatile(
        ""); /* gcc sees no effect in a prefetch and would drop the calls without this */
    for (; next->key < to; next->key++) {
        int64_t query = next->key - s->mem, at = (b * s->len + query) * s->width + n * s->head;
        for (int64_t e = 0; e < s->head; e += LINE) {
            for (int part = query < 0 ? 1 : 0; part < 3; part++)
                __builtin_prefetch(head_row(next->p, s, b, n, part, next->key) + e);
            for (int k = 0; k < 2 && query >= 0 && next->more[k] != NULL; k++)
                __builtin_prefetch(next->more[k] + at + e);
        }
    }
}

struct key_range key_range_of(const struct attention *p, const struct head_shape *s, int64_t row)
{
    struct key_range r = {.end = s->mem + row + 1};
    r.start = p->span > 0 && r.end > p->span ? r.end - p->span : 0;
    r.from = r.start / VEC * VEC;
    r.to = tile_round(r.end);
    return r;
}

struct query_strip query_strip_of(const struct attention *p, const struct head_shape *s,
                                  const struct query_block *q, int64_t at, int64_t most)
{
    struct query_strip strip = {.at = at, .keys = key_range_of(p, s, q->row[at])};
    strip.count = q->count - at < most ? q->count - at : most;
    int64_t last = q->row[at + strip.count - 1], column = s->len - 1 - last;
    if (p->span > 0 && s->keys - p->span > column)
        column = s->keys - p->span;
    strip.keys.end = s->mem + last + 1;
    strip.keys.to = tile_round(strip.keys.end);
    strip.column = column / VEC * VEC;
    return strip;
}

/* Packs the queries of the block with the two biases added, where there are positions. */
static void pack_queries(const struct attention *p, const struct head_shape *s,
                         const struct head_work *w, const struct query_block *q)
{
    int64_t b = q->b, n = q->n;
    if (!s->relative) {
        for (int64_t i = 0; i < q->count; i++)
            head_put_row(w->query_w + i * s->head_up, head_row(p, s, b, n, 0, s->mem + q->row[i]),
                         s->head, s->head_up);
        return;
    }
    const float *r_w = cpu_f32(&p->r_w) + n * s->head, *r_r = cpu_f32(&p->r_r) + n * s->head;
    for (int64_t i = 0; i < q->count; i++) {
        const float *query = head_row(p, s, b, n, 0, s->mem + q->row[i]);
        float *to_w = w->query_w + i * s->head_up, *to_r = w->query_r + i * s->head_up;
        int64_t e = 0;
        for (; e + VEC <= s->head; e += VEC) {
            vec_store(to_w + e, vec_load(query + e) + vec_load(r_w + e));
            vec_store(to_r + e, vec_load(query + e) + vec_load(r_r + e));
        }
        for (; e < s->head_up; e++) {
            to_w[e] = e < s->head ? query[e] + r_w[e] : 0;
            to_r[e] = e < s->head ? query[e] + r_r[e] : 0;
        }
    }
}

/* One of the two products behind the scores of a strip, out = query columns. */
struct strip_product {
    const float *query, *columns;
    float *out;
    int64_t ld;       /* between rows of out */
    int64_t from, to; /* columns to compute */
};

/* Computes it for `count` queries by tiles, and prefetches between them. */
static void run_strip(const struct head_shape *s, const struct strip_product *x, int64_t count,
                      struct head_fetch *next, int64_t done)
{
    enum { TILE = TILE_VECS * VEC };
    for (int64_t j = x->from; j < x->to; j += TILE) {
        tile_product(count, x->to - j < TILE ? x->to - j : TILE, s->head,
                     tile_rows(x->query, s->head_up), tile_from(x->columns + j, s->keys_up),
                     tile_to(x->out + j, x->ld));
        fetch(s, next, done);
    }
}

void head_products(const struct attention *p, const struct head_shape *s, const struct head_work *w,
                   const struct query_block *q, struct head_fetch *next)
{
    int64_t ld = s->keys_up, lds = s->keys_up + VEC, hu = s->head_up;
    pack_queries(p, s, w, q);
    for (int64_t at = 0; at < q->count; at += TILE_ROWS) {
        struct query_strip strip = query_strip_of(p, s, q, at, TILE_ROWS);
        int64_t done = q->row[at + strip.count - 1] + 1;
        struct strip_product by_key = {w->query_w + at * hu, w->key_t,     w->score + at * ld, ld,
                                       strip.keys.from,      strip.keys.to};
        struct strip_product by_column = {w->query_r + at * hu, w->rel_t, w->shift + at * lds, lds,
                                          strip.column,         ld};
        run_strip(s, &by_key, strip.count, next, done);
        if (s->relative)
            run_strip(s, &by_column, strip.count, next, done);
    }
}

/* Writes the unscaled scores of query i to `score`. Returns the largest, lane by lane. */
static vec score_row(const struct head_shape *s, const struct head_work *w,
                     const struct query_block *q, const struct key_range *r, int64_t i)
{
    float *score = w->score + i * s->keys_up;
    vec max = vec_set(-INFINITY);
    for (int64_t j = r->from; j < r->to; j += VEC) {
        vec x = head_score(s, w, q, r, i, j);
        vec_store(score + j, x);
        max = vec_max(max, x);
    }
    return max;
}

/* Turns the scores of a query into e m, where e are the exponentials of the scores less the largest
 * and the mask m begins at `mask`, which may be NULL. Returns the sum of e, lane by lane. */
static vec weigh_row(const struct head_shape *s, float *score, const struct key_range *r, float top,
                     const uint8_t *mask)
{
    vec sum = vec_set(0);
    for (int64_t j = r->from; j < r->to; j += VEC) {
        vec e = vec_exp(vec_load(score + j) * s->scale - top);
        vec_store(score + j, e);
        sum += e;
    }
    if (mask != NULL)
        for (int64_t j = r->start; j < r->end; j++)
            score[j] *= (float)mask[j];
    return sum;
}

static void attend_block(const struct attention *p, const struct head_shape *s,
                         const struct head_work *w, const struct query_block *q,
                         struct head_fetch *next)
{
    int64_t ld = s->keys_up, hu = s->head_up, index = (q->b * s->heads + q->n) * s->len;
    float keep = p->mask.data != NULL ? (float)p->mask_scale : 1;
    head_products(p, s, w, q, next);
    for (int64_t at = 0; at < q->count; at += TILE_ROWS) {
        struct query_strip strip = query_strip_of(p, s, q, at, TILE_ROWS);
        int64_t from = strip.keys.from;
        vec sum[TILE_ROWS];
        float top[TILE_ROWS], total[TILE_ROWS];
        for (int64_t i = 0; i < strip.count; i++) {
            struct key_range r = key_range_of(p, s, q->row[at + i]);
            sum[i] = score_row(s, w, q, &r, at + i);
        }
        for (int64_t i = 0; i < strip.count; i++)
            top[i] = vec_max_of(sum[i]) * s->scale;
        for (int64_t i = 0; i < strip.count; i++) {
            struct key_range r = key_range_of(p, s, q->row[at + i]);
            float *score = w->score + (at + i) * ld;
            sum[i] = weigh_row(s, score, &r, top[i], head_mask_row(p, s, index + q->row[at + i]));
            vec_fill(score, from, r.from, 0);
            vec_fill(score, r.to, strip.keys.to, 0);
        }
        for (int64_t i = 0; i < strip.count; i++)
            total[i] = vec_sum(sum[i]);
        for (int64_t i = 0; p->lse.data != NULL && i < strip.count; i++)
            cpu_f32(&p->lse)[index + q->row[at + i]] = top[i] + logf(total[i]);
        tile_product(strip.count, hu, strip.keys.end - from,
                     tile_rows(w->score + at * ld + from, ld), tile_from(w->value + from * hu, hu),
                     tile_to(w->out, hu));
        for (int64_t i = 0; i < strip.count; i++)
            head_scale_row(cpu_f32(&p->out) + (q->b * s->len + q->row[at + i]) * s->width +
                               q->n * s->head,
                           w->out + i * hu, keep / total[i], s->head);
    }
}

/* Points *rows at the first listed query of sequence b and returns how many there are. */
static int64_t listed_of(const struct attention *p, const struct head_shape *s, int64_t b,
                         const int32_t **rows)
{
    const int32_t *all = cpu_i32(&p->rows);
    int64_t count = p->rows.dim[0], from = 0, to;
    while (from < count && all[from] < b * s->len)
        from++;
    for (to = from; to < count && all[to] < (b + 1) * s->len; to++)
        ;
    *rows = all + from;
    return to - from;
}

static void attend(const struct attention *p, const struct head_shape *s, const struct head_work *w,
                   int64_t b, int64_t n)
{
    const int32_t *rows;
    struct head_fetch next = {.p = p, .task = b * s->heads + n + 1};
    if (p->rows.data == NULL) {
        head_pack_keys(p, s, w, b, n);
        head_pack_values(p, s, w, b, n);
        for (int64_t first = 0; first < s->len; first += QUERY_BLOCK) {
            struct query_block q = query_block_of(s, b, n, first);
            attend_block(p, s, w, &q, &next);
        }
        return;
    }
    int64_t count = listed_of(p, s, b, &rows);
    if (count > 0) {
        head_pack_keys(p, s, w, b, n);
        head_pack_values(p, s, w, b, n);
    }
    for (int64_t done = 0; done < count; done += QUERY_BLOCK) {
        struct query_block q = listed_block(s, rows + done, count - done, b, n);
        attend_block(p, s, w, &q, &next);
    }
}

void cpu_attention(struct backend *be, const struct attention *p)
{
    struct head_shape s = head_shape_of(p);
    struct head_work none;
    if (s.len <= FEW_QUERIES) {
        attention_few(be, p, &s);
        return;
    }
    size_t need = head_work_layout(&none, &s, NULL);
    int64_t tasks = s.batch * s.heads;
    float *positions = cpu_scratch(be, positions_count(&s, false) + 1, true, OP_attention);
    if (positions == NULL)
        return;
    positions_pack(be, p, &s, false, positions);
#pragma omp parallel num_threads(be->threads) if (cpu_worth(tasks * s.len * s.keys))
    {
        struct head_work w;
        float *data = cpu_scratch(be, need, false, OP_attention);
        head_work_layout(&w, &s, data);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            w.rel_t = positions_columns(&s, false, positions, task % s.heads);
            if (data != NULL)
                attend(p, &s, &w, task / s.heads, task % s.heads);
        }
    }
}
