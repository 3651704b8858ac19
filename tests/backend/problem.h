/* Shared by tests of the reference backend's derivatives: a backend, tensors of random numbers. */
#ifndef DEQ_TESTS_BACKEND_PROBLEM_H
#define DEQ_TESTS_BACKEND_PROBLEM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/ref/ref.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { INPUTS = 8, TENSORS = 48 };

/* An input and what the vjp says its gradient is. */
struct input {
    const char *name;
    struct tensor x, grad;
};

struct problem {
    struct backend be;
    struct input in[INPUTS];
    int inputs;
    struct tensor owned[TENSORS]; /* owns */
    int tensors;
    struct rng_key key;
    uint64_t drawn;
    const void *call;                   /* borrows */
    double (*loss)(struct problem *pr); /* sum of u * output at the current inputs */
};

static inline void problem_open(struct problem *pr, uint64_t seed)
{
    struct error err;
    *pr = (struct problem){.key = {seed, 0}};
    assert_int_equal(ref_open(&pr->be, &err), STATUS_OK);
}

/* A tensor of uniform numbers in [-1, 1]; zero_tensor one of zeros. */
static inline struct tensor zero_tensor(struct problem *pr, int64_t d0, int64_t d1, int64_t d2)
{
    struct error err;
    assert_true(pr->tensors < TENSORS);
    struct tensor *t = &pr->owned[pr->tensors++];
    assert_int_equal(op_alloc(&pr->be, t, DTYPE_F64, 3, d0, d1, d2, 1, &err), STATUS_OK);
    return *t;
}

static inline struct tensor random_tensor(struct problem *pr, int64_t d0, int64_t d1, int64_t d2)
{
    struct tensor t = zero_tensor(pr, d0, d1, d2);
    for (int64_t i = 0; i < tensor_count(&t); i++)
        ((double *)t.data)[i] = 2 * rng_uniform(pr->key, pr->drawn++) - 1;
    return t;
}

static inline struct tensor matrix(struct tensor t)
{
    return tensor_matrix(&t);
}

/* Registers an input; its gradient starts with 0. */
static inline struct tensor gradient_of(struct problem *pr, const char *name, struct tensor x)
{
    struct tensor grad = zero_tensor(pr, x.dim[0], x.dim[1], x.dim[2]);
    grad.ndim = x.ndim;
    pr->in[pr->inputs++] = (struct input){name, x, grad};
    return grad;
}

static inline double dot(const struct tensor *a, const struct tensor *b)
{
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(a); i++)
        sum += ((double *)a->data)[i] * ((double *)b->data)[i];
    return sum;
}

enum { ATT_BATCH = 2, ATT_HEADS = 2, ATT_HEAD = 3, ATT_WIDTH = ATT_HEADS * ATT_HEAD };

/* Arguments of attention over `len` random positions behind `mem` of memory. */
static inline struct attention random_attention(struct problem *pr, int64_t len, int64_t mem,
                                                int64_t span, bool masked)
{
    struct attention p = {.qkv = random_tensor(pr, ATT_BATCH, len, 3 * ATT_WIDTH),
                          .rk = matrix(random_tensor(pr, 1, mem + len + 1, ATT_WIDTH)),
                          .r_w = random_tensor(pr, 1, ATT_HEADS, ATT_HEAD),
                          .r_r = random_tensor(pr, 1, ATT_HEADS, ATT_HEAD),
                          .out = zero_tensor(pr, ATT_BATCH, len, ATT_WIDTH),
                          .lse = zero_tensor(pr, ATT_BATCH, ATT_HEADS, len),
                          .mask_scale = masked ? 1.25 : 1,
                          .heads = ATT_HEADS,
                          .span = span};
    if (mem > 0)
        p.mem = random_tensor(pr, ATT_BATCH, mem, 3 * ATT_WIDTH);
    if (masked) {
        p.mask = zero_tensor(pr, ATT_BATCH, ATT_HEADS, len * (mem + len)); /* room enough */
        p.mask.dtype = DTYPE_U8;
        op_dropout_mask(&pr->be, &p.mask, 0.2, pr->key, 0);
    }
    return p;
}

/* Of central differences: their truncation is of order step^2, their rounding 1e-16 / step. */
static const double step = 1e-5;

#endif
