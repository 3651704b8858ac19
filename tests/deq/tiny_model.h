/* A model small enough for finite differences in float64, with memory and other tokens behind it:
 * shared by the tests of gradients. */
#ifndef DEQ_TESTS_DEQ_TINY_MODEL_H
#define DEQ_TESTS_DEQ_TINY_MODEL_H

#include "backend/ref/ref.h"
#include "deq/model.h"
#include "deq/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, LENGTH = 5, MEMORY = 4, VOCAB = 23 };

static inline struct config tiny_config(const char *const *settings)
{
    static const char *const common[] = {
        "model.d_model=8",
        "model.n_head=2",
        "model.d_inner=12",
        "model.wnorm=false",
        "model.init_std=0.25",
        "model.proj_init_std=0.25",
        "model.dropout=0",
        "solver.forward.method=anderson",
        "solver.forward.scope=sequence",
        "solver.forward.stop=abs",
        "solver.forward.tol=1e-13",
        "solver.forward.max_iter=400",
        "solver.forward.history=12",
        "solver.forward.ridge=1e-14",
        "solver.forward.stall=1000",
        "solver.backward.method=anderson",
        "solver.backward.scope=sequence",
        "solver.backward.stop=abs",
        "solver.backward.tol=1e-14",
        "solver.backward.max_iter=400",
        "solver.backward.history=12",
        "solver.backward.ridge=1e-14",
        "solver.backward.stall=1000",
        "train.pretrain_steps=0",
        NULL,
    };
    return config_of(VOCAB, common, settings);
}

struct fixture {
    struct backend be;
    struct model *model;
    int32_t input[BATCH * LENGTH], target[BATCH * LENGTH];
    struct masks masks;
};

static inline void set_up(struct fixture *f, const struct config *config, bool dropout)
{
    struct error err;
    struct model_plan plan = {
        .batch = BATCH, .length = LENGTH, .mem_len = MEMORY, .train = true, .replay = true};
    memset(f, 0, sizeof *f);
    assert_ok(ref_open(&f->be, &err), &err);
    f->be.poison = true;
    assert_ok(model_create(&f->model, &f->be, config, NULL, &plan, &err), &err);
    assert_ok(params_initialize(f->model->params, 7, &err), &err);
    /* biases and cluster rows start at zero: move them, so that their gradients are exercised */
    for (int i = 0; i < f->model->params->count; i++)
        if (f->model->params->list[i].init == INIT_ZERO) {
            struct tensor w = params_weight(f->model->params, i).w;
            op_fill_normal(&f->be, &w, 0.2, (struct rng_key){3, (uint64_t)i});
        }
    for (int i = 0; i < BATCH * LENGTH; i++) {
        f->input[i] = (int32_t)((i * 7 + 3) % VOCAB);
        f->target[i] = (int32_t)((i * 5 + 1) % VOCAB);
    }
    f->masks.source = dropout ? MASKS_DRAWN : MASKS_NONE;
    f->masks.seed = 5;
    /* a first segment, so that there is memory; then other tokens */
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    assert_ok(model_solve(f->model, 0, true, &err), &err);
    model_remember(f->model);
    for (int i = 0; i < BATCH * LENGTH; i++)
        f->input[i] = (int32_t)((i * 3 + 2) % VOCAB);
}

static inline void tear_down(struct fixture *f)
{
    model_free(f->model);
    assert_int_equal(f->be.bytes, 0);
    backend_close(&f->be);
}

#endif
