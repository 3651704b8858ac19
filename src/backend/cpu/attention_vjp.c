/* Relative attention, backward. Scores are computed again from the saved log-sum-exp. */
#include "backend/cpu/attention_impl.h"

#include <math.h>
#include <string.h>

/* What a thread works on beyond what the forward pass needs. */
struct vjp_work {
    struct head_work fwd;
    float *key;                  /* [keys_up, head_up] */
    const float *rel;            /* borrowed, [keys_up, head_up] rk by column */
    float *value_t;              /* [h, keys_up] */
    float *dout;                 /* [QUERY_BLOCK, head_up] */
    float *weight;               /* [QUERY_BLOCK, keys_up] a m, then da */
    float *dquery_w, *dquery_r;  /* [QUERY_BLOCK, head_up] */
    float *dkey, *dvalue, *drel; /* [keys_up, head_up], summed over the blocks */
    float *drk, *dr_w, *dr_r;    /* this thread's share of [R,D], [D], [D] */
};

static size_t layout(struct vjp_work *w, const struct head_shape *s, float *data)
{
    size_t at = head_work_layout(&w->fwd, s, data);
    const struct {
        float **to;
        int64_t count;
    } parts[] = {{&w->key, s->keys_up * s->head_up},       {&w->value_t, s->head * s->keys_up},
                 {&w->dout, QUERY_BLOCK * s->head_up},     {&w->weight, QUERY_BLOCK * s->keys_up},
                 {&w->dquery_w, QUERY_BLOCK * s->head_up}, {&w->dquery_r, QUERY_BLOCK * s->head_up},
                 {&w->dkey, s->keys_up * s->head_up},      {&w->dvalue, s->keys_up * s->head_up},
                 {&w->drel, s->keys_up * s->head_up}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = data + at;
        at += (size_t)parts[i].count;
    }
    return at;
}

/* Packs the operands as the products want them, keys both ways and values by column. */
static void pack(const struct attention *p, const struct head_shape *s, const struct vjp_work *w,
                 int64_t b, int64_t n)
{
    for (int64_t first = 0; first < s->keys_up; first += VEC) {
        const float *key[VEC], *value[VEC];
        for (int64_t j = 0; j < VEC; j++) {
            bool real = first + j < s->keys;
            key[j] = real ? head_row(p, s, b, n, 1, first + j) : NULL;
            value[j] = real ? head_row(p, s, b, n, 2, first + j) : NULL;
            head_put_row(w->key + (first + j) * s->head_up, key[j], s->head, s->head_up);
        }
        head_put_columns(w->fwd.key_t + first, s->keys_up, key, s->head);
        head_put_columns(w->value_t + first, s->keys_up, value, s->head);
    }
}

/* Multiplies x[j] by m, for the keys that a query sees. Its mask begins at `mask`. */
static void apply_mask(float *x, const struct key_range *r, const uint8_t *mask, float scale)
{
    for (int64_t j = r->start; j < r->end; j++)
        x[j] *= (float)mask[j] * scale;
}

/* Writes a to score for query i of the block and, if there is a mask, a m to weight. The rest of
 * the block's range becomes zero. */
static void weights_row(const struct attention *p, const struct head_shape *s,
                        const struct vjp_work *w, const struct query_block *q,
                        const struct key_range *block, int64_t i)
{
    int64_t index = (q->b * s->heads + q->n) * s->len + q->row[i];
    float *a = w->fwd.score + i * s->keys_up, *weight = w->weight + i * s->keys_up;
    const uint8_t *mask = head_mask_row(p, s, index);
    struct key_range r = key_range_of(p, s, q->row[i]);
    float lse = cpu_f32(&p->lse)[index];
    for (int64_t j = r.from; j < r.to; j += VEC) {
        vec e = vec_exp(head_score(s, &w->fwd, q, &r, i, j) * s->scale - lse);
        vec_store(a + j, e);
        if (mask != NULL)
            vec_store(weight + j, e);
    }
    vec_fill(a, block->from, r.from, 0);
    vec_fill(a, r.to, block->to, 0);
    if (mask == NULL)
        return;
    apply_mask(weight, &r, mask, (float)p->mask_scale);
    vec_fill(weight, block->from, r.from, 0);
    vec_fill(weight, r.to, block->to, 0);
}

/* Turns the weights' gradient da in `weight` into that of the scores.
 *   score = dscore * scale = a (m da - delta) * scale, with delta = dout . out
 * The same goes by column into `shift`, which is zero in the columns before. */
static void dscore_row(const struct attention_vjp *p, const struct head_shape *s,
                       const struct vjp_work *w, const struct query_block *q, int64_t column,
                       int64_t i)
{
    int64_t row = q->row[i], by = s->len - 1 - row;
    const float *out = cpu_f32(&p->fwd.out) + (q->b * s->len + row) * s->width + q->n * s->head;
    const float *dout = w->dout + i * s->head_up;
    const uint8_t *mask = head_mask_row(&p->fwd, s, (q->b * s->heads + q->n) * s->len + row);
    float *a = w->fwd.score + i * s->keys_up, *da = w->weight + i * s->keys_up, delta = 0;
    float *shift = w->fwd.shift + i * (s->keys_up + VEC);
    struct key_range r = key_range_of(&p->fwd, s, row);
#pragma omp simd reduction(+ : delta)
    for (int64_t e = 0; e < s->head; e++)
        delta += dout[e] * out[e];
    if (mask != NULL)
        apply_mask(da, &r, mask, (float)p->fwd.mask_scale);
    if (s->relative)
        vec_fill(shift, column, by + r.from, 0);
    for (int64_t j = r.from; j < r.to; j += VEC) {
        vec d = vec_load(a + j) * (vec_load(da + j) - delta) * s->scale;
        vec_store(a + j, d);
        if (s->relative)
            vec_store(shift + by + j, d);
    }
}

/* Adds to c[j] the sum over the block's queries i of x[i, j] y[i], for keys j from keys_from on.
 * Only queries that may look at one of a tile's keys take part. */
static void add_to_keys(const struct head_shape *s, const struct query_block *q,
                        const struct key_range *range, const float *x, const float *y, float *c)
{
    int64_t ld = s->keys_up, hu = s->head_up, own = s->mem + q->first; /* the first query's key */
    int64_t j = range->start;
    int64_t seen_by_all = s->span == 0 && own > j ? (own - j) / TILE_ROWS * TILE_ROWS : 0;
    tile_add(seen_by_all, hu, q->count, tile_transposed(x + j, ld), tile_from(y, hu),
             tile_to(c + j * hu, hu));
    for (j += seen_by_all; j < range->end; j += TILE_ROWS) {
        int64_t keys = range->end - j < TILE_ROWS ? range->end - j : TILE_ROWS, to = q->count;
        int64_t from = j > own ? j - own : 0, last = j + keys - 1;
        if (s->span > 0 && last - own + s->span < to)
            to = last - own + s->span;
        if (from < to)
            tile_add(keys, hu, to - from, tile_transposed(x + from * ld + j, ld),
                     tile_from(y + from * hu, hu), tile_to(c + j * hu, hu));
    }
}

/* Does the same for columns of the positional scores, from `column` on. */
static void add_to_columns(const struct head_shape *s, const struct query_block *q, int64_t column,
                           const float *x, const float *y, float *c)
{
    int64_t lds = s->keys_up + VEC, hu = s->head_up;
    int64_t own = s->len - 1 - q->first; /* the first query's own first column */
    for (; column < own; column += TILE_ROWS) {
        int64_t from = own - (column + TILE_ROWS - 1);
        from = from > 0 ? from : 0;
        int64_t columns = s->keys - column < TILE_ROWS ? s->keys - column : TILE_ROWS;
        tile_add(columns, hu, q->count - from, tile_transposed(x + from * lds + column, lds),
                 tile_from(y + from * hu, hu), tile_to(c + column * hu, hu));
    }
    if (column < s->keys)
        tile_add(s->keys - column, hu, q->count, tile_transposed(x + column, lds), tile_from(y, hu),
                 tile_to(c + column * hu, hu));
}

static void add_row(float *to, const float *from, int64_t count)
{
    int64_t e = 0;
    for (; e + VEC <= count; e += VEC)
        vec_store(to + e, vec_load(to + e) + vec_load(from + e));
    for (; e < count; e++)
        to[e] += from[e];
}

/* Computes the gradients of the block's queries and of the two biases. */
static void query_gradient(const struct attention_vjp *p, const struct head_shape *s,
                           const struct vjp_work *w, const struct query_block *q)
{
    int64_t ld = s->keys_up, lds = s->keys_up + VEC, hu = s->head_up, b = q->b, n = q->n;
    for (int64_t at = 0; at < q->count; at += TILE_ROWS) {
        struct query_strip strip = query_strip_of(&p->fwd, s, q, at, TILE_ROWS);
        int64_t from = strip.keys.from, c = strip.column;
        tile_product(strip.count, hu, strip.keys.end - from,
                     tile_rows(w->fwd.score + at * ld + from, ld),
                     tile_from(w->key + from * hu, hu), tile_to(w->dquery_w + at * hu, hu));
        if (s->relative)
            tile_product(strip.count, hu, s->keys - c, tile_rows(w->fwd.shift + at * lds + c, lds),
                         tile_from(w->rel + c * hu, hu), tile_to(w->dquery_r + at * hu, hu));
    }
    for (int64_t i = 0; i < q->count; i++) {
        float *to = cpu_f32(&p->dqkv) + (b * s->len + q->row[i]) * 3 * s->width + n * s->head;
        const float *dw = w->dquery_w + i * hu, *dr = w->dquery_r + i * hu;
        if (!s->relative) {
            head_put_row(to, dw, s->head, s->head);
            continue;
        }
        for (int64_t e = 0; e < s->head; e++)
            to[e] = dw[e] + dr[e];
        if (w->dr_w != NULL)
            add_row(w->dr_w + n * s->head, dw, s->head);
        if (w->dr_r != NULL)
            add_row(w->dr_r + n * s->head, dr, s->head);
    }
}

/* Propagates one block of queries. Gradients of keys before `keys_from` are not wanted. */
static void block_vjp(const struct attention_vjp *p, const struct head_shape *s,
                      const struct vjp_work *w, const struct query_block *q, int64_t keys_from,
                      struct head_fetch *next)
{
    const struct attention *f = &p->fwd;
    const struct query_strip block = query_strip_of(f, s, q, 0, QUERY_BLOCK);
    struct key_range wanted = block.keys;
    if (wanted.start < keys_from)
        wanted.start = keys_from;
    int64_t ld = s->keys_up, hu = s->head_up;
    head_products(f, s, &w->fwd, q, next);
    for (int64_t i = 0; i < q->count; i++) {
        int64_t row = q->b * s->len + q->row[i];
        weights_row(f, s, w, q, &block.keys, i);
        head_put_row(w->dout + i * hu, cpu_f32(&p->dout) + row * s->width + q->n * s->head, s->head,
                     hu);
    }
    add_to_keys(s, q, &wanted, f->mask.data != NULL ? w->weight : w->fwd.score, w->dout, w->dvalue);
    for (int64_t at = 0; at < q->count; at += TILE_ROWS) {
        struct query_strip strip = query_strip_of(f, s, q, at, TILE_ROWS);
        int64_t from = strip.keys.from;
        tile_product(strip.count, strip.keys.to - from, s->head, tile_rows(w->dout + at * hu, hu),
                     tile_from(w->value_t + from, ld), tile_to(w->weight + at * ld + from, ld));
    }
    for (int64_t i = 0; i < q->count; i++)
        dscore_row(p, s, w, q, block.column, i);
    query_gradient(p, s, w, q);
    add_to_keys(s, q, &wanted, w->fwd.score, w->fwd.query_w, w->dkey);
    if (w->drk != NULL)
        add_to_columns(s, q, block.column, w->fwd.shift, w->fwd.query_r, w->drel);
}

/* Writes the gradients of keys and values, and adds those of the positions. */
static void write_keys(const struct attention_vjp *p, const struct head_shape *s,
                       const struct vjp_work *w, int64_t b, int64_t n, int64_t keys_from)
{
    int64_t h = s->head, hu = s->head_up;
    for (int64_t j = keys_from; j < s->keys; j++) {
        float *row = j < s->mem ? cpu_f32(&p->dmem) + (b * s->mem + j) * 3 * s->width
                                : cpu_f32(&p->dqkv) + (b * s->len + j - s->mem) * 3 * s->width;
        row += n * h;
        if (j < s->mem)
            head_put_row(row, NULL, h, h);
        head_put_row(row + s->width, w->dkey + j * hu, h, h);
        head_put_row(row + 2 * s->width, w->dvalue + j * hu, h, h);
    }
    int64_t distances = p->fwd.rk.dim[0];
    for (int64_t c = 0; w->drk != NULL && c < s->keys; c++) {
        int64_t distance = s->keys - 1 - c;
        if (distance >= distances)
            continue;
        add_row(w->drk + distance * s->width + n * h, w->drel + c * hu, h);
    }
}

static void head_vjp(const struct attention_vjp *p, const struct head_shape *s,
                     const struct vjp_work *w, int64_t b, int64_t n)
{
    int64_t keys_from = p->dmem.data == NULL ? s->mem : 0;
    size_t row = (size_t)s->head_up * sizeof(float), before = (size_t)(keys_from * s->head_up);
    struct head_fetch next = {.p = &p->fwd,
                              .task = b * s->heads + n + 1,
                              .more = {cpu_f32(&p->fwd.out), cpu_f32(&p->dout)}};
    pack(&p->fwd, s, w, b, n);
    memset(w->dkey + before, 0, (size_t)(s->keys - keys_from) * row);
    memset(w->dvalue + before, 0, (size_t)(s->keys - keys_from) * row);
    if (w->drk != NULL)
        memset(w->drel, 0, (size_t)s->keys * row);
    for (int64_t first = 0; first < s->len; first += QUERY_BLOCK) {
        struct query_block q = query_block_of(s, b, n, first);
        block_vjp(p, s, w, &q, keys_from, &next);
    }
    write_keys(p, s, w, b, n, keys_from);
}

void head_add_shares(const struct tensor *total, const float *shares, size_t stride, int threads)
{
    if (total->data == NULL)
        return;
    for (int t = 0; t < threads; t++)
        for (int64_t i = 0; i < tensor_count(total); i++)
            cpu_f32(total)[i] += shares[(size_t)t * stride + (size_t)i];
}

void cpu_attention_vjp(struct backend *be, const struct attention_vjp *p)
{
    struct head_shape s = head_shape_of(&p->fwd);
    struct vjp_work none;
    size_t need = layout(&none, &s, NULL);
    size_t positions = s.relative ? (size_t)(p->fwd.rk.dim[0] * s.width) : 0;
    size_t width = (size_t)s.width, stride = positions + 2 * width;
    bool shared = p->drk.data != NULL || p->dr_w.data != NULL || p->dr_r.data != NULL;
    size_t share = shared ? stride * (size_t)be->threads : 0, packed = positions_count(&s, true);
    float *rel = cpu_scratch(be, packed + share + 1, true, OP_attention_vjp);
    float *shares = rel + packed;
    if (rel == NULL)
        return;
    positions_pack(be, &p->fwd, &s, true, rel);
    memset(shares, 0, share * sizeof *shares);
    int64_t tasks = s.batch * s.heads;
#pragma omp parallel num_threads(be->threads) if (cpu_worth(tasks * s.len * s.keys))
    {
        struct vjp_work w = {0};
        float *data = cpu_scratch(be, need, false, OP_attention_vjp);
        layout(&w, &s, data);
        if (shared) {
            float *mine = shares + stride * (size_t)omp_get_thread_num();
            w.drk = p->drk.data != NULL ? mine : NULL;
            w.dr_w = mine + positions;
            w.dr_r = mine + positions + width;
        }
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            w.fwd.rel_t = positions_columns(&s, true, rel, task % s.heads);
            w.rel = positions_rows(&s, rel, task % s.heads);
            if (data != NULL)
                head_vjp(p, &s, &w, task / s.heads, task % s.heads);
        }
    }
    if (!shared)
        return;
    head_add_shares(&p->drk, shares, stride, be->threads);
    head_add_shares(&p->dr_w, shares + positions, stride, be->threads);
    head_add_shares(&p->dr_r, shares + positions + width, stride, be->threads);
}
