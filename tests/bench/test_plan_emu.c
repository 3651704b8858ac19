/* The plan of a GPU compared with the emulated one, in bfloat16. Calls, operations, bytes and
 * memory must be the same, and so must the launches of products that take more than one. */
#include "bench/real.h"
#include "cuda/cuda.h"
#include "emu/emu.h"

static struct chip emulated_chip(void)
{
    struct chip chip = tiny_chip;
    chip.cuda = true;
    return chip;
}

static void test_steps(void **state)
{
    (void)state;
    plan_is_real_on(cuda_open, emulated_chip(),
                    SET("train.precision=bf16", "model.dropout=0.1", "solver.forward.history=3"));
    plan_is_real_on(cuda_open, emulated_chip(),
                    SET("train.precision=bf16", "model.d_inner=41", "model.wnorm=false",
                        "solver.forward.method=anderson", "gradient.method=phantom"));
    plan_is_real_on(cuda_open, emulated_chip(), SET("model.dropout=0.1"));
}

/* A layer of `width` numbers over 6 rows, once forward and once backward, without a mask if it has
 * 0 mask rows. */
struct layer_call {
    int64_t width, mask_rows;
    bool gated, forward;
    enum precision precision;
};

/* Makes the calls and returns the seconds that were counted for them. */
static double run_layer(struct backend *be, const struct layer_call *c)
{
    enum { N = 6, D = 8 };
    struct tensor x, w1, w2, bias, mask, h, dh, gate;
    struct error err;
    enum dtype real = be->ops->real;
    assert_ok(backend_set_precision(be, c->precision, &err), &err);
    int64_t stride = low_precision_up(D + op_ffn_up_padding(be, c->mask_rows)),
            out = low_precision_up(c->width);
    int64_t bits = c->gated ? op_relu_mask_width(be, c->width) : 0;
    assert_ok(op_alloc(be, &x, real, 2, N, D, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &w1, op_low_precision(be), 2, c->width, stride, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &w2, op_low_precision(be), 2, D, out, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &bias, real, 1, c->width, 1, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &mask, real, 2, c->mask_rows, c->width, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &h, op_low_precision(be), 2, N, c->width, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &dh, op_low_precision(be), 2, N, c->width, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &gate, DTYPE_U8, 2, N, bits, 1, 1, &err), &err);
    struct ffn_up p = {.x = x,
                       .w = w1,
                       .bias = bias,
                       .mask = mask,
                       .h = h,
                       .relu_mask = gate,
                       .w_stride = stride,
                       .rows_per_mask = c->mask_rows > 0 ? N / c->mask_rows : 0,
                       .mask_scale = 2};
    struct ffn_up_vjp q = {.dy = x,
                           .w = c->forward ? w1 : w2,
                           .mask = mask,
                           .h = h,
                           .relu_mask = gate,
                           .dh = dh,
                           .w_stride = c->forward ? stride : out,
                           .rows_per_mask = p.rows_per_mask,
                           .mask_scale = 2,
                           .forward = c->forward};
    p.w.dim[1] = D;
    (c->forward ? &q.w : &q.w)->dim[1] = c->forward ? D : c->width;
    if (c->mask_rows == 0)
        p.mask.data = q.mask.data = NULL;
    if (bits == 0)
        p.relu_mask.data = q.relu_mask.data = NULL;
    backend_reset_stats(be);
    op_ffn_up(be, &p);
    op_ffn_up_vjp(be, &q);
    double seconds = be->stat[OP_ffn_up].seconds + be->stat[OP_ffn_up_vjp].seconds;
    struct tensor *all[] = {&x, &w1, &w2, &bias, &mask, &h, &dh, &gate};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
    return seconds;
}

/* With infinite rates and a second a launch, the plan's seconds are launches. */
static void check_launches(const struct layer_call *c)
{
    struct count_device device = {.product_rate = 1e30,
                                  .plain_rate = 1e30,
                                  .bandwidth = 1e30,
                                  .call_seconds = 1,
                                  .rounds = c->precision == PRECISION_BF16,
                                  .rectifier_passes = true,
                                  .chunk_numbers = 1};
    struct backend be;
    struct error err;
    assert_ok(count_open(&be, &device, &err), &err);
    double planned = run_layer(&be, c);
    backend_close(&be);
    assert_ok(cuda_open(&be, &err), &err);
    (void)run_layer(&be, c); /* finds which way is faster */
    int64_t before = emu_count().launches;
    (void)run_layer(&be, c);
    assert_ok(backend_check(&be, &err), &err);
    backend_close(&be); /* waits */
    int64_t launches = emu_count().launches - before;
    if (planned < (double)launches - 1e-6 || planned > (double)launches + 1e-6)
        fail_msg(
            "width %lld, %lld mask rows, gated %d, forward %d, %s: planned %g launches, it was "
            "%lld",
            (long long)c->width, (long long)c->mask_rows, c->gated, c->forward,
            precision_name(c->precision), planned, (long long)launches);
}

static void test_launches(void **state)
{
    (void)state;
    for (int flags = 0; flags < 32; flags++) {
        struct layer_call c = {.width = flags & 1 ? 40 : 41,
                               .mask_rows = flags & 2 ? 2 : 0,
                               .gated = flags & 4,
                               .forward = flags & 8,
                               .precision = flags & 16 ? PRECISION_BF16 : PRECISION_TF32};
        check_launches(&c);
    }
}

/* A step takes no more scratch than was planned, and not much less. */
static void check_scratch(const char *const *set)
{
    struct config config = setting(set);
    struct chip chip = emulated_chip();
    struct bench_step_result ignored;
    struct plan_memory planned;
    struct backend be;
    struct error err;
    const struct bench_options one_step = {.train = true, .steps = 1};
    assert_ok(cuda_open(&be, &err), &err);
    chip.chunk_numbers = be.ops->chunk_numbers;
    assert_ok(bench_run(&be, &config, &one_step, &ignored, &err), &err);
    size_t taken = cuda_scratch(&be);
    backend_close(&be);
    assert_ok(plan_memory(&planned, &config, &chip, &err), &err);
    print_message("scratch: planned %zu bytes, taken %zu\n", planned.scratch, taken);
    assert_true(taken > 0 && planned.scratch >= taken && planned.scratch <= taken + taken / 4);
}

static void test_scratch(void **state)
{
    (void)state;
    check_scratch(SET("model.dropout=0.1", "train.tgt_len=70", "train.mem_len=20"));
    check_scratch(SET("train.precision=bf16", "train.tgt_len=70"));
    check_scratch(SET("model.d_inner=40", "jacobian.weight=0.1", "train.tgt_len=40"));
    check_scratch(SET("model.n_head=1", "train.batch=6", "train.tgt_len=200", "train.mem_len=1",
                      "solver.forward.max_iter=1", "solver.backward.max_iter=1"));
}

/* Attention of one sequence and one head of 64 columns over `length` positions and as many of
 * memory. */
struct attention_call {
    int64_t length, span;
    bool place;
};

static void run_attention(struct backend *be, const struct attention_call *c, bool vjp)
{
    enum { D = 64 };
    struct tensor qkv, mem, rk, r_w, r_r, out, lse, dqkv, dmem;
    struct error err;
    assert_ok(backend_set_precision(be, PRECISION_BF16, &err), &err);
    assert_ok(op_alloc(be, &qkv, DTYPE_F32, 3, 1, c->length, 3 * D, 1, &err), &err);
    assert_ok(op_alloc(be, &mem, DTYPE_F32, 3, 1, c->length, 3 * D, 1, &err), &err);
    assert_ok(op_alloc(be, &dqkv, DTYPE_F32, 3, 1, c->length, 3 * D, 1, &err), &err);
    assert_ok(op_alloc(be, &dmem, DTYPE_F32, 3, 1, c->length, 3 * D, 1, &err), &err);
    assert_ok(op_alloc(be, &rk, DTYPE_F32, 2, 2 * c->length, D, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &r_w, DTYPE_F32, 2, 1, D, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &r_r, DTYPE_F32, 2, 1, D, 1, 1, &err), &err);
    assert_ok(op_alloc(be, &out, DTYPE_F32, 3, 1, c->length, D, 1, &err), &err);
    assert_ok(op_alloc(be, &lse, DTYPE_F32, 3, 1, 1, c->length, 1, &err), &err);
    struct tensor *all[] = {&qkv, &mem, &dqkv, &dmem, &rk, &r_w, &r_r, &out, &lse};
    struct attention f = {
        .qkv = qkv, .mem = mem, .out = out, .lse = lse, .heads = 1, .span = c->span};
    if (c->place) {
        f.rk = rk;
        f.r_w = r_w;
        f.r_r = r_r;
    }
    backend_reset_stats(be);
    if (vjp)
        op_attention_vjp(
            be, &(struct attention_vjp){.fwd = f, .dout = out, .dqkv = dqkv, .dmem = dmem});
    else
        op_attention(be, &f);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
}

/* With a rate of one operation a second for attention, and no other cost, the plan's seconds are
 * the operations of the matrix instructions. */
static void check_tiles(const struct attention_call *c, bool vjp)
{
    const struct count_device device = {.product_rate = 1e30,
                                        .plain_rate = 1e30,
                                        .attention_rate = 1,
                                        .bandwidth = 1e30,
                                        .rounds = true,
                                        .chunk_numbers = 1};
    enum op_id id = vjp ? OP_attention_vjp : OP_attention;
    struct backend be;
    struct error err;
    assert_ok(count_open(&be, &device, &err), &err);
    run_attention(&be, c, vjp);
    double planned = be.stat[id].seconds / 4096;
    backend_close(&be);
    assert_ok(cuda_open(&be, &err), &err);
    int64_t before = emu_count().matrix_products;
    run_attention(&be, c, vjp);
    assert_ok(backend_check(&be, &err), &err);
    backend_close(&be); /* waits */
    double taken = (double)(emu_count().matrix_products - before);
    if (taken == 0 || planned < taken - 0.5 || planned > taken + 0.5)
        fail_msg("length %lld, span %lld, place %d, vjp %d: planned %g matrix products, it were %g",
                 (long long)c->length, (long long)c->span, c->place, vjp, planned, taken);
}

static void test_attention_tiles(void **state)
{
    (void)state;
    for (int flags = 0; flags < 4; flags++) {
        const struct attention_call whole = {64, 0, flags & 1}, odd = {70, 40, flags & 1};
        check_tiles(&whole, flags & 2);
        if ((flags & 2) == 0) /* the tiles of keys begin elsewhere in the gradient */
            check_tiles(&odd, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_launches),
        cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_attention_tiles),
    };
    return cmocka_run_group_tests_name("plan on emulated cuda", tests, NULL, NULL);
}
