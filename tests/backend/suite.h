/* The conformance suite of the backends: tools.
 *
 * A case builds its tensors twice, on the backend under test and on the float64 reference, from
 * the same numbers (all of them float32, so that both see identical inputs), runs an operation on
 * both and compares. Behind the case's back:
 *  - every tensor lies between guard bands, and moved off its 64-byte alignment in a second pass;
 *  - outputs start as NaN, so that an element left out shows;
 *  - a tensor that the case has not compared must come out bit for bit as it went in;
 *  - the bits of all results go into a digest: the same case run twice must give the same one.
 *
 * Tolerances are first-order bounds of the rounding error, terms * eps * magnitude, with eps the
 * spacing of the tested backend's real type at 1 (two unit roundoffs, which leaves a factor of two
 * for the second order). A sum of n products in any order errs by at most n * eps/2 * sum |a||b|;
 * every further rounding adds one term. A comparison is written so that a NaN cannot pass. */
#ifndef DEQ_TESTS_BACKEND_SUITE_H
#define DEQ_TESTS_BACKEND_SUITE_H

#include "backend/backend.h"
#include "base/mem.h"
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SIDES = 2 }; /* 0 the backend under test, 1 the reference */
enum { GUARD = 64, SUITE_ITEMS = 48 };

enum fill { FILL_RANDOM, FILL_POSITIVE, FILL_MASK, FILL_NAN, FILL_ZERO };

/* One tensor on both sides. */
struct item {
    struct tensor t[SIDES];      /* what the case uses */
    struct tensor raw[SIDES];    /* owns: bytes with the guard bands */
    unsigned char *image[SIDES]; /* owns: the bytes as uploaded */
    double *value;               /* owns: the numbers as uploaded */
    size_t offset[SIDES];        /* of the first number in raw */
    int64_t count;
    bool compared;
};

struct suite {
    struct backend *be[SIDES]; /* borrows */
    double eps;                /* of the backend under test */
    int shift;                 /* numbers by which tensors are moved off their alignment */
    bool low_precision;        /* suite_make makes low-precision tensors where it would real ones */
    struct rng_key key;
    uint64_t drawn;
    struct item item[SUITE_ITEMS];
    int items;
    uint64_t digest;
    int64_t compared; /* numbers */
    double worst;     /* largest error so far, as a fraction of its tolerance */
    int64_t failures;
    char label[200]; /* the configuration at work */
    char first[600]; /* the first failure */
};

#define BOTH_SIDES(i) for (int i = 0; i < SIDES; i++)

__attribute__((format(printf, 2, 3))) static inline void suite_label(struct suite *s,
                                                                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s->label, sizeof s->label, format, args);
    va_end(args);
}

__attribute__((format(printf, 2, 3))) static inline void suite_fail(struct suite *s,
                                                                    const char *format, ...)
{
    if (s->failures++ > 0)
        return;
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(s->first, sizeof s->first, "%s (%s, shift %d, backend %s)", text, s->label, s->shift,
             s->be[0]->ops->name);
}

static inline void *suite_memory(size_t count, size_t size)
{
    struct error err;
    void *p = NULL;
    if (mem_alloc(&p, count, size, &err) != STATUS_OK)
        abort();
    return p;
}

/* Uniform in [-1, 1], a float32. */
static inline double suite_random(struct suite *s)
{
    return (float)(2 * rng_uniform(s->key, s->drawn++) - 1);
}

static inline int64_t suite_below(struct suite *s, int64_t n)
{
    return (int64_t)(rng_uniform(s->key, s->drawn++) * (double)n);
}

static inline double suite_fill_value(struct suite *s, enum fill fill)
{
    switch (fill) {
    case FILL_RANDOM:
        return suite_random(s);
    case FILL_POSITIVE:
        return (float)(0.75 + 0.5 * suite_random(s));
    case FILL_MASK:
        return suite_random(s) < -0.5 ? 0 : 1.25;
    case FILL_NAN:
        return NAN;
    case FILL_ZERO:
        return 0;
    }
    return 0;
}

static inline uint32_t suite_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The nearest bfloat16, ties to even. */
static inline float suite_bf16(float x)
{
    uint32_t bits = suite_bits(x), nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
    nearest &= 0xffff0000u;
    if (isnan(x))
        return x;
    memcpy(&x, &nearest, sizeof x);
    return x;
}

static inline double suite_decode(const unsigned char *at, enum dtype dtype, int64_t i)
{
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)(const void *)at)[i];
    case DTYPE_F64:
        return ((const double *)(const void *)at)[i];
    case DTYPE_I32:
        return ((const int32_t *)(const void *)at)[i];
    case DTYPE_U8:
        return at[i];
    case DTYPE_BF16: {
        uint32_t bits = (uint32_t)((const uint16_t *)(const void *)at)[i] << 16;
        float x;
        memcpy(&x, &bits, sizeof x);
        return x;
    }
    }
    return NAN;
}

static inline void suite_encode(unsigned char *at, enum dtype dtype, int64_t i, double x)
{
    switch (dtype) {
    case DTYPE_F32:
        ((float *)(void *)at)[i] = (float)x;
        break;
    case DTYPE_F64:
        ((double *)(void *)at)[i] = x;
        break;
    case DTYPE_I32:
        ((int32_t *)(void *)at)[i] = (int32_t)x;
        break;
    case DTYPE_U8:
        at[i] = (unsigned char)x;
        break;
    case DTYPE_BF16:
        ((uint16_t *)(void *)at)[i] = (uint16_t)(suite_bits(suite_bf16((float)x)) >> 16);
        break;
    }
}

static inline void suite_send(struct suite *s, struct item *it)
{
    BOTH_SIDES(i)
    {
        for (int64_t k = 0; k < it->count; k++)
            suite_encode(it->image[i] + it->offset[i], it->t[i].dtype, k, it->value[k]);
        op_upload(s->be[i], &it->raw[i], it->image[i], DTYPE_U8);
    }
}

/* A tensor on both sides, of the backend's real type or of `dtype`. `values` may be NULL: then it
 * is filled. It lives until suite_sweep. */
static inline struct item *suite_make(struct suite *s, bool real, enum dtype dtype, enum fill fill,
                                      const double *values, int ndim, int64_t d0, int64_t d1,
                                      int64_t d2, int64_t d3)
{
    struct error err;
    assert(s->items < SUITE_ITEMS);
    struct item *it = &s->item[s->items++];
    *it = (struct item){.count = d0 * d1 * d2 * d3};
    it->value = suite_memory((size_t)it->count, sizeof *it->value);
    for (int64_t k = 0; k < it->count; k++)
        it->value[k] = values != NULL ? values[k] : suite_fill_value(s, fill);
    for (int64_t k = 0; s->low_precision && k < it->count; k++)
        it->value[k] = suite_bf16((float)it->value[k]);
    BOTH_SIDES(i)
    {
        enum dtype type = real ? s->be[i]->ops->real : dtype;
        type = real && s->low_precision ? op_low_precision(s->be[i]) : type;
        struct tensor *raw = &it->raw[i], view = tensor_make(NULL, type, ndim, d0, d1, d2, d3);
        it->offset[i] = GUARD + (size_t)s->shift * dtype_size(type);
        size_t bytes = it->offset[i] + tensor_bytes(&view) + GUARD;
        if (op_alloc(s->be[i], raw, DTYPE_U8, 1, (int64_t)bytes, 1, 1, 1, &err) != STATUS_OK)
            abort();
        it->image[i] = suite_memory(bytes, 1);
        memset(it->image[i], 0xA5, bytes);
        view.data = (char *)raw->data + it->offset[i];
        it->t[i] = view;
    }
    suite_send(s, it);
    return it;
}

static inline struct item *real1(struct suite *s, enum fill fill, int64_t n)
{
    return suite_make(s, true, DTYPE_F64, fill, NULL, 1, n, 1, 1, 1);
}

static inline struct item *real2(struct suite *s, enum fill fill, int64_t rows, int64_t cols)
{
    return suite_make(s, true, DTYPE_F64, fill, NULL, 2, rows, cols, 1, 1);
}

/* Numbers that bfloat16 holds, in the type of low-precision tensors of either side. */
static inline struct item *narrow2(struct suite *s, enum fill fill, int64_t rows, int64_t cols)
{
    s->low_precision = true;
    struct item *it = suite_make(s, true, DTYPE_F64, fill, NULL, 2, rows, cols, 1, 1);
    s->low_precision = false;
    return it;
}

static inline struct item *real3(struct suite *s, enum fill fill, int64_t d0, int64_t d1,
                                 int64_t d2)
{
    return suite_make(s, true, DTYPE_F64, fill, NULL, 3, d0, d1, d2, 1);
}

/* I32 numbers, drawn below `limit`; limit 0: all zero. */
static inline struct item *int1(struct suite *s, int64_t n, int64_t limit)
{
    struct item *it = suite_make(s, false, DTYPE_I32, FILL_ZERO, NULL, 1, n, 1, 1, 1);
    for (int64_t i = 0; limit > 0 && i < n; i++)
        it->value[i] = (double)suite_below(s, limit);
    suite_send(s, it);
    return it;
}

/* A real tensor if `wanted`, otherwise one without data. */
static inline struct item *maybe2(struct suite *s, bool wanted, enum fill fill, int64_t rows,
                                  int64_t cols)
{
    struct item *it = real2(s, fill, rows, cols);
    BOTH_SIDES(i)
    {
        if (!wanted)
            it->t[i].data = NULL;
    }
    return it;
}

/* Changes one number on both sides. */
static inline void suite_poke(struct suite *s, struct item *it, int64_t at, double value)
{
    assert(at >= 0 && at < it->count);
    it->value[at] = value;
    suite_send(s, it);
}

/* The numbers of one side now, to be freed with mem_free. */
static inline double *suite_fetch(struct suite *s, const struct item *it, int side)
{
    size_t bytes = tensor_bytes(&it->raw[side]);
    unsigned char *now = suite_memory(bytes, 1);
    double *x = suite_memory((size_t)it->count, sizeof *x);
    op_download(s->be[side], now, DTYPE_U8, &it->raw[side]);
    for (int64_t k = 0; k < it->count; k++)
        x[k] = suite_decode(now + it->offset[side], it->t[side].dtype, k);
    for (size_t k = 0; side == 0 && k < tensor_bytes(&it->t[0]); k++)
        s->digest = (s->digest ^ now[it->offset[0] + k]) * 1099511628211u; /* FNV-1a */
    mem_free(now);
    return x;
}

/* Terms for factors that were rounded to TF32's 10 bits of mantissa. The reference rounds to
 * nearest, ties away from zero. A device may do so, or break ties to even, or cut off: each of two
 * factors then differs by one unit, 2^-10, at most. Other roundings are prescribed. */
static inline double suite_rounding_terms(const struct suite *s)
{
    return s->be[0]->precision == PRECISION_TF32 ? 0x1p-9 / s->eps : 0;
}

/* Both sides must agree within terms * eps * mag[k] (mag NULL: 1). Equal infinities agree, and a
 * NaN only with a NaN. With `nan_only` just the NaNs of the reference are demanded. */
static inline void suite_compare(struct suite *s, struct item *it, const char *what,
                                 const double *mag, double terms, bool nan_only)
{
    double *got = suite_fetch(s, it, 0), *want = suite_fetch(s, it, 1);
    it->compared = true;
    for (int64_t k = 0; k < it->count; k++) {
        /* what is lost below the smallest normal number, which may be flushed to zero */
        double tiny = s->eps == DBL_EPSILON ? DBL_MIN : FLT_MIN;
        double tol = terms * (s->eps * (mag != NULL ? mag[k] : 1) + tiny);
        double err = fabs(got[k] - want[k]);
        bool good = isnan(want[k]) ? isnan(got[k]) : nan_only || got[k] == want[k];
        good = good || err <= tol;
        if (!nan_only && err > s->worst * tol)
            s->worst = err / tol;
        s->compared++;
        if (!good)
            suite_fail(s, "%s[%lld of %lld]: got %.9g, want %.9g within %.3g", what, (long long)k,
                       (long long)it->count, got[k], want[k], tol);
    }
    mem_free(got);
    mem_free(want);
}

static inline void suite_close(struct suite *s, struct item *it, const char *what,
                               const double *mag, double terms)
{
    suite_compare(s, it, what, mag, terms, false);
}

static inline void suite_equal(struct suite *s, struct item *it, const char *what)
{
    suite_compare(s, it, what, NULL, 0, false);
}

static inline void suite_expect(struct suite *s, bool good, const char *what)
{
    s->compared++;
    if (!good)
        suite_fail(s, "%s", what);
}

static inline void suite_sweep_side(struct suite *s, struct item *it, int i)
{
    size_t bytes = tensor_bytes(&it->raw[i]), start = it->offset[i];
    size_t end = bytes - GUARD;
    unsigned char *now = suite_memory(bytes, 1);
    op_download(s->be[i], now, DTYPE_U8, &it->raw[i]);
    if (memcmp(now, it->image[i], start) != 0)
        suite_fail(s, "tensor %d: written below its start", (int)(it - s->item));
    if (memcmp(now + end, it->image[i] + end, GUARD) != 0)
        suite_fail(s, "tensor %d: written beyond its end", (int)(it - s->item));
    if (!it->compared && memcmp(now + start, it->image[i] + start, end - start) != 0)
        suite_fail(s, "tensor %d: an input was changed", (int)(it - s->item));
    mem_free(now);
}

/* Ends a configuration: guard bands, unchanged inputs, faults; frees its tensors. */
static inline void suite_sweep(struct suite *s)
{
    struct error err;
    for (int k = 0; k < s->items; k++) {
        struct item *it = &s->item[k];
        BOTH_SIDES(i)
        {
            suite_sweep_side(s, it, i);
            op_release(s->be[i], &it->raw[i]);
            mem_free(it->image[i]);
        }
        mem_free(it->value);
    }
    s->items = 0;
    if (backend_check(s->be[0], &err) != STATUS_OK)
        suite_fail(s, "%s", err.text);
}

#endif
