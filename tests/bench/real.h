/* The plan compared with a real step, which must make exactly the calls, operations, bytes and
 * memory that were counted, phase by phase. Shared by the tests on several backends. */
#ifndef DEQ_TESTS_BENCH_REAL_H
#define DEQ_TESTS_BENCH_REAL_H

#include "bench/plan.h"
#include "deq/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

typedef enum status open_fn(struct backend *be, struct error *err);

static const struct chip tiny_chip = {.name = "tiny",
                                      .peak = {1e9, 2e9, 4e9},
                                      .bandwidth = 1e9,
                                      .memory = 1e9,
                                      .product_share = 0.5,
                                      .bandwidth_share = 0.5,
                                      .call_seconds = 1e-6,
                                      .sync_seconds = 2e-6,
                                      .chunk_numbers = 4096};

/* A small setting, changed by `set`, which NULL ends. Every solve has a fixed number of steps,
 * because a plan cannot know how many a tolerance takes. */
static inline struct config setting(const char *const *set)
{
    static const char *const small[] = {
        "model.d_model=32",
        "model.n_head=2",
        "model.d_inner=48",
        "model.vocab_size=300",
        "train.batch=4",
        "train.tgt_len=6",
        "train.mem_len=8",
        "train.pretrain_steps=0",
        "solver.forward.stop=fixed",
        "solver.backward.stop=fixed",
        "solver.forward.max_iter=5",
        "solver.backward.max_iter=4",
        "eval.batch=2",
        "eval.tgt_len=6",
        "eval.mem_len=8",
        NULL,
    };
    return config_of(300, small, set);
}

static inline void same_stat(const struct op_stat *plan, const struct op_stat *real,
                             const char *where, int op)
{
    if (plan->calls != real->calls || plan->flops != real->flops || plan->bytes != real->bytes)
        fail_msg("%s, %s: planned %lld calls, %.17g flops, %.17g bytes; it was %lld, %.17g, %.17g",
                 where, op_name((enum op_id)op), (long long)plan->calls, plan->flops, plan->bytes,
                 (long long)real->calls, real->flops, real->bytes);
}

static inline void plan_is_real_on(open_fn *open, struct chip chip, const char *const *set)
{
    struct config config = setting(set);
    struct backend be = {0};
    struct bench_step_result real;
    struct plan plan;
    struct error err;
    assert_ok(open(&be, &err), &err);
    chip.chunk_numbers = be.ops->chunk_numbers;
    chip.ffn_rows = be.ops->ffn_rows;
    const struct bench_options one_step = {.train = true, .steps = 1};
    assert_ok(bench_run(&be, &config, &one_step, &real, &err), &err);
    size_t peak = be.peak_bytes, sum = 0;
    backend_close(&be);
    assert_ok(plan_make(&plan, &config, &chip, &err), &err);
    int64_t calls = 0;
    for (int i = 0; i < OP_COUNT; i++) {
        same_stat(&plan.counts.stat[i], &real.stat[i], "step", i);
        calls += real.stat[i].calls;
        struct op_stat phases = {0};
        for (int p = 0; p < BENCH_COUNT; p++) {
            same_stat(&plan.counts.phase[p][i], &real.phase[p][i],
                      bench_phase_text((enum bench_phase)p), i);
            phases.calls += real.phase[p][i].calls;
        }
        assert_int_equal(phases.calls, real.stat[i].calls); /* every call lies in a phase */
    }
    assert_true(calls > 100);
    for (int i = 0; i < PART_COUNT; i++) {
        assert_int_equal(plan.memory.part[i], real.planned[i]);
        sum += plan.memory.part[i];
    }
    assert_int_equal(sum, peak);
    assert_int_equal(plan.counts.parameters, real.parameters);
    assert_true(plan.counts.forward_evals == real.forward_evals);
    assert_true(plan.counts.backward_evals == real.backward_evals);
}

#endif
