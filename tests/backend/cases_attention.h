/* Cases: relative attention and its vjp. */
#ifndef DEQ_TESTS_BACKEND_CASES_ATTENTION_H
#define DEQ_TESTS_BACKEND_CASES_ATTENTION_H

#include "backend/suite.h"

struct att_setup {
    int64_t batch, len, mem, heads, head, span, spare; /* spare rows of rk behind those needed */
    bool mask, extras; /* extras: lse forward; all optional gradients backward */
    double amp;
    bool plain;  /* without positions */
    bool coarse; /* multiples of 1/64: bf16 holds them, and their sums with the biases */
};

struct att_items {
    struct item *qkv, *mem, *rk, *r_w, *r_r, *mask, *out, *lse;
};

static inline int64_t att_reach(const struct att_setup *c)
{
    int64_t keys = c->mem + c->len;
    return c->span > 0 && c->span < keys ? c->span : keys;
}

static inline void att_label(struct suite *s, const char *what, const struct att_setup *c)
{
    suite_label(s,
                "%s B %lld L %lld P %lld H %lld h %lld span %lld spare %lld mask %d extras %d "
                "amp %g plain %d coarse %d %s",
                what, (long long)c->batch, (long long)c->len, (long long)c->mem,
                (long long)c->heads, (long long)c->head, (long long)c->span, (long long)c->spare,
                c->mask, c->extras, c->amp, c->plain, c->coarse,
                precision_name(s->be[0]->precision));
}

static inline struct att_items att_make(struct suite *s, const struct att_setup *c)
{
    int64_t width = c->heads * c->head, keys = c->mem + c->len;
    struct att_items x;
    x.qkv = real3(s, FILL_RANDOM, c->batch, c->len, 3 * width);
    x.mem = real3(s, FILL_RANDOM, c->batch, c->mem, 3 * width);
    x.rk = real2(s, FILL_RANDOM, att_reach(c) + c->spare, width);
    x.r_w = real2(s, FILL_RANDOM, c->heads, c->head);
    x.r_r = real2(s, FILL_RANDOM, c->heads, c->head);
    x.mask = suite_make(s, false, DTYPE_U8, FILL_ZERO, NULL, 4, c->batch, c->heads, c->len, keys);
    x.out = real3(s, FILL_NAN, c->batch, c->len, width);
    x.lse = real3(s, FILL_NAN, c->batch, c->heads, c->len);
    struct item *scaled[] = {x.qkv, x.mem, x.rk, x.r_w, x.r_r};
    for (int k = 0; k < 5; k++) {
        for (int64_t e = 0; e < scaled[k]->count; e++)
            scaled[k]->value[e] *= k >= 2 && c->plain ? 0 : c->amp; /* a power of two: a float32 */
        for (int64_t e = 0; c->coarse && e < scaled[k]->count; e++)
            scaled[k]->value[e] = rint(64 * scaled[k]->value[e]) / 64;
        suite_send(s, scaled[k]);
    }
    for (int64_t e = 0; e < x.mask->count; e++)
        x.mask->value[e] = suite_random(s) < -0.6 ? 0 : 1;
    suite_send(s, x.mask);
    BOTH_SIDES(i)
    {
        if (!c->mask)
            x.mask->t[i].data = NULL;
        if (c->mem == 0)
            x.mem->t[i] = (struct tensor){0};
        if (c->plain)
            x.rk->t[i].data = x.r_w->t[i].data = x.r_r->t[i].data = NULL;
    }
    return x;
}

static inline struct attention att_call(const struct att_items *x, const struct att_setup *c,
                                        int side)
{
    return (struct attention){.qkv = x->qkv->t[side],
                              .mem = x->mem->t[side],
                              .rk = x->rk->t[side],
                              .r_w = x->r_w->t[side],
                              .r_r = x->r_r->t[side],
                              .mask = x->mask->t[side],
                              .out = x->out->t[side],
                              .lse = x->lse->t[side],
                              .mask_scale = c->mask ? 1.25 : 1,
                              .heads = c->heads,
                              .span = c->span};
}

/* The sums of absolute values behind each result, from the numbers of the case. */
struct att_magnitude {
    double score; /* largest sum of |factors| behind a score, divided by sqrt(h) */
    double *out, *dqkv, *dmem, *drk, *dr_w, *dr_r;
};

/* Where part 0..2 (q, k, v) of key row j lies: in the memory or in the segment. */
static inline double *att_part(const struct att_setup *c, double *qkv, double *mem, int64_t b,
                               int64_t n, int part, int64_t j)
{
    int64_t width = c->heads * c->head, column = part * width + n * c->head;
    return j < c->mem ? mem + (b * c->mem + j) * 3 * width + column
                      : qkv + (b * c->len + j - c->mem) * 3 * width + column;
}

/* One query: all scores with their magnitudes into the caller's weights, then every sum; those of
 * the gradients only with a dout. */
static inline void att_magnitude_query(const struct att_setup *c, const struct att_items *x,
                                       const double *dout, struct att_magnitude *m, double *w,
                                       int64_t b, int64_t n, int64_t i)
{
    int64_t h = c->head, width = c->heads * h, last = c->mem + i;
    int64_t first = c->span > 0 && last - c->span + 1 > 0 ? last - c->span + 1 : 0;
    double *qkv = x->qkv->value, *mem = x->mem->value, root = sqrt((double)h);
    const double *q = att_part(c, qkv, mem, b, n, 0, last);
    const double *rw = x->r_w->value + n * h, *rr = x->r_r->value + n * h;
    const double *g = dout == NULL ? NULL : dout + (b * c->len + i) * width + n * h;
    double top = -INFINITY, sum = 0, total = 0, keep = c->mask ? 1.25 : 1;
    for (int64_t j = first; j <= last; j++) {
        const double *k = att_part(c, qkv, mem, b, n, 1, j);
        const double *rk = x->rk->value + (last - j) * width + n * h;
        double value = 0, size = 0;
        for (int64_t e = 0; e < h; e++) {
            double content = (q[e] + rw[e]) * k[e], place = (q[e] + rr[e]) * rk[e];
            value += content + place;
            size +=
                (fabs(q[e]) + fabs(rw[e])) * fabs(k[e]) + (fabs(q[e]) + fabs(rr[e])) * fabs(rk[e]);
        }
        w[j] = value / root;
        top = fmax(top, w[j]);
        m->score = fmax(m->score, size / root);
    }
    for (int64_t j = first; j <= last; j++)
        sum += w[j] = exp(w[j] - top);
    for (int64_t j = first; j <= last; j++) {
        const double *v = att_part(c, qkv, mem, b, n, 2, j);
        w[j] /= sum;
        for (int64_t e = 0; e < h; e++) {
            m->out[(b * c->len + i) * width + n * h + e] += keep * w[j] * fabs(v[e]);
            total += g == NULL ? 0 : keep * w[j] * fabs(g[e] * v[e]);
        }
    }
    for (int64_t j = first; g != NULL && j <= last; j++) {
        const double *k = att_part(c, qkv, mem, b, n, 1, j), *v = att_part(c, qkv, mem, b, n, 2, j);
        const double *rk = x->rk->value + (last - j) * width + n * h;
        double own = 0;
        for (int64_t e = 0; e < h; e++)
            own += keep * fabs(g[e] * v[e]);
        double d = w[j] * (own + total) / root;
        double *dk = att_part(c, m->dqkv, m->dmem, b, n, 1, j);
        double *dv = att_part(c, m->dqkv, m->dmem, b, n, 2, j);
        double *dq = att_part(c, m->dqkv, m->dmem, b, n, 0, last);
        for (int64_t e = 0; e < h; e++) {
            dv[e] += keep * w[j] * fabs(g[e]);
            dk[e] += d * (fabs(q[e]) + fabs(rw[e]));
            dq[e] += d * (fabs(k[e]) + fabs(rk[e]));
            m->drk[(last - j) * width + n * h + e] += d * (fabs(q[e]) + fabs(rr[e]));
            m->dr_w[n * h + e] += d * fabs(k[e]);
            m->dr_r[n * h + e] += d * fabs(rk[e]);
        }
    }
}

static inline struct att_magnitude att_magnitude_of(const struct att_setup *c,
                                                    const struct att_items *x, const double *dout)
{
    struct att_magnitude m = {.out = suite_memory((size_t)x->out->count, sizeof(double)),
                              .dqkv = suite_memory((size_t)x->qkv->count, sizeof(double)),
                              .dmem = suite_memory((size_t)x->mem->count, sizeof(double)),
                              .drk = suite_memory((size_t)x->rk->count, sizeof(double)),
                              .dr_w = suite_memory((size_t)x->r_w->count, sizeof(double)),
                              .dr_r = suite_memory((size_t)x->r_w->count, sizeof(double))};
    double *w = suite_memory((size_t)(c->mem + c->len), sizeof *w);
    for (int64_t b = 0; b < c->batch; b++)
        for (int64_t n = 0; n < c->heads; n++)
            for (int64_t i = 0; i < c->len; i++)
                att_magnitude_query(c, x, dout, &m, w, b, n, i);
    mem_free(w);
    return m;
}

static inline void att_magnitude_free(struct att_magnitude *m)
{
    double *all[] = {m->out, m->dqkv, m->dmem, m->drk, m->dr_w, m->dr_r};
    for (int k = 0; k < 6; k++)
        mem_free(all[k]);
}

/* A score errs by delta = (h + 3) eps S, S the sum of |factors| behind it: 2h products are h
 * roundoffs of eps. So a weight errs relatively by 2 delta (its own score and lse) and some K eps,
 * an output by that times sum a |v|. Returned in units of eps. */
static inline double att_terms(const struct att_setup *c, const struct att_magnitude *m)
{
    return 2 * ((double)c->head + 3) * m->score + (double)(c->mem + c->len) + 8;
}

/* The same for so many roundings to bf16 of factors, which a backend may do while products are in
 * bf16. A rounding is half of 2^-8, and the rest is for the second order, as with eps. */
static inline double att_bf16(const struct suite *s, double roundings)
{
    return s->be[0]->precision == PRECISION_BF16 ? roundings * 0x1p-8 / s->eps : 0;
}

/* Two factors are rounded behind a score, which then errs by 2 S roundings. So does lse, and a
 * weight by 4 S. A weight is rounded once more, and so is the value. Coarse factors are exact, and
 * only the weight is left. */
static inline double att_bf16_out(const struct suite *s, const struct att_setup *c,
                                  const struct att_magnitude *m)
{
    return att_bf16(s, c->coarse ? 1 : 4 * m->score + 2);
}

static inline void attention_one(struct suite *s, const struct att_setup *c)
{
    att_label(s, "forward", c);
    struct att_items x = att_make(s, c);
    struct att_magnitude m = att_magnitude_of(c, &x, NULL);
    BOTH_SIDES(i)
    {
        struct attention p = att_call(&x, c, i);
        if (!c->extras)
            p.lse.data = NULL;
        op_attention(s->be[i], &p);
    }
    double terms = att_terms(c, &m);
    suite_close(s, x.out, "out", m.out, terms + att_bf16_out(s, c, &m));
    if (c->extras) /* and lse itself is rounded: |lse| <= S + log K */
        suite_close(s, x.lse, "lse", NULL,
                    terms + 2 * m.score + att_bf16(s, c->coarse ? 0 : 2 * m.score));
    att_magnitude_free(&m);
    suite_sweep(s);
}

/* The arguments behind a forward pass: the saved out and lse are the reference's, rounded to
 * float32. */
static inline struct att_items att_saved(struct suite *s, const struct att_setup *c)
{
    struct att_items x = att_make(s, c);
    struct item *const saved[] = {x.out, x.lse};
    struct attention p = att_call(&x, c, 1);
    op_attention(s->be[1], &p);
    for (int k = 0; k < 2; k++) {
        double *value = suite_fetch(s, saved[k], 1);
        for (int64_t e = 0; e < saved[k]->count; e++)
            saved[k]->value[e] = (float)value[e];
        mem_free(value);
        suite_send(s, saved[k]);
    }
    return x;
}

/* dscore = a (da - sum) is the sum of 2h + 2 products whose weight errs as above and by the
 * rounding of lse; every gradient sums at most B*L*K of them. The bound adds the roundings of that
 * sum as if there were sqrt of them, since B*L*K would be absurd: signs of roundings are
 * independent (Higham and Mary 2019), factor 8. */
static inline void attention_vjp_one(struct suite *s, const struct att_setup *c)
{
    att_label(s, "vjp", c);
    struct att_items x = att_saved(s, c);
    int64_t width = c->heads * c->head, keys = c->mem + c->len;
    struct item *dout = real3(s, FILL_RANDOM, c->batch, c->len, width);
    for (int64_t e = 0; c->coarse && e < dout->count; e++)
        dout->value[e] = rint(64 * dout->value[e]) / 64;
    suite_send(s, dout);
    struct item *dqkv = real3(s, FILL_NAN, c->batch, c->len, 3 * width);
    struct item *dmem = real3(s, FILL_NAN, c->batch, c->mem, 3 * width);
    struct item *drk = real2(s, FILL_RANDOM, x.rk->t[0].dim[0], width);
    struct item *dr_w = real2(s, FILL_RANDOM, c->heads, c->head);
    struct item *dr_r = real2(s, FILL_RANDOM, c->heads, c->head);
    struct att_magnitude m = att_magnitude_of(c, &x, dout->value);
    BOTH_SIDES(i)
    {
        struct attention_vjp p = {att_call(&x, c, i), dout->t[i], dqkv->t[i], dmem->t[i],
                                  drk->t[i],          dr_w->t[i], dr_r->t[i]};
        if (c->mem == 0)
            p.dmem = (struct tensor){0};
        if (!c->extras)
            p.dmem.data = p.drk.data = p.dr_w.data = p.dr_r.data = NULL;
        if (c->plain)
            p.drk.data = p.dr_w.data = p.dr_r.data = NULL;
        op_attention_vjp(s->be[i], &p);
    }
    double sums = 8 * sqrt((double)(c->batch * c->len * keys));
    double terms = att_terms(c, &m) + 2 * m.score + 2 * (double)c->head + sums;
    /* A weight errs by 2 S roundings, since lse is given, and dweight by 2. Then the gradient of
     * the score, or the weight, is rounded, and what it is multiplied with. */
    terms += att_bf16(s, c->coarse ? 1 : 2 * m.score + 4);
    suite_close(s, dqkv, "dqkv", m.dqkv, terms);
    for (int64_t e = 0; e < drk->count; e++)
        m.drk[e] += 1; /* accumulated onto a number below 1 */
    for (int64_t e = 0; e < dr_w->count; e++) {
        m.dr_w[e] += 1;
        m.dr_r[e] += 1;
    }
    if (c->extras) {
        if (c->mem > 0)
            suite_close(s, dmem, "dmem", m.dmem, terms);
    }
    if (c->extras && !c->plain) {
        suite_close(s, drk, "drk", m.drk, terms);
        suite_close(s, dr_w, "dr_w", m.dr_w, terms);
        suite_close(s, dr_r, "dr_r", m.dr_r, terms);
    }
    att_magnitude_free(&m);
    suite_sweep(s);
}

static inline void attention_each(struct suite *s,
                                  void (*one)(struct suite *, const struct att_setup *))
{
    const int64_t head_sizes[] = {1, 8, 16, 32, 41, 64, 70, 90};
    const int64_t lengths[][2] = {{1, 0}, {1, 33}, {31, 0}, {32, 32}, {33, 7}}; /* L, P */
    for (size_t h = 0; h < sizeof head_sizes / sizeof *head_sizes; h++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
            /* every second of the four, so that each meets every head size and every length */
            for (int flags = (int)(h + l) % 2; flags < 4; flags += 2) {
                int64_t keys = lengths[l][0] + lengths[l][1];
                const int64_t spans[] = {0, 1, keys / 2, keys + 5};
                struct att_setup c = {1 + flags % 2,
                                      lengths[l][0],
                                      lengths[l][1],
                                      flags < 2 ? 2 : 3,
                                      head_sizes[h],
                                      spans[((size_t)flags / 2 + l + h) % 4],
                                      flags == 3 ? 4 : 0,
                                      flags & 1,
                                      flags != 2,
                                      0.5,
                                      false,
                                      false};
                one(s, &c);
            }
    const struct att_setup plain[] = {
        {2, 33, 7, 2, 16, 0, 0, false, true, 0.5, true, false},
        {2, 70, 65, 1, 41, 20, 0, true, true, 0.5, true, false},
        {3, 4, 12, 2, 8, 0, 0, true, false, 0.5, true, false},
        {1, 1, 33, 2, 90, 9, 0, false, true, 0.5, true, false},
    };
    for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
        one(s, &plain[k]);
    struct att_setup large = {1, 70,   65,   1,   16,    100,
                              0, true, true, 0.5, false, false}; /* several tiles */
    one(s, &large);
    struct att_setup none = {0, 4, 3, 2, 8, 0, 0, false, true, 0.5, false, false};
    one(s, &none);
    struct att_setup sharp = {2, 20,    9,    2,  16,    0,
                              0, false, true, 16, false, false}; /* scores around 1000 */
    one(s, &sharp);
}

static inline void case_attention(struct suite *s)
{
    attention_each(s, attention_one);
}

static inline void case_attention_vjp(struct suite *s)
{
    attention_each(s, attention_vjp_one);
}

/* Changing what comes later must not change one bit of what comes earlier. */
static inline void case_attention_causal(struct suite *s)
{
    const struct att_setup c = {2, 33, 9, 2, 16, 12, 0, true, true, 0.5, false, false};
    const int64_t cut = 17, row = 3 * c.heads * c.head;
    att_label(s, "causal", &c);
    struct att_items x = att_make(s, &c);
    double *before = NULL;
    for (int round = 0; round < 2; round++) {
        BOTH_SIDES(i)
        {
            struct attention p = att_call(&x, &c, i);
            op_attention(s->be[i], &p);
        }
        double *now = suite_fetch(s, x.out, 0);
        for (int64_t b = 0; round == 1 && b < c.batch; b++)
            for (int64_t e = 0; e < cut * c.heads * c.head; e++) {
                int64_t at = b * c.len * c.heads * c.head + e;
                suite_expect(s, now[at] == before[at], "the past does not see the future");
            }
        for (int64_t b = 0; b < c.batch; b++)
            for (int64_t e = cut * row; e < c.len * row; e++)
                x.qkv->value[b * c.len * row + e] = 100 * suite_random(s);
        x.out->compared = x.lse->compared = true;
        if (round == 0)
            suite_send(s, x.qkv);
        mem_free(before);
        before = now;
    }
    mem_free(before);
    suite_sweep(s);
}

/* Some queries only: as accurate as all, and with the bits that they get among all. */
static inline void attention_rows_one(struct suite *s, const struct att_setup *c, int64_t step)
{
    att_label(s, "rows", c);
    struct att_items x = att_make(s, c);
    struct att_magnitude m = att_magnitude_of(c, &x, NULL);
    int64_t width = c->heads * c->head, count = 0, skip = 3 * c->len / 4;
    struct item *rows = int1(s, c->batch * c->len, 0);
    for (int64_t r = 0; r < c->batch * c->len; r++)
        if (r % step != 1 && (r < c->len / 2 || r >= c->len / 2 + skip))
            rows->value[count++] = (double)r;
    suite_send(s, rows);
    struct item *listed = real2(s, FILL_NAN, count, width), *all = real2(s, FILL_NAN, count, width);
    double *mag = suite_memory((size_t)(count * width), sizeof *mag);
    for (int64_t e = 0; e < count * width; e++)
        mag[e] = m.out[(int64_t)rows->value[e / width] * width + e % width];
    BOTH_SIDES(i)
    {
        struct attention p = att_call(&x, c, i);
        struct tensor out = tensor_matrix(&p.out);
        struct tensor list = tensor_prefix(&rows->t[i], 1, count, 1, 1, 1);
        op_attention(s->be[i], &p);
        op_gather_rows(s->be[i], &all->t[i], &out, &list, 1);
        p.rows = list;
        p.lse.data = NULL;
        op_fill(s->be[i], &p.out, NAN);
        op_attention(s->be[i], &p);
        op_gather_rows(s->be[i], &listed->t[i], &out, &list, 1);
    }
    suite_close(s, listed, "listed", mag, att_terms(c, &m) + att_bf16_out(s, c, &m));
    double *one = suite_fetch(s, listed, 0), *other = suite_fetch(s, all, 0);
    for (int64_t e = 0; e < count * width; e++)
        suite_expect(s, one[e] == other[e], "a listed query has other bits than among all");
    mem_free(one);
    mem_free(other);
    mem_free(mag);
    all->compared = x.out->compared = x.lse->compared = true;
    att_magnitude_free(&m);
    suite_sweep(s);
}

static inline void case_attention_rows(struct suite *s)
{
    const struct att_setup setups[] = {
        {3, 33, 9, 2, 16, 12, 0, true, true, 0.5, false, false},
        {2, 40, 0, 1, 41, 0, 0, false, true, 0.5, false, false},
        {4, 5, 12, 2, 8, 0, 0, false, true, 0.5, false, false},
        {2, 70, 65, 1, 16, 100, 0, true, true, 0.5, false, false},
        {5, 1, 3, 2, 8, 0, 0, false, true, 0.5, false, false},
        {3, 33, 9, 2, 16, 12, 0, true, true, 0.5, true, false},
    };
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        attention_rows_one(s, &setups[k], 3);
        attention_rows_one(s, &setups[k], 1 << 20); /* nearly all of them */
    }
}

/* A NaN in a query, a key or a value reaches everything that reads it. (It may reach more: a tiled
 * product multiplies what is out of sight by zero.) */
static inline void case_attention_nan(struct suite *s)
{
    for (int part = 0; part < 3; part++)
        for (int place = 0; place < 2; place++) {
            const struct att_setup c = {1, 20, 9, 2, 16, 0, 0, false, true, 0.5, false, false};
            int64_t width = c.heads * c.head;
            suite_label(s, "nan in part %d of %s", part, place ? "the memory" : "the segment");
            struct att_items x = att_make(s, &c);
            suite_poke(s, place ? x.mem : x.qkv, 5 * 3 * width + part * width + 3, NAN);
            BOTH_SIDES(i)
            {
                struct attention p = att_call(&x, &c, i);
                op_attention(s->be[i], &p);
            }
            bool ignored = place == 1 && part == 0; /* nobody reads a query of the memory */
            struct att_magnitude m = att_magnitude_of(&c, &x, NULL);
            double terms = ignored ? 1000 + att_bf16_out(s, &c, &m) : 0;
            suite_compare(s, x.out, "out", NULL, terms, !ignored);
            suite_compare(s, x.lse, "lse", NULL, terms, !ignored);
            att_magnitude_free(&m);
            suite_sweep(s);
        }
}

/* Attention while products are in bfloat16: every width that heads are padded to, and a wider one,
 * several tiles of queries and of keys, and everything that the other cases look at. */
static inline void attention_bf16_each(struct suite *s,
                                       void (*one)(struct suite *, const struct att_setup *))
{
    const struct att_setup setups[] = {
        /* B, L, P, H, h, span, spare, mask, extras, amp, plain, coarse */
        {2, 33, 7, 2, 16, 0, 3, false, true, 0.5, false, true},
        {1, 70, 65, 1, 32, 100, 0, true, true, 0.5, false, true},
        {1, 130, 20, 1, 8, 40, 0, false, true, 0.5, false, false},
        {1, 65, 33, 1, 70, 0, 0, true, true, 0.5, false, true},
        {2, 40, 30, 1, 70, 20, 0, false, true, 0.5, false, false},
        {1, 33, 9, 2, 90, 12, 0, true, true, 0.5, false, true},
        {1, 20, 9, 1, 128, 0, 0, false, false, 0.5, false, false},
        {1, 66, 64, 1, 128, 70, 0, true, true, 0.5, false, true},
        {2, 1, 33, 2, 64, 0, 0, false, true, 0.5, false, false},
        {3, 5, 12, 1, 64, 9, 0, true, false, 0.5, false, true},
        {1, 130, 70, 1, 64, 0, 0, true, true, 0.5, true, true},
        {2, 70, 65, 1, 41, 20, 0, false, true, 0.5, true, false},
        {1, 33, 0, 1, 96, 0, 0, true, false, 0.5, true, true},
        {1, 1, 33, 2, 128, 9, 0, false, true, 0.5, true, true},
        {1, 40, 5, 1, 70, 0, 0, false, true, 0.5, true, false},
        {2, 17, 40, 1, 24, 0, 0, true, true, 0.5, true, true},
        {1, 20, 9, 1, 130, 0, 0, true, true, 0.5, false, false},
        {0, 4, 3, 2, 8, 0, 0, false, true, 0.5, false, false},
    };
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++)
        one(s, &setups[k]);
}

/* The reference stays as exact as it is. */
static inline void with_bf16(struct suite *s, void (*run)(struct suite *))
{
    struct error err;
    (void)backend_set_precision(s->be[0], PRECISION_BF16, &err);
    run(s);
    (void)backend_set_precision(s->be[0], PRECISION_FP32, &err);
}

static inline void attention_bf16_forward(struct suite *s)
{
    attention_bf16_each(s, attention_one);
    case_attention_causal(s);
    case_attention_nan(s);
    case_attention_rows(s);
}

static inline void case_attention_bf16(struct suite *s)
{
    with_bf16(s, attention_bf16_forward);
}

static inline void attention_bf16_backward(struct suite *s)
{
    attention_bf16_each(s, attention_vjp_one);
}

static inline void case_attention_vjp_bf16(struct suite *s)
{
    with_bf16(s, attention_bf16_backward);
}

#endif
