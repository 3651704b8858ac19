/* Relative attention for a few queries, as in decoding. Keys and values are read where they lie.
 * Packing them pays when many queries share it, and would cost several times the products here. */
#include "backend/cpu/attention_impl.h"

#include <math.h>

/* Keys whose products are summed together, so that the sums' latencies overlap. */
enum { GROUP = 4 };

/* One query of one head, in the thread's scratch. */
struct few_query {
    int64_t b, n, row;        /* sequence, head and position */
    float *query_w, *query_r; /* [head_up] q + r_w and q + r_r, padded with 0 */
    float *score;             /* [keys_up], of keys first .. first + count - 1 */
    float *out;               /* [head_up] */
    int64_t first, count;     /* keys the query sees */
};

static size_t few_layout(struct few_query *q, const struct head_shape *s, float *data)
{
    *q = (struct few_query){.query_w = data,
                            .query_r = data + s->head_up,
                            .out = data + 2 * s->head_up,
                            .score = data + 3 * s->head_up};
    return (size_t)(3 * s->head_up + s->keys_up);
}

/* Computes q_w . k + q_r . r for `keys` keys, whose rows lie key_step and rel_step numbers apart.
 * Without rel, which is known where this is called, it is q_w . k. */
static inline __attribute__((always_inline)) void scores(int keys, const struct head_shape *s,
                                                         const struct few_query *q,
                                                         const float *key, const float *rel,
                                                         float *to)
{
    int64_t head = s->head, key_step = 3 * s->width, rel_step = -s->width;
    vec acc[GROUP];
    int64_t e = 0;
    for (int j = 0; j < keys; j++)
        acc[j] = vec_set(0);
    for (; e + VEC <= head; e += VEC) {
        vec w = vec_load(q->query_w + e), r = vec_load(q->query_r + e);
#pragma GCC unroll 4
        for (int j = 0; j < keys; j++) {
            acc[j] += w * vec_load(key + j * key_step + e);
            if (rel != NULL)
                acc[j] += r * vec_load(rel + j * rel_step + e);
        }
    }
    for (int j = 0; j < keys; j++) {
        float sum = vec_sum(acc[j]);
        for (int64_t tail = e; tail < head; tail++)
            sum += q->query_w[tail] * key[j * key_step + tail] +
                   (rel != NULL ? q->query_r[tail] * rel[j * rel_step + tail] : 0);
        to[j] = sum;
    }
}

/* Computes the scores of keys [from, to) without positions. */
static void plain_run(const struct attention *p, const struct head_shape *s, struct few_query *q,
                      int64_t from, int64_t to)
{
    int64_t j = from;
    for (; j + GROUP <= to; j += GROUP)
        scores(GROUP, s, q, head_row(p, s, q->b, q->n, 1, j), NULL, q->score + (j - q->first));
    for (; j < to; j++)
        scores(1, s, q, head_row(p, s, q->b, q->n, 1, j), NULL, q->score + (j - q->first));
}

/* Computes the scores of keys [from, to), which are all in the memory or all in the segment. */
static void score_run(const struct attention *p, const struct head_shape *s, struct few_query *q,
                      int64_t from, int64_t to)
{
    if (!s->relative) {
        plain_run(p, s, q, from, to);
        return;
    }
    for (int64_t j = from; j < to;) {
        const float *key = head_row(p, s, q->b, q->n, 1, j);
        const float *rel = cpu_f32(&p->rk) + (s->mem + q->row - j) * s->width + q->n * s->head;
        float *score = q->score + (j - q->first);
        if (j + GROUP <= to) {
            scores(GROUP, s, q, key, rel, score);
            j += GROUP;
        } else {
            scores(1, s, q, key, rel, score);
            j++;
        }
    }
}

/* Adds sum_j weight_j value_j over `keys` keys to out. */
static inline __attribute__((always_inline)) void add_values(int keys, const struct head_shape *s,
                                                             const float *value,
                                                             const float *weight, float *out)
{
    int64_t step = 3 * s->width, e = 0;
    for (; e + VEC <= s->head; e += VEC) {
        vec sum[GROUP];
        for (int j = 0; j < keys; j++)
            sum[j] = weight[j] * vec_load(value + j * step + e);
        for (int j = 1; j < keys; j++)
            sum[0] += sum[j];
        vec_store(out + e, vec_load(out + e) + sum[0]);
    }
    for (; e < s->head; e++)
        for (int j = 0; j < keys; j++)
            out[e] += weight[j] * value[j * step + e];
}

static void value_run(const struct attention *p, const struct head_shape *s,
                      const struct few_query *q, int64_t from, int64_t to)
{
    for (int64_t j = from; j < to;) {
        const float *value = head_row(p, s, q->b, q->n, 2, j), *weight = q->score + (j - q->first);
        if (j + GROUP <= to) {
            add_values(GROUP, s, value, weight, q->out);
            j += GROUP;
        } else {
            add_values(1, s, value, weight, q->out);
            j++;
        }
    }
}

/* Replaces score[count] by its softmax. count is a multiple of VEC. Returns the log of the sum of
 * exponentials. */
static float softmax_row(float *score, int64_t count)
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

static void attend_one(const struct attention *p, const struct head_shape *s, struct few_query *q)
{
    int64_t b = q->b, n = q->n, row = q->row, end = s->mem + row + 1, padded;
    const float *query = head_row(p, s, b, n, 0, s->mem + row);
    const float *r_w = s->relative ? cpu_f32(&p->r_w) + n * s->head : NULL;
    const float *r_r = s->relative ? cpu_f32(&p->r_r) + n * s->head : NULL;
    q->first = p->span > 0 && end > p->span ? end - p->span : 0;
    q->count = end - q->first;
    for (int64_t e = 0; e < s->head; e++) {
        q->query_w[e] = (query[e] + (r_w != NULL ? r_w[e] : 0)) * s->scale;
        q->query_r[e] = (query[e] + (r_r != NULL ? r_r[e] : 0)) * s->scale;
        q->out[e] = 0;
    }
    int64_t border = s->mem > q->first ? s->mem : q->first;
    score_run(p, s, q, q->first, border);
    score_run(p, s, q, border, end);
    padded = tile_round(q->count);
    for (int64_t j = q->count; j < padded; j++)
        q->score[j] = -INFINITY;
    float lse = softmax_row(q->score, padded);
    int64_t index = (b * s->heads + n) * s->len + row;
    if (p->lse.data != NULL)
        cpu_f32(&p->lse)[index] = lse;
    if (p->mask.data != NULL) {
        const uint8_t *mask = (const uint8_t *)p->mask.data + index * s->keys + q->first;
        for (int64_t j = 0; j < q->count; j++)
            q->score[j] *= mask[j] != 0 ? (float)p->mask_scale : 0.0f;
    }
    value_run(p, s, q, q->first, border);
    value_run(p, s, q, border, end);
    float *out = cpu_f32(&p->out) + (b * s->len + row) * s->width + n * s->head;
    for (int64_t e = 0; e < s->head; e++)
        out[e] = q->out[e];
}

void attention_few(struct backend *be, const struct attention *p, const struct head_shape *s)
{
    struct few_query none;
    size_t need = few_layout(&none, s, NULL);
    const int32_t *list = cpu_i32(&p->rows);
    int64_t rows = list != NULL ? p->rows.dim[0] : s->batch * s->len, tasks = rows * s->heads;
#pragma omp parallel num_threads(be->threads) if (cpu_worth(tasks * s->keys * s->head))
    {
        struct few_query q;
        float *data = cpu_scratch(be, need, false, OP_attention);
        few_layout(&q, s, data);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t at = task / s->heads, row = list != NULL ? list[at] : at;
            q.b = row / s->len, q.n = task % s->heads, q.row = row % s->len;
            if (data != NULL)
                attend_one(p, s, &q);
        }
    }
}
