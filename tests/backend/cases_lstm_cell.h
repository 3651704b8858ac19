/* Cases of the conformance suite: blocks of wider arrays, the gates of the trellis cell. */
#ifndef DEQ_TESTS_BACKEND_CASES_LSTM_CELL_H
#define DEQ_TESTS_BACKEND_CASES_LSTM_CELL_H

#include "backend/suite.h"

/* A block of [B,T,D] that starts `skip` numbers into each row of wider arrays. Copied numbers are
 * exact, masked ones take one rounding; everything between the rows must stay. */
static inline void copy_block_one(struct suite *s, const int64_t size[3], bool masked, bool wide)
{
    int64_t b = size[0], t = size[1], d = size[2], pad = wide ? 5 : 0, skip = wide ? 2 : 0;
    int64_t more = wide ? 3 : 0; /* rows between sequences */
    suite_label(s, "%lld x %lld x %lld mask %d wide %d", (long long)b, (long long)t, (long long)d,
                masked, wide);
    struct item *to = real3(s, FILL_RANDOM, b, t + more, d + pad);
    struct item *from = real3(s, FILL_RANDOM, b, t + 2 * more, d + 2 * pad);
    struct item *mask = maybe2(s, masked, FILL_MASK, b, d);
    if (b * t * d > 0)
        suite_poke(s, from, skip, NAN);
    BOTH_SIDES(i)
    {
        size_t offset = (size_t)skip * dtype_size(s->be[i]->ops->real);
        struct copy_block p = {.to = to->t[i], .from = from->t[i], .mask = mask->t[i]};
        p.to.data = (char *)p.to.data + offset;
        p.from.data = (char *)p.from.data + offset;
        if (wide) {
            p.to_batch = (t + more) * (d + pad);
            p.to_row = d + pad;
            p.from_batch = (t + 2 * more) * (d + 2 * pad);
            p.from_row = d + 2 * pad;
        }
        p.to.dim[1] = p.from.dim[1] = t;
        p.to.dim[2] = p.from.dim[2] = d;
        op_copy_block(s->be[i], &p);
    }
    suite_close(s, to, "to", NULL, masked ? 2 : 0);
    suite_sweep(s);
}

static inline void case_copy_block(struct suite *s)
{
    const int64_t sizes[][3] = {{1, 1, 1}, {0, 3, 4}, {2, 3, 31}, {3, 1, 32}, {2, 40, 130}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 4; flags++)
            copy_block_one(s, sizes[k], flags & 1, flags & 2);
}

/* pre, u, bias below `amp` each: their sum errs by 3 amp eps, a gate by its slope (at most 1) times
 * that and some roundings; c' and h' by those of four gates below 1. */
static inline void gate_one(struct suite *s, const int64_t size[4], bool start, double amp)
{
    int64_t b = size[0], l = size[1], r = size[2], h = size[3];
    suite_label(s, "%lld x %lld of %lld rows, width %lld, c0 %d, amp %g", (long long)b,
                (long long)l, (long long)r, (long long)h, start, amp);
    struct item *pre = real3(s, FILL_RANDOM, b, r, 4 * h), *u = real3(s, FILL_RANDOM, b, r, 4 * h);
    struct item *bias = real1(s, FILL_RANDOM, 4 * h), *z = real3(s, FILL_RANDOM, b, l, 2 * h);
    struct item *c0 = maybe2(s, start, FILL_RANDOM, b, h);
    struct item *out = real3(s, FILL_NAN, b, l, 2 * h);
    for (int64_t k = 0; k < pre->count; k++)
        pre->value[k] *= amp;
    suite_send(s, pre);
    if (amp > 1 && pre->count > 0)
        suite_poke(s, pre, 0, NAN);
    BOTH_SIDES(i)
    {
        struct lstm_cell p = {pre->t[i], u->t[i], bias->t[i], z->t[i], c0->t[i], out->t[i]};
        op_lstm_cell(s->be[i], &p);
    }
    suite_close(s, out, "out", NULL, 6 * amp + 40);
    if (r == l) /* otherwise the rows between sequences are unspecified */
        suite_close(s, pre, "gates", NULL, 3 * amp + 12);
    pre->compared = true;
    suite_sweep(s);
}

static inline void case_lstm_cell(struct suite *s)
{
    const int64_t sizes[][4] = {{1, 1, 1, 1},  {0, 2, 3, 4},  {2, 5, 5, 31},
                                {2, 5, 7, 16}, {3, 4, 5, 33}, {2, 40, 41, 70}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 4; flags++)
            gate_one(s, sizes[k], flags & 1, flags & 2 ? 120 : 1);
}

/* All inputs below 1, gates included, so dc' is below 2 and a product of it with three more factors
 * of at most 1 and one of at most 2 below 4: a dozen roundings of that. */
static inline void gate_vjp_one(struct suite *s, const int64_t size[4], bool start, bool nan)
{
    int64_t b = size[0], l = size[1], r = size[2], h = size[3];
    suite_label(s, "%lld x %lld of %lld rows, width %lld, c0 %d, nan %d", (long long)b,
                (long long)l, (long long)r, (long long)h, start, nan);
    struct item *gates = real3(s, FILL_RANDOM, b, r, 4 * h),
                *z = real3(s, FILL_RANDOM, b, l, 2 * h);
    struct item *c0 = maybe2(s, start, FILL_RANDOM, b, h);
    struct item *out = real3(s, FILL_RANDOM, b, l, 2 * h);
    struct item *dout = real3(s, FILL_RANDOM, b, l, 2 * h);
    struct item *dpre = real3(s, FILL_NAN, b, r, 4 * h), *dz = real3(s, FILL_RANDOM, b, l, 2 * h);
    struct item *dc0 = maybe2(s, start, FILL_NAN, b, h);
    if (nan && dout->count > 0)
        suite_poke(s, dout, h, NAN);
    BOTH_SIDES(i)
    {
        struct lstm_cell_vjp p = {gates->t[i], z->t[i],    c0->t[i], out->t[i],
                                  dout->t[i],  dpre->t[i], dz->t[i], dc0->t[i]};
        op_lstm_cell_vjp(s->be[i], &p);
    }
    suite_close(s, dpre, "dpre", NULL, 48);
    suite_close(s, dz, "dz", NULL, 16);
    if (start)
        suite_close(s, dc0, "dc0", NULL, 16);
    suite_sweep(s);
}

static inline void case_lstm_cell_vjp(struct suite *s)
{
    const int64_t sizes[][4] = {{1, 1, 1, 1},  {0, 2, 3, 4},  {2, 5, 5, 31},
                                {2, 5, 7, 16}, {3, 4, 5, 33}, {2, 40, 41, 70}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int flags = 0; flags < 4; flags++)
            gate_vjp_one(s, sizes[k], flags & 1, flags & 2);
}

#endif
