/* Derivatives of relative attention and of its vjp along a direction of the queries, keys and
 * values, in the blocks of attention_impl.h. A name ending in _t is the derivative of what the name
 * without it stands for (struct attention_tangent in ops/attention.h). */
#include "backend/cpu/attention_impl.h"

#include <math.h>
#include <string.h>

struct tangent_work {
    struct head_work fwd;              /* packed operands, with score, shift and out for use */
    float *key;                        /* [keys_up, head_up] */
    const float *rel;                  /* borrowed, [keys_up, head_up] rk by column */
    float *value_c;                    /* [h, keys_up] values by column */
    float *key_tc, *value_tc;          /* [h, keys_up] k_t and v_t by column, 0 for the memory */
    float *key_t, *value_t;            /* [keys_up, head_up] */
    float *query_t, *dout, *dout_t;    /* [QUERY_BLOCK, head_up] */
    float *score_t;                    /* [QUERY_BLOCK, keys_up] */
    float *weight, *weight_t;          /* [QUERY_BLOCK, keys_up] a m and its derivative */
    float *da, *da_t;                  /* [QUERY_BLOCK, keys_up] */
    float *shift_t;                    /* [QUERY_BLOCK, keys_up + VEC] */
    float *dq, *dq_w_t, *dq_r_t;       /* [QUERY_BLOCK, head_up] */
    float *dkey, *dvalue;              /* [keys_up, head_up], like the four below summed */
    float *dkey_t, *dvalue_t, *drel_t; /* over the blocks */
    float *drk_t, *dr_w_t, *dr_r_t;    /* this thread's share of [R,D], [D], [D] */
};

enum { SUMMED = 5 }; /* dkey .. drel_t, one behind the other */

static size_t layout(struct tangent_work *w, const struct head_shape *s, float *data)
{
    size_t at = head_work_layout(&w->fwd, s, data);
    int64_t rows = s->keys_up * s->head_up, columns = s->head * s->keys_up;
    int64_t queries = QUERY_BLOCK * s->head_up, scores = QUERY_BLOCK * s->keys_up;
    const struct {
        float **to;
        int64_t count;
    } parts[] = {{&w->key, rows},
                 {&w->value_c, columns},
                 {&w->key_tc, columns},
                 {&w->value_tc, columns},
                 {&w->key_t, rows},
                 {&w->value_t, rows},
                 {&w->query_t, queries},
                 {&w->dout, queries},
                 {&w->dout_t, queries},
                 {&w->score_t, scores},
                 {&w->weight, scores},
                 {&w->weight_t, scores},
                 {&w->da, scores},
                 {&w->da_t, scores},
                 {&w->dq, queries},
                 {&w->dq_w_t, queries},
                 {&w->dq_r_t, queries},
                 {&w->dkey, rows},
                 {&w->dvalue, rows},
                 {&w->dkey_t, rows},
                 {&w->dvalue_t, rows},
                 {&w->drel_t, rows},
                 {&w->shift_t, QUERY_BLOCK * (s->keys_up + VEC)}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = data + at;
        at += (size_t)parts[i].count;
    }
    return at;
}

/* Returns part 0..2 of row `i` of sequence b in a [B,L,3D] tensor. */
static float *row_of(const struct tensor *t, const struct head_shape *s, int64_t b, int64_t n,
                     int part, int64_t i)
{
    return cpu_f32(t) + (b * s->len + i) * 3 * s->width + part * s->width + n * s->head;
}

static void pack(const struct attention_tangent *p, const struct head_shape *s,
                 const struct tangent_work *w, int64_t b, int64_t n)
{
    const struct attention *f = &p->fwd;
    int64_t hu = s->head_up, ld = s->keys_up;
    head_pack_keys(f, s, &w->fwd, b, n);
    head_pack_values(f, s, &w->fwd, b, n);
    for (int64_t first = 0; first < s->keys_up; first += VEC) {
        const float *value[VEC], *key_t[VEC], *value_t[VEC];
        for (int64_t i = 0; i < VEC; i++) {
            int64_t j = first + i;
            bool real = j < s->keys, moves = real && j >= s->mem;
            value[i] = real ? head_row(f, s, b, n, 2, j) : NULL;
            key_t[i] = moves ? row_of(&p->qkv_t, s, b, n, 1, j - s->mem) : NULL;
            value_t[i] = moves ? row_of(&p->qkv_t, s, b, n, 2, j - s->mem) : NULL;
            head_put_row(w->key + j * hu, real ? head_row(f, s, b, n, 1, j) : NULL, s->head, hu);
            head_put_row(w->key_t + j * hu, key_t[i], s->head, hu);
            head_put_row(w->value_t + j * hu, value_t[i], s->head, hu);
        }
        head_put_columns(w->value_c + first, ld, value, s->head);
        head_put_columns(w->key_tc + first, ld, key_t, s->head);
        head_put_columns(w->value_tc + first, ld, value_t, s->head);
    }
}

/* Writes zero where query `row` may not look, so that nothing of the future reaches it, NaN
 * included. */
static void clear_unseen(const struct attention *f, const struct head_shape *s,
                         const struct query_block *q, int64_t row, float *x)
{
    int64_t end = s->mem + row + 1, start = f->span > 0 && end > f->span ? end - f->span : 0;
    memset(x, 0, (size_t)start * sizeof *x);
    memset(x + end, 0, (size_t)(q->reach_up - end) * sizeof *x);
}

/* Writes a to score and a_t to score_t for row i, and both under the mask. */
static void weights_row(const struct attention *f, const struct head_shape *s,
                        const struct tangent_work *w, const struct query_block *q, int64_t i,
                        int64_t index)
{
    int64_t ld = s->keys_up, row = q->first + i;
    float *a = w->fwd.score + i * ld, *a_t = w->score_t + i * ld;
    float *weight = w->weight + i * ld, *weight_t = w->weight_t + i * ld;
    const float *shift = w->shift_t + i * (ld + VEC) + s->len - 1 - row;
    float lse = cpu_f32(&f->lse)[index];
    struct key_range r = key_range_of(f, s, row);
    vec mean = vec_set(0);
    for (int64_t j = 0; j < q->reach_up; j += VEC)
        vec_store(a_t + j, (vec_load(a_t + j) + (s->relative ? vec_load(shift + j) : vec_set(0))) *
                               s->scale);
    clear_unseen(f, s, q, row, a_t);
    vec_fill(a, 0, r.from, 0);
    vec_fill(a, r.to, q->reach_up, 0);
    for (int64_t j = r.from; j < r.to; j += VEC) {
        vec e = vec_exp(head_score(s, &w->fwd, q, &r, i, j) * s->scale - lse);
        vec_store(a + j, e);
        mean += e * vec_load(a_t + j);
    }
    float along = vec_sum(mean);
    for (int64_t j = 0; j < q->reach_up; j += VEC) {
        vec e = vec_load(a + j), e_t = e * (vec_load(a_t + j) - along);
        vec_store(a_t + j, e_t);
        vec_store(weight + j, e);
        vec_store(weight_t + j, e_t);
    }
    if (f->mask.data == NULL)
        return;
    const uint8_t *mask = (const uint8_t *)f->mask.data + index * s->keys;
    for (int64_t j = 0; j < q->reach; j++) {
        float keep = mask[j] != 0 ? (float)f->mask_scale : 0.0f;
        weight[j] *= keep;
        weight_t[j] *= keep;
    }
}

/* Computes the scores, their derivatives and the weights, then the derivative of the output. */
static void block_forward(const struct attention_tangent *p, const struct head_shape *s,
                          const struct tangent_work *w, const struct query_block *q, int64_t b,
                          int64_t n)
{
    const struct attention *f = &p->fwd;
    int64_t ld = s->keys_up, lds = ld + VEC, hu = s->head_up, columns = ld - q->column;
    struct head_fetch next = {.p = f, .task = s->batch * s->heads}; /* none */
    head_products(f, s, &w->fwd, q, &next);
    for (int64_t i = 0; i < q->count; i++)
        head_put_row(w->query_t + i * hu, row_of(&p->qkv_t, s, b, n, 0, q->first + i), s->head, hu);
    tile_product(q->count, q->reach_up, s->head, tile_rows(w->query_t, hu),
                 tile_from(w->fwd.key_t, ld), tile_to(w->score_t, ld));
    tile_add(q->count, q->reach_up, s->head, tile_rows(w->fwd.query_w, hu),
             tile_from(w->key_tc, ld), tile_to(w->score_t, ld));
    if (s->relative)
        tile_product(q->count, columns, s->head, tile_rows(w->query_t, hu),
                     tile_from(w->fwd.rel_t + q->column, ld), tile_to(w->shift_t + q->column, lds));
    for (int64_t i = 0; i < q->count; i++)
        weights_row(f, s, w, q, i, (b * s->heads + n) * s->len + q->first + i);
    if (p->out_t.data == NULL)
        return;
    tile_product(q->count, hu, q->reach, tile_rows(w->weight_t, ld), tile_from(w->fwd.value, hu),
                 tile_to(w->fwd.out, hu));
    tile_add(q->count, hu, q->reach, tile_rows(w->weight, ld), tile_from(w->value_t, hu),
             tile_to(w->fwd.out, hu));
    for (int64_t i = 0; i < q->count; i++)
        memcpy(cpu_f32(&p->out_t) + (b * s->len + q->first + i) * s->width + n * s->head,
               w->fwd.out + i * hu, (size_t)s->head * sizeof(float));
}

/* Writes row i of a block's scores [QUERY_BLOCK, keys_up] by column into row i of `shift`, moved by
 * L-1-row. The rest of that row becomes zero. */
static void shift_row(const struct head_shape *s, const struct query_block *q, int64_t i,
                      const float *score, float *shift)
{
    float *to = shift + i * (s->keys_up + VEC);
    int64_t by = s->len - 1 - q->first - i, seen = s->mem + q->first + i + 1;
    memset(to, 0, (size_t)by * sizeof *to);
    memcpy(to + by, score + i * s->keys_up, (size_t)seen * sizeof *to);
    memset(to + by + seen, 0, (size_t)(s->keys_up - by - seen) * sizeof *to);
}

/* Writes the gradient of the scaled score to score and its derivative to score_t for row i, and
 * both shifted. */
static void dscore_row(const struct attention *f, const struct head_shape *s,
                       const struct tangent_work *w, const struct query_block *q, int64_t i)
{
    int64_t ld = s->keys_up;
    float *a = w->fwd.score + i * ld, *a_t = w->score_t + i * ld;
    float *da = w->da + i * ld, *da_t = w->da_t + i * ld;
    const float *weight = w->weight + i * ld, *weight_t = w->weight_t + i * ld;
    vec sum = vec_set(0), sum_t = vec_set(0);
    clear_unseen(f, s, q, q->first + i, da);
    clear_unseen(f, s, q, q->first + i, da_t);
    for (int64_t j = 0; j < q->reach_up; j += VEC) {
        vec d = vec_load(da + j);
        sum += vec_load(weight + j) * d;
        sum_t += vec_load(weight_t + j) * d + vec_load(weight + j) * vec_load(da_t + j);
    }
    float delta = vec_sum(sum), delta_t = vec_sum(sum_t);
    for (int64_t j = 0; j < q->reach_up; j += VEC) {
        vec m = vec_load(weight + j), m_t = vec_load(weight_t + j), d = vec_load(da + j);
        vec x = vec_load(a + j), x_t = vec_load(a_t + j);
        vec_store(a_t + j,
                  (m_t * d + m * vec_load(da_t + j) - x_t * delta - x * delta_t) * s->scale);
        vec_store(a + j, (m * d - x * delta) * s->scale);
    }
    if (!s->relative)
        return;
    shift_row(s, q, i, w->fwd.score, w->fwd.shift);
    shift_row(s, q, i, w->score_t, w->shift_t);
}

static void write_queries(const struct attention_tangent *p, const struct head_shape *s,
                          const struct tangent_work *w, const struct query_block *q, int64_t b,
                          int64_t n)
{
    for (int64_t i = 0; i < q->count; i++) {
        const float *dq_w_t = w->dq_w_t + i * s->head_up, *dq_r_t = w->dq_r_t + i * s->head_up;
        float *to = row_of(&p->dqkv, s, b, n, 0, q->first + i);
        float *to_t = row_of(&p->dqkv_t, s, b, n, 0, q->first + i);
        memcpy(to, w->dq + i * s->head_up, (size_t)s->head * sizeof *to);
        if (!s->relative) {
            memcpy(to_t, dq_w_t, (size_t)s->head * sizeof *to_t);
            continue;
        }
        for (int64_t e = 0; e < s->head; e++) {
            to_t[e] = dq_w_t[e] + dq_r_t[e];
            w->dr_w_t[n * s->head + e] += dq_w_t[e];
            w->dr_r_t[n * s->head + e] += dq_r_t[e];
        }
    }
}

static void block_backward(const struct attention_tangent *p, const struct head_shape *s,
                           const struct tangent_work *w, const struct query_block *q, int64_t b,
                           int64_t n)
{
    int64_t ld = s->keys_up, lds = ld + VEC, hu = s->head_up, c = q->column;
    int64_t columns = s->keys - c, count = q->count, reach = q->reach;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = (b * s->len + q->first + i) * s->width + n * s->head;
        head_put_row(w->dout + i * hu, cpu_f32(&p->dout) + at, s->head, hu);
        head_put_row(w->dout_t + i * hu, cpu_f32(&p->dout_t) + at, s->head, hu);
    }
    tile_product(count, q->reach_up, s->head, tile_rows(w->dout, hu), tile_from(w->value_c, ld),
                 tile_to(w->da, ld));
    tile_product(count, q->reach_up, s->head, tile_rows(w->dout_t, hu), tile_from(w->value_c, ld),
                 tile_to(w->da_t, ld));
    tile_add(count, q->reach_up, s->head, tile_rows(w->dout, hu), tile_from(w->value_tc, ld),
             tile_to(w->da_t, ld));
    tile_add(reach, hu, count, tile_transposed(w->weight, ld), tile_from(w->dout, hu),
             tile_to(w->dvalue, hu));
    tile_add(reach, hu, count, tile_transposed(w->weight_t, ld), tile_from(w->dout, hu),
             tile_to(w->dvalue_t, hu));
    tile_add(reach, hu, count, tile_transposed(w->weight, ld), tile_from(w->dout_t, hu),
             tile_to(w->dvalue_t, hu));
    for (int64_t i = 0; i < count; i++)
        dscore_row(&p->fwd, s, w, q, i);
    const float *d = w->fwd.score, *d_t = w->score_t, *sd = w->fwd.shift + c,
                *sd_t = w->shift_t + c;
    tile_product(count, hu, reach, tile_rows(d, ld), tile_from(w->key, hu), tile_to(w->dq, hu));
    if (s->relative)
        tile_add(count, hu, columns, tile_rows(sd, lds), tile_from(w->rel + c * hu, hu),
                 tile_to(w->dq, hu));
    tile_product(count, hu, reach, tile_rows(d_t, ld), tile_from(w->key, hu),
                 tile_to(w->dq_w_t, hu));
    tile_add(count, hu, reach, tile_rows(d, ld), tile_from(w->key_t, hu), tile_to(w->dq_w_t, hu));
    if (s->relative)
        tile_product(count, hu, columns, tile_rows(sd_t, lds), tile_from(w->rel + c * hu, hu),
                     tile_to(w->dq_r_t, hu));
    write_queries(p, s, w, q, b, n);
    tile_add(reach, hu, count, tile_transposed(d, ld), tile_from(w->fwd.query_w, hu),
             tile_to(w->dkey, hu));
    tile_add(reach, hu, count, tile_transposed(d_t, ld), tile_from(w->fwd.query_w, hu),
             tile_to(w->dkey_t, hu));
    tile_add(reach, hu, count, tile_transposed(d, ld), tile_from(w->query_t, hu),
             tile_to(w->dkey_t, hu));
    if (!s->relative)
        return;
    tile_add(columns, hu, count, tile_transposed(sd_t, lds), tile_from(w->fwd.query_r, hu),
             tile_to(w->drel_t + c * hu, hu));
    tile_add(columns, hu, count, tile_transposed(sd, lds), tile_from(w->query_t, hu),
             tile_to(w->drel_t + c * hu, hu));
}

static void write_keys(const struct attention_tangent *p, const struct head_shape *s,
                       const struct tangent_work *w, int64_t b, int64_t n)
{
    size_t bytes = (size_t)s->head * sizeof(float);
    int64_t distances = p->fwd.rk.dim[0];
    for (int64_t j = 0; j < s->keys; j++) {
        const float *dkey_t = w->dkey_t + j * s->head_up, *dvalue_t = w->dvalue_t + j * s->head_up;
        if (j < s->mem && p->dmem_t.data == NULL)
            continue;
        if (j < s->mem) {
            float *to = cpu_f32(&p->dmem_t) + (b * s->mem + j) * 3 * s->width + n * s->head;
            memset(to, 0, bytes);
            memcpy(to + s->width, dkey_t, bytes);
            memcpy(to + 2 * s->width, dvalue_t, bytes);
            continue;
        }
        memcpy(row_of(&p->dqkv, s, b, n, 1, j - s->mem), w->dkey + j * s->head_up, bytes);
        memcpy(row_of(&p->dqkv, s, b, n, 2, j - s->mem), w->dvalue + j * s->head_up, bytes);
        memcpy(row_of(&p->dqkv_t, s, b, n, 1, j - s->mem), dkey_t, bytes);
        memcpy(row_of(&p->dqkv_t, s, b, n, 2, j - s->mem), dvalue_t, bytes);
    }
    for (int64_t c = 0; s->relative && c < s->keys; c++) {
        int64_t distance = s->keys - 1 - c;
        if (distance >= distances)
            continue;
        float *to = w->drk_t + distance * s->width + n * s->head;
        for (int64_t e = 0; e < s->head; e++)
            to[e] += w->drel_t[c * s->head_up + e];
    }
}

static void head_tangent(const struct attention_tangent *p, const struct head_shape *s,
                         const struct tangent_work *w, int64_t b, int64_t n)
{
    pack(p, s, w, b, n);
    memset(w->dkey, 0, (size_t)(SUMMED * s->keys_up * s->head_up) * sizeof(float));
    for (int64_t first = 0; first < s->len; first += QUERY_BLOCK) {
        struct query_block q = query_block_of(s, b, n, first);
        block_forward(p, s, w, &q, b, n);
        if (p->dout.data != NULL)
            block_backward(p, s, w, &q, b, n);
    }
    if (p->dout.data != NULL)
        write_keys(p, s, w, b, n);
}

void cpu_attention_tangent(struct backend *be, const struct attention_tangent *p)
{
    struct head_shape s = head_shape_of(&p->fwd);
    struct tangent_work none;
    size_t need = layout(&none, &s, NULL), width = (size_t)s.width;
    size_t positions = s.relative ? (size_t)(p->fwd.rk.dim[0] * s.width) : 0;
    size_t stride = positions + 2 * width;
    size_t packed = positions_count(&s, true);
    float *rel = cpu_scratch(be, packed + stride * (size_t)be->threads, true, OP_attention_tangent);
    float *shares = rel + packed;
    if (rel == NULL)
        return;
    positions_pack(be, &p->fwd, &s, true, rel);
    memset(shares, 0, stride * (size_t)be->threads * sizeof *shares);
    int64_t tasks = s.batch * s.heads;
#pragma omp parallel num_threads(be->threads) if (cpu_worth(tasks * s.len * s.keys))
    {
        struct tangent_work w = {0};
        float *data = cpu_scratch(be, need, false, OP_attention_tangent);
        layout(&w, &s, data);
        w.drk_t = shares + stride * (size_t)omp_get_thread_num();
        w.dr_w_t = w.drk_t + positions;
        w.dr_r_t = w.dr_w_t + width;
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            w.fwd.rel_t = positions_columns(&s, true, rel, task % s.heads);
            w.rel = positions_rows(&s, rel, task % s.heads);
            if (data != NULL)
                head_tangent(p, &s, &w, task / s.heads, task % s.heads);
        }
    }
    if (p->dout.data == NULL)
        return;
    head_add_shares(&p->drk_t, shares, stride, be->threads);
    head_add_shares(&p->dr_w_t, shares + positions, stride, be->threads);
    head_add_shares(&p->dr_r_t, shares + positions + width, stride, be->threads);
}
