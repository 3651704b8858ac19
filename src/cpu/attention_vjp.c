/* Relative attention, backward: scores are computed again from the saved log-sum-exp. */
#include "cpu/attention_impl.h"

#include <math.h>
#include <string.h>

/* Beyond what the forward pass needs. */
struct vjp_work {
    struct head_work fwd;
    float *key;                  /* [keys_up, head_up] */
    const float *rel;            /* borrows: [keys_up, head_up] rk by column */
    float *value_t;              /* [h, keys_up] */
    float *dout;                 /* [QUERY_BLOCK, head_up] */
    float *weight;               /* [QUERY_BLOCK, keys_up] a m */
    float *dquery_w, *dquery_r;  /* [QUERY_BLOCK, head_up] */
    float *dkey, *dvalue, *drel; /* [keys_up, head_up]: summed over the blocks */
    float *drk, *dr_w, *dr_r;    /* this thread's share: [R,D], [D], [D] */
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

/* The same operands as the forward pass, the other way round. */
static void pack(const struct attention *p, const struct head_shape *s, const struct vjp_work *w,
                 int64_t b, int64_t n)
{
    head_pack_keys(p, s, &w->fwd, b, n);
    for (int64_t first = 0; first < s->keys_up; first += VEC) {
        const float *row[VEC];
        for (int64_t j = 0; j < VEC; j++) {
            bool real = first + j < s->keys;
            row[j] = real ? head_row(p, s, b, n, 2, first + j) : NULL;
            head_put_row(w->key + (first + j) * s->head_up,
                         real ? head_row(p, s, b, n, 1, first + j) : NULL, s->head, s->head_up);
        }
        head_put_columns(w->value_t + first, s->keys_up, row, s->head);
    }
}

/* score <- a, and weight <- a m for row i of the block. */
static void weights_row(const struct attention *p, const struct head_shape *s,
                        const struct vjp_work *w, const struct query_block *q, int64_t i,
                        int64_t row)
{
    float *a = w->fwd.score + i * s->keys_up, *weight = w->weight + i * s->keys_up;
    float lse = cpu_f32(&p->lse)[row];
    struct key_range r = key_range_of(p, s, q->row[i]);
    vec_fill(a, 0, r.from, 0);
    vec_fill(a, r.to, q->reach_up, 0);
    vec_fill(weight, 0, r.from, 0);
    vec_fill(weight, r.to, q->reach_up, 0);
    for (int64_t j = r.from; j < r.to; j += VEC) {
        vec e = vec_exp(head_score(s, &w->fwd, q, &r, i, j) * s->scale - lse);
        vec_store(a + j, e);
        vec_store(weight + j, e);
    }
    if (p->mask.data == NULL)
        return;
    const uint8_t *mask = (const uint8_t *)p->mask.data + row * s->keys;
    float keep = (float)p->mask_scale;
    for (int64_t j = 0; j < q->reach; j++)
        weight[j] *= mask[j] != 0 ? keep : 0.0f;
}

/* score <- dscore * scale, with da already in `shift`: a m da - a delta, delta = dout . out. */
static void dscore_row(const struct attention *p, const struct head_shape *s,
                       const struct vjp_work *w, const struct query_block *q, int64_t b, int64_t n,
                       int64_t i)
{
    int64_t lds = s->keys_up + VEC;
    const float *out = cpu_f32(&p->out) + (b * s->len + q->first + i) * s->width + n * s->head;
    const float *dout = w->dout + i * s->head_up, *da = w->fwd.shift + i * lds;
    const float *weight = w->weight + i * s->keys_up;
    float *a = w->fwd.score + i * s->keys_up, delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t e = 0; e < s->head; e++)
        delta += dout[e] * out[e];
    for (int64_t j = 0; j < q->reach_up; j += VEC)
        vec_store(a + j,
                  (vec_load(weight + j) * vec_load(da + j) - vec_load(a + j) * delta) * s->scale);
}

void head_shift_row(const struct head_shape *s, const struct query_block *q, int64_t i,
                    const float *score, float *shift)
{
    float *to = shift + i * (s->keys_up + VEC);
    int64_t by = s->len - 1 - q->first - i, seen = s->mem + q->first + i + 1;
    memset(to, 0, (size_t)by * sizeof *to);
    memcpy(to + by, score + i * s->keys_up, (size_t)seen * sizeof *to);
    memset(to + by + seen, 0, (size_t)(s->keys_up - by - seen) * sizeof *to);
}

static void query_gradient(const struct attention_vjp *p, const struct head_shape *s,
                           const struct vjp_work *w, const struct query_block *q, int64_t b,
                           int64_t n)
{
    float *dqkv = cpu_f32(&p->dqkv);
    for (int64_t i = 0; i < q->count; i++) {
        float *to = dqkv + (b * s->len + q->first + i) * 3 * s->width + n * s->head;
        const float *dw = w->dquery_w + i * s->head_up, *dr = w->dquery_r + i * s->head_up;
        for (int64_t e = 0; e < s->head; e++)
            to[e] = dw[e] + dr[e];
        for (int64_t e = 0; w->dr_w != NULL && e < s->head; e++)
            w->dr_w[n * s->head + e] += dw[e];
        for (int64_t e = 0; w->dr_r != NULL && e < s->head; e++)
            w->dr_r[n * s->head + e] += dr[e];
    }
}

/* One block of queries. `keys_from`: gradients of keys before it are not wanted. */
static void block_vjp_cpu(const struct attention_vjp *p, const struct head_shape *s,
                          const struct vjp_work *w, const struct query_block *q, int64_t b,
                          int64_t n, int64_t keys_from)
{
    const struct attention *f = &p->fwd;
    int64_t ld = s->keys_up, lds = s->keys_up + VEC, hu = s->head_up;
    int64_t columns = s->keys - q->column;
    struct head_fetch next = {f, s->batch * s->heads, 0}; /* none */
    head_products(f, s, &w->fwd, q, b, n, &next);
    for (int64_t i = 0; i < q->count; i++) {
        int64_t row = q->first + i;
        weights_row(f, s, w, q, i, (b * s->heads + n) * s->len + row);
        head_put_row(w->dout + i * hu,
                     cpu_f32(&p->dout) + (b * s->len + row) * s->width + n * s->head, s->head, hu);
    }
    tile_product(q->count, q->reach_up, s->head, w->dout, hu, 1, w->value_t, ld, w->fwd.shift, lds,
                 false);
    if (q->reach > keys_from)
        tile_product(q->reach - keys_from, hu, q->count, w->weight + keys_from, 1, ld, w->dout, hu,
                     w->dvalue + keys_from * hu, hu, true);
    for (int64_t i = 0; i < q->count; i++) {
        dscore_row(f, s, w, q, b, n, i);
        head_shift_row(s, q, i, w->fwd.score, w->fwd.shift);
    }
    tile_product(q->count, hu, q->reach, w->fwd.score, ld, 1, w->key, hu, w->dquery_w, hu, false);
    tile_product(q->count, hu, columns, w->fwd.shift + q->column, lds, 1, w->rel + q->column * hu,
                 hu, w->dquery_r, hu, false);
    query_gradient(p, s, w, q, b, n);
    if (q->reach > keys_from)
        tile_product(q->reach - keys_from, hu, q->count, w->fwd.score + keys_from, 1, ld,
                     w->fwd.query_w, hu, w->dkey + keys_from * hu, hu, true);
    if (w->drk != NULL)
        tile_product(columns, hu, q->count, w->fwd.shift + q->column, 1, lds, w->fwd.query_r, hu,
                     w->drel + q->column * hu, hu, true);
}

/* Writes the gradients of keys and values, and adds those of the positions. */
static void write_keys(const struct attention_vjp *p, const struct head_shape *s,
                       const struct vjp_work *w, int64_t b, int64_t n, int64_t keys_from)
{
    size_t bytes = (size_t)s->head * sizeof(float);
    for (int64_t j = keys_from; j < s->keys; j++) {
        float *row = j < s->mem ? cpu_f32(&p->dmem) + (b * s->mem + j) * 3 * s->width
                                : cpu_f32(&p->dqkv) + (b * s->len + j - s->mem) * 3 * s->width;
        row += n * s->head;
        if (j < s->mem)
            memset(row, 0, bytes);
        memcpy(row + s->width, w->dkey + j * s->head_up, bytes);
        memcpy(row + 2 * s->width, w->dvalue + j * s->head_up, bytes);
    }
    int64_t distances = p->fwd.rk.dim[0];
    for (int64_t c = 0; w->drk != NULL && c < s->keys; c++) {
        int64_t distance = s->keys - 1 - c;
        if (distance >= distances)
            continue;
        float *to = w->drk + distance * s->width + n * s->head;
        const float *from = w->drel + c * s->head_up;
        for (int64_t e = 0; e < s->head; e++)
            to[e] += from[e];
    }
}

static void head_vjp(const struct attention_vjp *p, const struct head_shape *s,
                     const struct vjp_work *w, int64_t b, int64_t n)
{
    int64_t keys_from = p->dmem.data == NULL ? s->mem : 0;
    size_t bytes = (size_t)(s->keys_up * s->head_up) * sizeof(float);
    pack(&p->fwd, s, w, b, n);
    memset(w->dkey, 0, bytes);
    memset(w->dvalue, 0, bytes);
    if (w->drk != NULL)
        memset(w->drel, 0, bytes);
    for (int64_t first = 0; first < s->len; first += QUERY_BLOCK) {
        struct query_block q = query_block_of(s, first);
        block_vjp_cpu(p, s, w, &q, b, n, keys_from);
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
    size_t positions = (size_t)(p->fwd.rk.dim[0] * s.width), width = (size_t)s.width;
    size_t stride = positions + 2 * width;
    bool shared = p->drk.data != NULL || p->dr_w.data != NULL || p->dr_r.data != NULL;
    size_t share = shared ? stride * (size_t)be->threads : 0, packed = positions_count(&s, true);
    float *rel = cpu_scratch(be, packed + share, true, OP_attention_vjp), *shares = rel + packed;
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
