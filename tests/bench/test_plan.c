/* The plan on the processor, and its arithmetic by hand. */
#include "backend/count/memory_check.h"
#include "backend/cpu/cpu.h"
#include "bench/real.h"

static enum status open_cpu(struct backend *be, struct error *err)
{
    return cpu_open(be, 1, err);
}

static void plan_is_real(const char *const *set)
{
    plan_is_real_on(open_cpu, tiny_chip, set);
}

static void test_methods(void **state)
{
    (void)state;
    plan_is_real(SET("solver.forward.method=broyden", "solver.backward.method=broyden",
                     "solver.forward.scope=batch", "solver.forward.history=3"));
    plan_is_real(SET("solver.forward.method=anderson", "solver.forward.scope=prefix",
                     "model.dropout=0.1", "model.dropatt=0.1"));
    plan_is_real(SET("solver.forward.method=picard", "gradient.method=phantom"));
    plan_is_real(SET("gradient.method=unroll"));
    plan_is_real(SET("gradient.method=reversible", "gradient.damping=0.5"));
    plan_is_real(SET("gradient.method=truncated", "train.start_noise=0.5"));
    plan_is_real(
        SET("train.optimizer=muon", "train.weight_decay=0.1", "train.beta2_embedding=0.99"));
    plan_is_real(
        SET("gradient.method=one-step", "train.weight_decay=0.1", "train.optimizer=adamw"));
}

static void test_models(void **state)
{
    (void)state;
    plan_is_real(SET("model.cutoffs=[20,100]", "model.div_val=2", "train.accumulate=2"));
    plan_is_real(SET("model.pre_lnorm=true", "model.norm=rms", "model.blocks=2"));
    plan_is_real(SET("model.layers=3", "model.tie_layers=false", "gradient.recompute=1"));
    plan_is_real(SET("model.cell=trellis", "model.nhid=24", "model.nout=16", "model.d_embed=16",
                     "model.wdrop=0.1", "model.emb_dropout=0.1"));
    plan_is_real(SET("model.cell=modern", "model.norm=rms", "model.n_kv_head=1"));
    plan_is_real(SET("model.cell=modern", "model.prelude=1", "model.coda=1", "model.blocks=2",
                     "model.inject=decay", "model.norm_place=post", "model.wnorm=true"));
    plan_is_real(SET("train.mem_len=40", "train.tgt_len=6")); /* memory that fills slowly */
}

/* What each part of memory holds at the peak, by hand: in a solve with so long a history. */
static void test_memory_parts(void **state)
{
    (void)state;
    struct config config = setting(SET("model.wnorm=false", "solver.forward.method=anderson",
                                       "solver.forward.history=16", "solver.backward.history=16"));
    struct plan_memory m;
    struct error err;
    assert_ok(plan_memory(&m, &config, &tiny_chip, &err), &err);
    assert_int_equal(m.part[PART_GRADIENTS], m.part[PART_PARAMETERS]);
    assert_true(m.part[PART_OPTIMIZER] >= 2 * m.part[PART_PARAMETERS]);
    assert_true(m.part[PART_OPTIMIZER] <= 2 * m.part[PART_PARAMETERS] + 8);
    size_t rows = 4 * 6, d = 32, memory = 4 * 8;
    assert_int_equal(m.part[PART_MEMORY], memory * 4 * d * sizeof(float)); /* z and u */
    assert_true(m.part[PART_ACTIVATIONS] >= rows * (3 * d + 48 + d) * sizeof(float));
    assert_true(m.part[PART_SOLVER] >= 2 * 16 * rows * d * sizeof(float)); /* iterates, residuals */
    assert_true(m.evaluation > 0 && m.total > m.evaluation);
    assert_int_equal(m.scratch, 0);
}

/* Operands in bfloat16 take a pass each, and memory for the largest pair. */
static void test_rounding(void **state)
{
    (void)state;
    struct count_device device = {.product_rate = 1e3,
                                  .plain_rate = 1,
                                  .bandwidth = 100,
                                  .call_seconds = 1,
                                  .rounds = true,
                                  .chunk_numbers = 1};
    struct backend be;
    struct tensor a, b, c;
    struct error err;
    assert_ok(count_open(&be, &device, &err), &err);
    assert_ok(op_alloc(&be, &a, DTYPE_F32, 2, 2, 5, 1, 1, &err), &err);
    assert_ok(op_alloc(&be, &b, DTYPE_F32, 2, 5, 3, 1, 1, &err), &err);
    assert_ok(op_alloc(&be, &c, DTYPE_F32, 2, 2, 3, 1, 1, &err), &err);
    assert_ptr_not_equal(a.data, b.data);
    op_gemm(&be, &(struct gemm){.alpha = 1, .beta = 1, .a = a, .b = b, .c = c});
    /* passes (10 + 15) * 6 / 100, product max(60 / 1000, (25 * 2 + 2 * 24) / 100), 3 launches */
    assert_true(be.stat[OP_gemm].seconds > 5.4799 && be.stat[OP_gemm].seconds < 5.4801);
    /* rows of 8 numbers and operands of 128 make 256 bytes each */
    assert_int_equal(count_scratch(&be), 512);
    op_release(&be, &a);
    op_release(&be, &b);
    op_release(&be, &c);
    assert_int_equal(be.bytes, 0);
    backend_close(&be);
}

static void test_reserve(void **state)
{
    const size_t gib = (size_t)1 << 30;
    struct backend be = {0};
    (void)state;
    assert_int_equal(memory_check_limit(&be), 0);
    be.device_free = 12 * gib;
    assert_int_equal(memory_check_limit(&be), 12 * gib - gib / 2);
    be.device_free = 128 * gib;
    assert_int_equal(memory_check_limit(&be), 124 * gib);
    be.device_free = 2 * gib;
    assert_int_equal(memory_check_limit(&be), 2 * gib - gib / 16);
}

static void test_fit(void **state)
{
    (void)state;
    struct config config = setting(SET("train.batch=6"));
    struct plan_memory whole, third;
    struct error err;
    int64_t parts;
    size_t needed;
    assert_ok(plan_memory(&whole, &config, &tiny_chip, &err), &err);
    assert_ok(plan_fit(&config, &tiny_chip, (double)whole.total, &parts, &needed, &err), &err);
    assert_int_equal(parts, 1);
    assert_int_equal(needed, whole.total);
    struct config smaller = config;
    smaller.train.accumulate = 3;
    assert_ok(plan_memory(&third, &smaller, &tiny_chip, &err), &err);
    assert_ok(plan_fit(&config, &tiny_chip, (double)third.total, &parts, &needed, &err), &err);
    assert_int_equal(parts, 3);
    assert_int_equal(needed, third.total);
    assert_ok(plan_fit(&config, &tiny_chip, 1000, &parts, &needed, &err), &err);
    assert_int_equal(parts, 0);
}

/* Time and shares follow from the counts. */
static void test_shares(void **state)
{
    (void)state;
    struct config config = setting(SET("train.seed=1"));
    struct plan plan;
    struct error err;
    assert_ok(plan_make(&plan, &config, &tiny_chip, &err), &err);
    const struct op_stat *gemm = &plan.counts.stat[OP_gemm];
    double products = plan_products(plan.counts.stat);
    double share = plan_share(&plan, &config, &tiny_chip, BENCH_COUNT, true);
    double by_hand = products / 1e9 / plan.bound_seconds;
    assert_true(products > gemm->flops);
    assert_true(share > 0 && share <= 1 && share / by_hand > 0.999999 &&
                share / by_hand < 1.000001);
    assert_true(plan.bound[OP_gemm].seconds >= gemm->flops / 1e9);
    assert_true(gemm->seconds >= 2 * plan.bound[OP_gemm].seconds);
    assert_true(plan.seconds > 2 * plan.bound_seconds);
    double phases = 0;
    for (int p = 0; p < BENCH_COUNT; p++)
        phases += plan.phase_seconds[p];
    assert_true(phases / plan.seconds > 0.999999 && phases / plan.seconds < 1.000001);
}

static void test_chips(void **state)
{
    (void)state;
    char names[128];
    chip_names(names, sizeof names);
    assert_string_equal(names, "h100, h200, a100, a100-40");
    assert_null(chip_find("h10"));
    const struct chip *h100 = chip_find("h100");
    struct count_device bf16 = chip_device(h100, PRECISION_BF16, false);
    struct count_device fp32 = chip_device(h100, PRECISION_FP32, true);
    assert_true(bf16.rounds && !fp32.rounds);
    assert_true(bf16.product_rate == h100->peak[PRECISION_BF16] && bf16.call_seconds == 0);
    assert_true(fp32.product_rate < h100->peak[PRECISION_FP32] && fp32.call_seconds > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),      cmocka_unit_test(test_models),
        cmocka_unit_test(test_memory_parts), cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_reserve),      cmocka_unit_test(test_fit),
        cmocka_unit_test(test_shares),       cmocka_unit_test(test_chips),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
