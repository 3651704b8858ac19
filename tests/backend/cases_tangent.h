/* Cases: second derivatives, the tangents of the norm's vjp and of attention. That the reference
 * itself is right is shown by finite differences (test_ref_gradients). */
#ifndef DEQ_TESTS_BACKEND_CASES_TANGENT_H
#define DEQ_TESTS_BACKEND_CASES_TANGENT_H

#include "backend/cases_attention.h"
#include "backend/cases_rows.h"

struct norm_tangent_setup {
    int64_t rows, width;
    enum norm_kind kind;
    bool dy_t, dsum, dsum_t, gain, mask, dgain, in_place;
};

/* Inputs are below 1, rstd below 5/4: xhat_t is below 4 and errs by 4 (D + 6) eps, as ds does; ds_t
 * sums six such terms times rstd, so 12 times that is ample; dgain sums N rows of them. */
static inline void norm_tangent_one(struct suite *s, const struct norm_tangent_setup *c)
{
    int64_t n = c->rows, d = c->width;
    bool norm = c->kind != NORM_NONE;
    suite_label(s, "%lld x %lld kind %d dy_t %d dsum %d %d gain %d mask %d dgain %d in place %d",
                (long long)n, (long long)d, c->kind, c->dy_t, c->dsum, c->dsum_t, c->gain, c->mask,
                c->dgain, c->in_place);
    struct item *dy = maybe2(s, norm, FILL_RANDOM, n, d),
                *dsum = maybe2(s, c->dsum, FILL_RANDOM, n, d);
    struct item *dy_t = maybe2(s, c->dy_t, FILL_RANDOM, n, d);
    struct item *dsum_t = maybe2(s, c->dsum_t, FILL_RANDOM, n, d);
    struct item *s_t = maybe2(s, norm, FILL_RANDOM, n, d);
    struct item *xhat = maybe2(s, norm, FILL_RANDOM, n, d);
    struct item *rstd = maybe2(s, norm, FILL_POSITIVE, 1, n);
    struct item *gain = maybe2(s, c->gain, FILL_RANDOM, 1, d);
    struct item *mask = maybe2(s, c->mask, FILL_MASK, n / 2, d);
    struct item *ds = c->in_place && norm ? dy : real2(s, FILL_NAN, n, d);
    struct item *ds_t = c->in_place && c->dy_t ? dy_t : real2(s, FILL_NAN, n, d);
    struct item *da = maybe2(s, c->mask, FILL_NAN, n, d),
                *da_t = maybe2(s, c->mask, FILL_NAN, n, d);
    struct item *dgain = maybe2(s, c->dgain, FILL_RANDOM, 1, d);
    BOTH_SIDES(i)
    {
        struct norm_vjp_tangent p = {.vjp = {.dy = dy->t[i],
                                             .dsum = dsum->t[i],
                                             .xhat = xhat->t[i],
                                             .rstd = rstd->t[i],
                                             .gain = gain->t[i],
                                             .mask = mask->t[i],
                                             .ds = ds->t[i],
                                             .da = da->t[i],
                                             .dgain = dgain->t[i],
                                             .rows_per_mask = 2,
                                             .kind = c->kind},
                                     .s_t = s_t->t[i],
                                     .dy_t = dy_t->t[i],
                                     .dsum_t = dsum_t->t[i],
                                     .ds_t = ds_t->t[i],
                                     .da_t = da_t->t[i]};
        op_norm_vjp_tangent(s->be[i], &p);
    }
    double terms = 4 * ((double)d + 6);
    suite_close(s, ds, "ds", NULL, terms);
    suite_close(s, ds_t, "ds_t", NULL, 12 * terms);
    if (c->mask) {
        suite_close(s, da, "da", NULL, 2 * terms);
        suite_close(s, da_t, "da_t", NULL, 15 * terms);
    }
    if (c->dgain)
        suite_close(s, dgain, "dgain", NULL, (double)n * (terms + 5 * (double)n) + 8);
    suite_sweep(s);
}

static inline void case_norm_vjp_tangent(struct suite *s)
{
    const int64_t sizes[][2] = {{2, 1}, {0, 8}, {6, 31}, {4, 32}, {6, 33}, {2, 256}, {34, 70}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int kind = NORM_NONE; kind <= NORM_RMS; kind++)
            for (int flags = 0; flags < 32; flags++) {
                bool norm = kind != NORM_NONE, rms = kind == NORM_RMS;
                if (sizes[k][1] > 33 && flags % 5 != 1) /* 31 among them */
                    continue;
                struct norm_tangent_setup c = {
                    sizes[k][0],          sizes[k][1],   (enum norm_kind)kind, norm && (flags & 1),
                    (flags & 2) || !norm, flags & 4,     rms && (flags & 8),   flags & 16,
                    rms && (flags & 2),   flags % 3 == 0};
                norm_tangent_one(s, &c);
            }
}

/* Sizes of the terms, for |numbers| <= amp, directions and cotangents below 1. A sum of h products
 * of numbers of random sign stays below 4 roots of h times their spread, 1/3 of the largest square:
 * 2 roots of h. With the derivative of a score below St, a weight's is below 2 St a, da below G,
 * da_t below Gt; a query's weights sum to 1, so a key's over all queries are below B L. Errors are
 * those of a weight (att_terms), and of sums of up to 2h and K products. */
struct att_tangent_bound {
    double out_t, d, d_t, terms;
};

static inline struct att_tangent_bound att_tangent_bound_of(const struct att_setup *c,
                                                            const struct att_magnitude *m)
{
    double h = (double)c->head, a = c->amp, root = sqrt(h), keep = c->mask ? 1.25 : 1;
    double st = 8 * a, g = 2 * keep * root * a, gt = 2 * keep * root * (a + 1);
    struct att_tangent_bound b = {.out_t = keep * (2 * st * a + 1), .d = 2 * g / root};
    b.d_t = (4 * st * g + 2 * gt + 2 * st * g) / root;
    b.terms = att_terms(c, m) + 2 * m->score + 4 * h + 2 * (double)(c->mem + c->len) + 8;
    return b;
}

static inline void att_tangent_compare(struct suite *s, struct item *it, const char *what,
                                       double bound, double terms)
{
    double *mag = suite_memory((size_t)it->count, sizeof *mag);
    for (int64_t k = 0; k < it->count; k++)
        mag[k] = bound;
    suite_close(s, it, what, mag, terms);
    mem_free(mag);
}

static inline void attention_tangent_one(struct suite *s, const struct att_setup *c)
{
    att_label(s, "tangent", c);
    struct att_items x = att_saved(s, c);
    int64_t b = c->batch, l = c->len, width = c->heads * c->head;
    struct item *qkv_t = real3(s, FILL_RANDOM, b, l, 3 * width);
    struct item *dout = real3(s, FILL_RANDOM, b, l, width),
                *dout_t = real3(s, FILL_RANDOM, b, l, width);
    struct item *out_t = real3(s, FILL_NAN, b, l, width), *alone = real3(s, FILL_NAN, b, l, width);
    struct item *dqkv = real3(s, FILL_NAN, b, l, 3 * width);
    struct item *dqkv_t = real3(s, FILL_NAN, b, l, 3 * width);
    struct item *dmem_t = real3(s, FILL_NAN, b, c->mem, 3 * width);
    struct item *drk_t = real2(s, FILL_RANDOM, x.rk->t[0].dim[0], width);
    struct item *dr_w_t = real2(s, FILL_RANDOM, c->heads, c->head);
    struct item *dr_r_t = real2(s, FILL_RANDOM, c->heads, c->head);
    struct att_magnitude m = att_magnitude_of(c, &x, dout->value);
    BOTH_SIDES(i)
    {
        struct attention_tangent p = {
            .fwd = att_call(&x, c, i), .qkv_t = qkv_t->t[i], .out_t = alone->t[i]};
        op_attention_tangent(s->be[i], &p);
        p.out_t = out_t->t[i];
        p.dout = dout->t[i];
        p.dout_t = dout_t->t[i];
        p.dqkv = dqkv->t[i];
        p.dqkv_t = dqkv_t->t[i];
        if (c->extras) {
            p.dmem_t = c->mem > 0 ? dmem_t->t[i] : (struct tensor){0};
            p.drk_t = drk_t->t[i];
            p.dr_w_t = dr_w_t->t[i];
            p.dr_r_t = dr_r_t->t[i];
        }
        if (c->plain)
            p.drk_t.data = p.dr_w_t.data = p.dr_r_t.data = NULL;
        op_attention_tangent(s->be[i], &p);
    }
    struct att_tangent_bound bound = att_tangent_bound_of(c, &m);
    double rows = fmax(1, (double)l), all = fmax(1, (double)(b * l));
    double key = 2 * c->amp * bound.d_t + bound.d;
    att_tangent_compare(s, alone, "out_t alone", bound.out_t, bound.terms);
    att_tangent_compare(s, out_t, "out_t", bound.out_t, bound.terms);
    att_tangent_compare(s, dqkv, "dqkv", rows * fmax(2 * c->amp * bound.d, 2), bound.terms);
    att_tangent_compare(s, dqkv_t, "dqkv_t", rows * key, bound.terms);
    if (c->extras) {
        if (c->mem > 0)
            att_tangent_compare(s, dmem_t, "dmem_t", rows * key, bound.terms);
    }
    if (c->extras && !c->plain) {
        att_tangent_compare(s, drk_t, "drk_t", all * key + 1, bound.terms);
        att_tangent_compare(s, dr_w_t, "dr_w_t", all * key + 1, bound.terms);
        att_tangent_compare(s, dr_r_t, "dr_r_t", all * key + 1, bound.terms);
    }
    att_magnitude_free(&m);
    suite_sweep(s);
}

static inline void case_attention_tangent(struct suite *s)
{
    attention_each(s, attention_tangent_one);
}

#endif
