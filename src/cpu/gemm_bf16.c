/* Products of factors rounded to bfloat16, sums in float32: oneDNN's matmul on processors with
 * AVX512_BF16 or AMX.
 *
 * On one core of a Zen 4 the products of a model of width 256 (512 x 768 x 256 and the like) run
 * 216 to 227 GFLOP/s against 102 to 112 of its SGEMM; rounding both factors anew for every product
 * takes 3 to 8 % of that, so that nothing has to be remembered of weights.
 *
 * A primitive is compiled for one shape. Rows are given to it in multiples of ROW_STEP and the rest
 * in powers of two, and inner dimensions are padded with zeros, so that sizes that differ from step
 * to step (tails of the adaptive softmax) do not need ever new ones. */
#include "cpu/gemm_bf16.h"
#include "base/mem.h"

#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#if DNNL_VERSION_MAJOR == 2

enum { SHAPES = 256, ROW_STEP = 64, INNER_STEP = 32 };
/* Multiplications below which rounding and the call cost more than they save. */
static const double SMALLEST = 1 << 16;

/* What a primitive is compiled for: c[m,n] = alpha a b + beta c. */
struct shape {
    int64_t m, n, inner, c_stride;
    bool trans_a, trans_b;
    float alpha, beta;
};

struct product {
    struct shape shape;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
};

struct bf16 {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product product[SHAPES]; /* owns */
    int count;
    uint16_t *rounded; /* owns: both factors */
    size_t capacity;
};

bool bf16_supported(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static void forget(struct bf16 *g)
{
    for (int i = 0; i < g->count; i++) {
        struct product *p = &g->product[i];
        dnnl_primitive_destroy(p->primitive);
        dnnl_memory_destroy(p->a);
        dnnl_memory_destroy(p->b);
        dnnl_memory_destroy(p->c);
    }
    g->count = 0;
}

enum status bf16_create(struct bf16 **out, struct error *err)
{
    struct bf16 *g = NULL;
    TRY(mem_alloc((void **)&g, 1, sizeof *g, err));
    if (dnnl_engine_create(&g->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&g->stream, g->engine, dnnl_stream_default_flags) != dnnl_success) {
        bf16_free(g);
        return error_set(err, STATUS_DEVICE, "oneDNN cannot open the processor");
    }
    *out = g;
    return STATUS_OK;
}

void bf16_free(struct bf16 *g)
{
    if (g == NULL)
        return;
    forget(g);
    if (g->stream != NULL)
        dnnl_stream_destroy(g->stream);
    if (g->engine != NULL)
        dnnl_engine_destroy(g->engine);
    mem_free(g->rounded);
    mem_free(g);
}

/* Nearest bfloat16, ties to even; a NaN stays one. */
static inline uint16_t round_one(uint32_t bits)
{
    uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : nearest);
}

/* x [rows, cols] with rows `stride` apart, to contiguous rows of `cols_up`, the rest zero; further
 * zero rows up to rows_up. */
static void round_matrix(int threads, uint16_t *to, const float *x, int64_t rows, int64_t cols,
                         int64_t stride, int64_t rows_up, int64_t cols_up)
{
#pragma omp parallel for schedule(static) num_threads(threads) if (cpu_worth(rows_up * cols_up))
    for (int64_t r = 0; r < rows_up; r++) {
        uint16_t *row = to + r * cols_up;
        int64_t known = r < rows ? cols : 0;
        const uint32_t *from = (const uint32_t *)(const void *)(x + r * stride);
#pragma omp simd
        for (int64_t i = 0; i < known; i++)
            row[i] = round_one(from[i]);
        memset(row + known, 0, (size_t)(cols_up - known) * sizeof *row);
    }
}

static bool describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t cols, int64_t row_step,
                     int64_t col_step, dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {rows, cols}, strides = {row_step, col_step};
    return dnnl_memory_desc_init_by_strides(desc, 2, dims, type, strides) == dnnl_success;
}

static bool make_attr(dnnl_primitive_attr_t *attr, const struct shape *s)
{
    dnnl_post_ops_t post = NULL;
    bool good = dnnl_primitive_attr_create(attr) == dnnl_success;
    good = good && (s->alpha == 1 ||
                    dnnl_primitive_attr_set_output_scales(*attr, 1, 0, &s->alpha) == dnnl_success);
    if (!good || s->beta == 0)
        return good;
    good = dnnl_post_ops_create(&post) == dnnl_success &&
           dnnl_post_ops_append_sum(post, s->beta) == dnnl_success &&
           dnnl_primitive_attr_set_post_ops(*attr, post) == dnnl_success;
    dnnl_post_ops_destroy(post);
    return good;
}

static bool compile(struct bf16 *g, const struct shape *s, struct product *p)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t made = NULL;
    *p = (struct product){.shape = *s};
    bool good =
        describe(&a, s->m, s->inner, s->trans_a ? 1 : s->inner, s->trans_a ? s->m : 1, dnnl_bf16) &&
        describe(&b, s->inner, s->n, s->trans_b ? 1 : s->n, s->trans_b ? s->inner : 1, dnnl_bf16) &&
        describe(&c, s->m, s->n, s->c_stride, 1, dnnl_f32) && make_attr(&attr, s) &&
        dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c) == dnnl_success &&
        dnnl_primitive_desc_create(&made, &desc, attr, g->engine, NULL) == dnnl_success &&
        dnnl_primitive_create(&p->primitive, made) == dnnl_success &&
        dnnl_memory_create(&p->a, &a, g->engine, DNNL_MEMORY_NONE) == dnnl_success &&
        dnnl_memory_create(&p->b, &b, g->engine, DNNL_MEMORY_NONE) == dnnl_success &&
        dnnl_memory_create(&p->c, &c, g->engine, DNNL_MEMORY_NONE) == dnnl_success;
    dnnl_primitive_desc_destroy(made);
    dnnl_primitive_attr_destroy(attr);
    return good;
}

static struct product *product_of(struct bf16 *g, const struct shape *s)
{
    for (int i = 0; i < g->count; i++) {
        const struct shape *k = &g->product[i].shape;
        if (k->m == s->m && k->n == s->n && k->inner == s->inner && k->c_stride == s->c_stride &&
            k->trans_a == s->trans_a && k->trans_b == s->trans_b && k->alpha == s->alpha &&
            k->beta == s->beta)
            return &g->product[i];
    }
    if (g->count == SHAPES)
        forget(g);
    struct product *p = &g->product[g->count++];
    return compile(g, s, p) ? p : NULL;
}

static bool run_rows(struct bf16 *g, const struct shape *s, uint16_t *a, uint16_t *b, float *c)
{
    struct product *p = product_of(g, s);
    if (p == NULL)
        return false;
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    return dnnl_memory_set_data_handle(p->a, a) == dnnl_success &&
           dnnl_memory_set_data_handle(p->b, b) == dnnl_success &&
           dnnl_memory_set_data_handle(p->c, c) == dnnl_success &&
           dnnl_primitive_execute(p->primitive, g->stream, 3, args) == dnnl_success &&
           dnnl_stream_wait(g->stream) == dnnl_success;
}

static int64_t up(int64_t count, int64_t step)
{
    return (count + step - 1) / step * step;
}

/* The most rows of `left` that one primitive takes. */
static int64_t take_rows(int64_t left, bool all)
{
    int64_t rows = 1;
    if (all)
        return left;
    if (left >= ROW_STEP)
        return left / ROW_STEP * ROW_STEP;
    while (2 * rows <= left)
        rows *= 2;
    return rows;
}

bool bf16_product(struct backend *be, struct bf16 *g, const struct gemm *p, int64_t inner,
                  int64_t a_stride, int64_t b_stride, int64_t c_stride)
{
    int64_t m = p->c.dim[0], n = p->c.dim[1], k = up(inner, INNER_STEP);
    if ((double)m * (double)n * (double)inner < SMALLEST)
        return false;
    size_t a_count = (size_t)(m * k), need = a_count + (size_t)(n * k);
    if (g->capacity < need) {
        struct error err;
        mem_free(g->rounded);
        g->capacity = 0;
        if (mem_alloc((void **)&g->rounded, need, sizeof *g->rounded, &err) != STATUS_OK) {
            backend_fault(be, OP_gemm, err.text);
            return true;
        }
        g->capacity = need;
    }
    uint16_t *a = g->rounded, *b = g->rounded + a_count;
    round_matrix(be->threads, a, cpu_f32(&p->a), p->a.dim[0], p->a.dim[1], a_stride,
                 p->trans_a ? k : m, p->trans_a ? m : k);
    round_matrix(be->threads, b, cpu_f32(&p->b), p->b.dim[0], p->b.dim[1], b_stride,
                 p->trans_b ? n : k, p->trans_b ? k : n);
    for (int64_t row = 0, rows; row < m; row += rows) {
        rows = take_rows(m - row, p->trans_a); /* those of a transposed factor are not apart */
        struct shape s = {.m = rows,
                          .n = n,
                          .inner = k,
                          .c_stride = c_stride,
                          .trans_a = p->trans_a,
                          .trans_b = p->trans_b,
                          .alpha = (float)p->alpha,
                          .beta = (float)p->beta};
        if (!run_rows(g, &s, a + row * k, b, cpu_f32(&p->c) + row * c_stride)) {
            backend_fault(be, OP_gemm, "oneDNN refused the bf16 product");
            return true;
        }
    }
    return true;
}

#else /* oneDNN 3 has another interface to the same: not written yet */

bool bf16_supported(void)
{
    return false;
}

enum status bf16_create(struct bf16 **out, struct error *err)
{
    *out = NULL;
    return error_set(err, STATUS_DEVICE, "bf16 needs oneDNN 2");
}

void bf16_free(struct bf16 *g)
{
    (void)g;
}

bool bf16_product(struct backend *be, struct bf16 *g, const struct gemm *p, int64_t inner,
                  int64_t a_stride, int64_t b_stride, int64_t c_stride)
{
    (void)be, (void)g, (void)p, (void)inner, (void)a_stride, (void)b_stride, (void)c_stride;
    return false;
}

#endif
