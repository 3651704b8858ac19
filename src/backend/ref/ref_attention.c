/* Relative attention, score by score. */
#include "backend/ref/ref_ops.h"

#include <math.h>
#include <string.h>

/* The sizes of one call. */
struct shape {
    int64_t batch, len, mem, keys, width, heads, head; /* B, L, P, K, D, H, h */
    double scale;                                      /* 1 / sqrt(h) */
};

static struct shape shape_of(const struct attention *p)
{
    struct shape s;
    s.batch = p->qkv.dim[0];
    s.len = p->qkv.dim[1];
    s.mem = p->mem.data == NULL ? 0 : p->mem.dim[1];
    s.keys = s.mem + s.len;
    s.width = p->qkv.dim[2] / 3;
    s.heads = p->heads;
    s.head = s.width / s.heads;
    s.scale = 1 / sqrt((double)s.head);
    return s;
}

/* One query of one head, and the keys [first, last] that it may see. */
struct query {
    int64_t b, n, i;
    int64_t first, last;
};

static struct query query_of(const struct attention *p, const struct shape *s, int64_t b, int64_t n,
                             int64_t i)
{
    struct query q = {b, n, i, 0, s->mem + i};
    if (p->span > 0 && q.last - p->span + 1 > 0)
        q.first = q.last - p->span + 1;
    return q;
}

enum part { PART_Q, PART_K, PART_V };

/* Returns head n's numbers of a part of key row j, which lies in the memory or in the segment. */
static double *part_of(const struct shape *s, const struct tensor *qkv, const struct tensor *mem,
                       enum part part, const struct query *q, int64_t j)
{
    int64_t row = 3 * s->width;
    int64_t column = (int64_t)part * s->width + q->n * s->head;
    if (j < s->mem)
        return mem->data == NULL ? NULL : ref_real(mem) + (q->b * s->mem + j) * row + column;
    return ref_real(qkv) + (q->b * s->len + j - s->mem) * row + column;
}

static const double *key_of(const struct attention *p, const struct shape *s, enum part part,
                            const struct query *q, int64_t j)
{
    return part_of(s, &p->qkv, &p->mem, part, q, j);
}

static double score(const struct attention *p, const struct shape *s, const struct query *q,
                    int64_t j)
{
    const double *query = key_of(p, s, PART_Q, q, s->mem + q->i);
    const double *key = key_of(p, s, PART_K, q, j);
    double sum = 0;
    if (p->rk.data == NULL) {
        for (int64_t e = 0; e < s->head; e++)
            sum += query[e] * key[e];
        return sum * s->scale;
    }
    const double *rk = ref_real(&p->rk) + (s->mem + q->i - j) * s->width + q->n * s->head;
    const double *r_w = ref_real(&p->r_w) + q->n * s->head;
    const double *r_r = ref_real(&p->r_r) + q->n * s->head;
    for (int64_t e = 0; e < s->head; e++)
        sum += (query[e] + r_w[e]) * key[e] + (query[e] + r_r[e]) * rk[e];
    return sum * s->scale;
}

/* Returns the dropout factor of one weight. */
static double mask_at(const struct attention *p, const struct shape *s, const struct query *q,
                      int64_t j)
{
    if (p->mask.data == NULL)
        return 1;
    const uint8_t *mask = p->mask.data;
    return mask[((q->b * s->heads + q->n) * s->len + q->i) * s->keys + j] * p->mask_scale;
}

static double log_sum_exp(const struct attention *p, const struct shape *s, const struct query *q)
{
    double max = -INFINITY, sum = 0;
    for (int64_t j = q->first; j <= q->last; j++) {
        double x = score(p, s, q, j);
        if (x > max) {
            sum *= exp(max - x);
            max = x;
        }
        sum += exp(x - max);
    }
    return max + log(sum);
}

static void attend(const struct attention *p, const struct shape *s, const struct query *q)
{
    double lse = log_sum_exp(p, s, q);
    double *out = ref_real(&p->out) + (q->b * s->len + q->i) * s->width + q->n * s->head;
    memset(out, 0, (size_t)s->head * sizeof *out);
    for (int64_t j = q->first; j <= q->last; j++) {
        const double *v = key_of(p, s, PART_V, q, j);
        double weight = exp(score(p, s, q, j) - lse) * mask_at(p, s, q, j);
        for (int64_t e = 0; e < s->head; e++)
            out[e] += weight * v[e];
    }
    if (p->lse.data != NULL)
        ref_real(&p->lse)[(q->b * s->heads + q->n) * s->len + q->i] = lse;
}

void ref_attention(struct backend *be, const struct attention *p)
{
    (void)be;
    struct shape s = shape_of(p);
    int64_t rows = p->rows.data != NULL ? p->rows.dim[0] : s.batch * s.len;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < s.heads; n++) {
            int64_t row = p->rows.data != NULL ? ref_int(&p->rows)[r] : r;
            struct query q = query_of(p, &s, row / s.len, n, row % s.len);
            attend(p, &s, &q);
        }
}

/* Adds a y to x, unless x is not wanted or y is absent. */
static void add(double *x, double a, const double *y, int64_t count)
{
    for (int64_t e = 0; x != NULL && y != NULL && e < count; e++)
        x[e] += a * y[e];
}

/* Adds a (y + z) to x. */
static void add_sum(double *x, double a, const double *y, const double *z, int64_t count)
{
    add(x, a, y, count);
    add(x, a, z, count);
}

static double *head_of(const struct tensor *t, const struct shape *s, const struct query *q,
                       int64_t row)
{
    return t->data == NULL ? NULL : ref_real(t) + row * s->width + q->n * s->head;
}

/* Propagates through one query. With weights a_j and upstream g,
 *   da_j     = m_j g.v_j
 *   dscore_j = a_j (da_j - sum_k a_k da_k), where the sum is g.out */
static void attend_vjp(const struct attention_vjp *p, const struct shape *s, const struct query *q)
{
    const struct attention *f = &p->fwd;
    int64_t i = q->b * s->len + q->i;
    const double *query = key_of(f, s, PART_Q, q, s->mem + q->i);
    const double *r_w = head_of(&f->r_w, s, q, 0), *r_r = head_of(&f->r_r, s, q, 0);
    const double *dout = head_of(&p->dout, s, q, i), *out = head_of(&f->out, s, q, i);
    double lse = ref_real(&f->lse)[(q->b * s->heads + q->n) * s->len + q->i];
    double total = 0;
    for (int64_t e = 0; e < s->head; e++)
        total += dout[e] * out[e];
    for (int64_t j = q->first; j <= q->last; j++) {
        const double *k = key_of(f, s, PART_K, q, j), *v = key_of(f, s, PART_V, q, j);
        int64_t distance = s->mem + q->i - j;
        const double *rk = head_of(&f->rk, s, q, distance);
        double weight = exp(score(f, s, q, j) - lse), m = mask_at(f, s, q, j), dweight = 0;
        for (int64_t e = 0; e < s->head; e++)
            dweight += m * dout[e] * v[e];
        double dscore = weight * (dweight - total) * s->scale;
        add(part_of(s, &p->dqkv, &p->dmem, PART_V, q, j), weight * m, dout, s->head);
        add_sum(part_of(s, &p->dqkv, &p->dmem, PART_K, q, j), dscore, query, r_w, s->head);
        add_sum(part_of(s, &p->dqkv, &p->dmem, PART_Q, q, s->mem + q->i), dscore, k, rk, s->head);
        add_sum(head_of(&p->drk, s, q, distance), dscore, query, r_r, s->head);
        add(head_of(&p->dr_w, s, q, 0), dscore, k, s->head);
        add(head_of(&p->dr_r, s, q, 0), dscore, rk, s->head);
    }
}

void ref_attention_vjp(struct backend *be, const struct attention_vjp *p)
{
    (void)be;
    struct shape s = shape_of(&p->fwd);
    if (tensor_count(&p->dqkv) > 0)
        memset(p->dqkv.data, 0, tensor_bytes(&p->dqkv));
    if (p->dmem.data != NULL)
        memset(p->dmem.data, 0, tensor_bytes(&p->dmem));
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t n = 0; n < s.heads; n++)
            for (int64_t i = 0; i < s.len; i++) {
                struct query q = query_of(&p->fwd, &s, b, n, i);
                attend_vjp(p, &s, &q);
            }
}

/* Returns the derivative of a score along qkv_t. Keys of the memory stay fixed. */
static double score_tangent(const struct attention_tangent *p, const struct shape *s,
                            const struct query *q, int64_t j)
{
    const struct attention *f = &p->fwd;
    const double *query = key_of(f, s, PART_Q, q, s->mem + q->i);
    const double *query_t = part_of(s, &p->qkv_t, NULL, PART_Q, q, s->mem + q->i);
    const double *k = key_of(f, s, PART_K, q, j), *r_w = head_of(&f->r_w, s, q, 0);
    const double *k_t = j < s->mem ? NULL : part_of(s, &p->qkv_t, NULL, PART_K, q, j);
    const double *rk = head_of(&f->rk, s, q, s->mem + q->i - j);
    double sum = 0;
    for (int64_t e = 0; e < s->head; e++) {
        sum += query_t[e] * (k[e] + (rk != NULL ? rk[e] : 0));
        if (k_t != NULL)
            sum += (query[e] + (r_w != NULL ? r_w[e] : 0)) * k_t[e];
    }
    return sum * s->scale;
}

/* What belongs to one pair of query and key, and the sums over keys behind it. */
struct pair {
    double a, a_t;         /* weight */
    double da, da_t;       /* m g.v, the gradient of the weight */
    double mean_t;         /* sum_k a_k score_t_k */
    double delta, delta_t; /* sum_k a_k da_k */
    double d, d_t;         /* gradient of the score */
};

static struct pair pair_of(const struct attention_tangent *p, const struct shape *s,
                           const struct query *q, int64_t j, const struct pair *sums)
{
    const struct attention *f = &p->fwd;
    int64_t i = q->b * s->len + q->i;
    const double *v = key_of(f, s, PART_V, q, j);
    const double *v_t = j < s->mem ? NULL : part_of(s, &p->qkv_t, NULL, PART_V, q, j);
    const double *g = head_of(&p->dout, s, q, i), *g_t = head_of(&p->dout_t, s, q, i);
    double lse = ref_real(&f->lse)[(q->b * s->heads + q->n) * s->len + q->i];
    double m = mask_at(f, s, q, j);
    struct pair r = {.a = exp(score(f, s, q, j) - lse)};
    r.a_t = r.a * (score_tangent(p, s, q, j) - sums->mean_t);
    for (int64_t e = 0; g != NULL && e < s->head; e++) {
        r.da += m * g[e] * v[e];
        r.da_t += m * (g_t[e] * v[e] + (v_t != NULL ? g[e] * v_t[e] : 0));
    }
    return r;
}

/* Writes the derivative of the output, and returns the sums over keys that the gradients need. */
static struct pair sums_of(const struct attention_tangent *p, const struct shape *s,
                           const struct query *q)
{
    double *out_t = head_of(&p->out_t, s, q, q->b * s->len + q->i);
    struct pair sums = {0};
    for (int64_t j = q->first; j <= q->last; j++)
        sums.mean_t += pair_of(p, s, q, j, &sums).a * score_tangent(p, s, q, j);
    for (int64_t e = 0; out_t != NULL && e < s->head; e++)
        out_t[e] = 0;
    for (int64_t j = q->first; j <= q->last; j++) {
        struct pair r = pair_of(p, s, q, j, &sums);
        double m = mask_at(&p->fwd, s, q, j);
        sums.delta += r.a * r.da;
        sums.delta_t += r.a_t * r.da + r.a * r.da_t;
        add(out_t, m * r.a_t, key_of(&p->fwd, s, PART_V, q, j), s->head);
        if (j >= s->mem)
            add(out_t, m * r.a, part_of(s, &p->qkv_t, NULL, PART_V, q, j), s->head);
    }
    return sums;
}

/* Adds what one key contributes. */
static void add_pair(const struct attention_tangent *p, const struct shape *s,
                     const struct query *q, int64_t j, const struct pair *r)
{
    double d = r->d, d_t = r->d_t;
    const struct tensor none = {0};
    const struct attention *f = &p->fwd;
    int64_t i = q->b * s->len + q->i, own = s->mem + q->i;
    const double *query = key_of(f, s, PART_Q, q, own), *k = key_of(f, s, PART_K, q, j);
    const double *query_t = part_of(s, &p->qkv_t, NULL, PART_Q, q, own);
    const double *k_t = j < s->mem ? NULL : part_of(s, &p->qkv_t, NULL, PART_K, q, j);
    const double *r_w = head_of(&f->r_w, s, q, 0), *r_r = head_of(&f->r_r, s, q, 0);
    const double *rk = head_of(&f->rk, s, q, own - j);
    const double *g = head_of(&p->dout, s, q, i), *g_t = head_of(&p->dout_t, s, q, i);
    double *dk_t = part_of(s, &p->dqkv_t, &p->dmem_t, PART_K, q, j);
    double *dv_t = part_of(s, &p->dqkv_t, &p->dmem_t, PART_V, q, j);
    double *dq_t = part_of(s, &p->dqkv_t, &none, PART_Q, q, own), m = mask_at(f, s, q, j);
    add(part_of(s, &p->dqkv, &none, PART_V, q, j), r->a * m, g, s->head);
    add_sum(part_of(s, &p->dqkv, &none, PART_K, q, j), d, query, r_w, s->head);
    add_sum(part_of(s, &p->dqkv, &none, PART_Q, q, own), d, k, rk, s->head);
    add(dv_t, r->a_t * m, g, s->head);
    add(dv_t, r->a * m, g_t, s->head);
    add_sum(dk_t, d_t, query, r_w, s->head);
    add(dk_t, d, query_t, s->head);
    add_sum(dq_t, d_t, k, rk, s->head);
    add_sum(head_of(&p->drk_t, s, q, own - j), d_t, query, r_r, s->head);
    add(head_of(&p->drk_t, s, q, own - j), d, query_t, s->head);
    add(head_of(&p->dr_w_t, s, q, 0), d_t, k, s->head);
    add(head_of(&p->dr_r_t, s, q, 0), d_t, rk, s->head);
    if (k_t != NULL) {
        add(dq_t, d, k_t, s->head);
        add(head_of(&p->dr_w_t, s, q, 0), d, k_t, s->head);
    }
}

static void attend_tangent(const struct attention_tangent *p, const struct shape *s,
                           const struct query *q)
{
    struct pair sums = sums_of(p, s, q);
    for (int64_t j = q->first; p->dout.data != NULL && j <= q->last; j++) {
        struct pair r = pair_of(p, s, q, j, &sums);
        r.d = r.a * (r.da - sums.delta) * s->scale;
        r.d_t = (r.a_t * (r.da - sums.delta) + r.a * (r.da_t - sums.delta_t)) * s->scale;
        add_pair(p, s, q, j, &r);
    }
}

void ref_attention_tangent(struct backend *be, const struct attention_tangent *p)
{
    (void)be;
    struct shape s = shape_of(&p->fwd);
    const struct tensor *const zeros[] = {&p->dqkv, &p->dqkv_t, &p->dmem_t};
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++)
        if (zeros[i]->data != NULL)
            memset(zeros[i]->data, 0, tensor_bytes(zeros[i]));
    for (int64_t b = 0; b < s.batch; b++)
        for (int64_t n = 0; n < s.heads; n++)
            for (int64_t i = 0; i < s.len; i++) {
                struct query q = query_of(&p->fwd, &s, b, n, i);
                attend_tangent(p, &s, &q);
            }
}
