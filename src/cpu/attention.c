/* Relative attention, forward. */
#include "cpu/attention_impl.h"

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
    s.keys_up = tile_round(s.keys);
    s.head_up = tile_round(s.head);
    s.scale = 1.0f / sqrtf((float)s.head);
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

/* What follows from the positions. */
static void measure_block(const struct head_shape *s, struct query_block *q)
{
    int64_t last = q->row[q->count - 1];
    q->first = q->row[0];
    q->reach = s->mem + last + 1;
    q->reach_up = tile_round(q->reach);
    q->column = (s->len - 1 - last) / VEC * VEC;
}

struct query_block query_block_of(const struct head_shape *s, int64_t first)
{
    struct query_block q;
    q.count = s->len - first < QUERY_BLOCK ? s->len - first : QUERY_BLOCK;
    for (int64_t i = 0; i < q.count; i++)
        q.row[i] = first + i;
    measure_block(s, &q);
    return q;
}

/* Of listed queries of sequence b, which begins at row b * L: the first of `left` ones. */
static struct query_block listed_block(const struct head_shape *s, const int32_t *rows,
                                       int64_t left, int64_t b)
{
    struct query_block q;
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
    return (size_t)(s->keys_up * (s->head + (rows ? s->head_up : 0)));
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

void head_pack(const struct attention *p, const struct head_shape *s, const struct head_work *w,
               int64_t b, int64_t n)
{
    for (int64_t first = 0; first < s->keys_up; first += VEC) {
        const float *row[VEC];
        for (int64_t j = 0; j < VEC; j++)
            row[j] = first + j < s->keys ? head_row(p, s, b, n, 1, first + j) : NULL;
        head_put_columns(w->key_t + first, s->keys_up, row, s->head);
    }
    for (int64_t j = 0; j < s->keys; j++)
        head_put_row(w->value + j * s->head_up, head_row(p, s, b, n, 2, j), s->head, s->head_up);
}

/* Queries of the block with the two biases added. */
static void pack_queries(const struct attention *p, const struct head_shape *s,
                         const struct head_work *w, const struct query_block *q, int64_t b,
                         int64_t n)
{
    const float *r_w = cpu_f32(&p->r_w) + n * s->head, *r_r = cpu_f32(&p->r_r) + n * s->head;
    for (int64_t i = 0; i < q->count; i++) {
        const float *query = head_row(p, s, b, n, 0, s->mem + q->row[i]);
        float *to_w = w->query_w + i * s->head_up, *to_r = w->query_r + i * s->head_up;
        for (int64_t e = 0; e < s->head_up; e++) {
            to_w[e] = e < s->head ? query[e] + r_w[e] : 0;
            to_r[e] = e < s->head ? query[e] + r_r[e] : 0;
        }
    }
}

void head_scores(const struct attention *p, const struct head_shape *s, const struct head_work *w,
                 const struct query_block *q, int64_t b, int64_t n)
{
    int64_t ld = s->keys_up, lds = s->keys_up + VEC;
    pack_queries(p, s, w, q, b, n);
    tile_product(q->count, q->reach_up, s->head, w->query_w, s->head_up, 1, w->key_t, ld, w->score,
                 ld, false);
    tile_product(q->count, ld - q->column, s->head, w->query_r, s->head_up, 1, w->rel_t + q->column,
                 ld, w->shift + q->column, lds, false);
    for (int64_t i = 0; i < q->count; i++) {
        int64_t row = q->row[i], end = s->mem + row + 1;
        float *score = w->score + i * ld;
        const float *shift = w->shift + i * lds + s->len - 1 - row;
        for (int64_t j = 0; j < q->reach_up; j += VEC)
            vec_store(score + j, (vec_load(score + j) + vec_load(shift + j)) * s->scale);
        for (int64_t j = end; j < q->reach_up; j++)
            score[j] = -INFINITY;
        for (int64_t j = 0; p->span > 0 && j < end - p->span; j++)
            score[j] = -INFINITY;
    }
}

float softmax_row(float *score, int64_t count)
{
    vec max = vec_set(-INFINITY), sum = vec_set(0);
    for (int64_t j = 0; j < count; j += VEC)
        max = vec_max(max, vec_load(score + j));
    float top = vec_max_of(max);
    for (int64_t j = 0; j < count; j += VEC) {
        vec e = vec_exp(vec_load(score + j) - top);
        vec_store(score + j, e);
        sum += e;
    }
    float total = vec_sum(sum), inverse = 1.0f / total;
    for (int64_t j = 0; j < count; j += VEC)
        vec_store(score + j, vec_load(score + j) * inverse);
    return top + logf(total);
}

static void apply_mask(const struct attention *p, const struct head_shape *s, float *score,
                       int64_t row, int64_t count)
{
    const uint8_t *mask = (const uint8_t *)p->mask.data + row * s->keys;
    float keep = (float)p->mask_scale;
    for (int64_t j = 0; j < count; j++)
        score[j] *= mask[j] != 0 ? keep : 0.0f;
}

static void attend_block(const struct attention *p, const struct head_shape *s,
                         const struct head_work *w, const struct query_block *q, int64_t b,
                         int64_t n)
{
    head_scores(p, s, w, q, b, n);
    for (int64_t i = 0; i < q->count; i++) {
        int64_t row = (b * s->heads + n) * s->len + q->row[i];
        float lse = softmax_row(w->score + i * s->keys_up, q->reach_up);
        if (p->lse.data != NULL)
            cpu_f32(&p->lse)[row] = lse;
        if (p->mask.data != NULL)
            apply_mask(p, s, w->score + i * s->keys_up, row, q->reach);
    }
    tile_product(q->count, s->head_up, q->reach, w->score, s->keys_up, 1, w->value, s->head_up,
                 w->out, s->head_up, false);
    for (int64_t i = 0; i < q->count; i++)
        memcpy(cpu_f32(&p->out) + (b * s->len + q->row[i]) * s->width + n * s->head,
               w->out + i * s->head_up, (size_t)s->head * sizeof(float));
}

/* The listed queries of sequence b: *rows points at the first; returns how many. */
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
    if (p->rows.data == NULL) {
        head_pack(p, s, w, b, n);
        for (int64_t first = 0; first < s->len; first += QUERY_BLOCK) {
            struct query_block q = query_block_of(s, first);
            attend_block(p, s, w, &q, b, n);
        }
        return;
    }
    int64_t count = listed_of(p, s, b, &rows);
    if (count > 0)
        head_pack(p, s, w, b, n);
    for (int64_t done = 0; done < count; done += QUERY_BLOCK) {
        struct query_block q = listed_block(s, rows + done, count - done, b);
        attend_block(p, s, w, &q, b, n);
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
    float *positions = cpu_scratch(be, positions_count(&s, false), true, OP_attention);
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
