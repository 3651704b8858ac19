/* Products by oneDNN's matmul, for the sizes where it is faster than its SGEMM.
 *
 * That was measured with two threads of a Zen 4. For models of width 128 and 256 (512 x 768 x 256
 * and the like) with the second factor transposed, as layers store their weights, matmul reaches
 * 180 to 208 GFLOP/s against 63 to 184. It gains most where the inner length is above the other
 * two. Otherwise SGEMM reaches 195 to 212 and matmul 165 to 211. Over the words of a softmax, whose
 * rows are no multiples of anything, matmul would need many pieces. With one thread the two are
 * alike.
 *
 * In bfloat16 it is twice as fast. Rounding both factors anew for every product takes 3 to 8 % of
 * that, so nothing has to be remembered of weights. An Intel processor with AVX512_BF16 but without
 * AMX is the exception. The products of `deq bench train` reach 109 to 126 GFLOP/s in bfloat16 on
 * an Emerald Rapids whose AMX is hidden, and 194 to 210 in float32. There the rounded factors are
 * multiplied as float32. A product of two bfloat16 is exact in float32, so only the order of a sum
 * differs.
 *
 * A primitive is compiled for one shape. Rows are given to it in multiples of ROW_STEP and the rest
 * in powers of two, so that sizes that differ from step to step (tails of the adaptive softmax) do
 * not need ever new ones. */
#include "backend/cpu/matmul.h"
#include "backend/cpu/onednn.h"
#include "base/mem.h"

#include <string.h>

enum { SHAPES = 256, ROW_STEP = 64, INNER_STEP = 32 };
/* Most columns of a product in float32. Products over words have more. */
enum { MOST_COLUMNS = 4096 };
/* Multiplications below which rounding and the call cost more than they save. */
static const double SMALLEST_ROUNDED = 1 << 16;

/* What a primitive is compiled for, c[m,n] = alpha a b + beta c. */
struct shape {
    dnnl_data_type_t type;
    int64_t m, n, inner, a_stride, b_stride, c_stride;
    bool trans_a, trans_b;
    float alpha, beta;
};

struct product {
    struct shape shape;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
};

struct matmul {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product product[SHAPES]; /* owned */
    int count;
    dnnl_data_type_t rounded_type; /* in which rounded factors are multiplied */
    void *rounded;                 /* owned, both factors */
    size_t capacity;
};

/* What the processor has and ONEDNN_MAX_CPU_ISA leaves of it. */
static bool may_use(dnnl_cpu_isa_t isa)
{
    return (dnnl_get_effective_cpu_isa() & isa) == isa;
}

bool matmul_for_fp32(void)
{
    /* Without AVX-512 matmul is the same as SGEMM, whose kernels for AVX2 differ at edges. */
    return may_use(dnnl_cpu_isa_avx512_core);
}

bool matmul_for_bf16(void)
{
    return may_use(dnnl_cpu_isa_avx512_core_bf16);
}

static dnnl_data_type_t rounded_type(void)
{
    bool slow = __builtin_cpu_is("intel") && !may_use(dnnl_cpu_isa_avx512_core_amx);
    return slow ? dnnl_f32 : dnnl_bf16;
}

static size_t size_of(dnnl_data_type_t type)
{
    return type == dnnl_bf16 ? sizeof(uint16_t) : sizeof(float);
}

static void forget(struct matmul *g)
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

enum status matmul_create(struct matmul **out, struct error *err)
{
    struct matmul *g = NULL;
    TRY(mem_alloc((void **)&g, 1, sizeof *g, err));
    if (dnnl_engine_create(&g->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&g->stream, g->engine, dnnl_stream_default_flags) != dnnl_success) {
        matmul_free(g);
        return error_set(err, STATUS_DEVICE, "oneDNN cannot open the processor");
    }
    g->rounded_type = rounded_type();
    *out = g;
    return STATUS_OK;
}

void matmul_free(struct matmul *g)
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

/* Rounds to the nearest bfloat16, ties to even. A NaN stays one. */
static inline uint32_t round_one(uint32_t bits)
{
    uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40u;
    return (bits & 0x7fffffffu) > 0x7f800000u ? nan : nearest;
}

static void round_row(void *to, dnnl_data_type_t type, const uint32_t *from, int64_t count)
{
    if (type == dnnl_bf16) {
        uint16_t *row = to;
#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            row[i] = (uint16_t)round_one(from[i]);
        return;
    }
    uint32_t *row = to;
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        row[i] = round_one(from[i]) << 16;
}

/* Rounds x [rows, cols], whose rows lie `stride` apart, to contiguous rows of `cols_up`. The rest
 * of a row is zero, and so are further rows up to rows_up. */
static void round_matrix(int threads, void *to, dnnl_data_type_t type, const struct tensor *x,
                         int64_t stride, int64_t rows_up, int64_t cols_up)
{
    int64_t rows = x->dim[0], cols = x->dim[1];
    size_t size = size_of(type);
#pragma omp parallel for schedule(static) num_threads(threads) if (cpu_worth(rows_up * cols_up))
    for (int64_t r = 0; r < rows_up; r++) {
        char *row = (char *)to + (size_t)(r * cols_up) * size;
        int64_t known = r < rows ? cols : 0;
        round_row(row, type, (const uint32_t *)(const void *)(cpu_f32(x) + r * stride), known);
        memset(row + (size_t)known * size, 0, (size_t)(cols_up - known) * size);
    }
}

/* A matrix whose rows, as stored, are `stride` apart. */
struct matrix {
    int64_t rows, cols, stride;
    bool transposed;
    dnnl_data_type_t type;
};

static dnnl_status_t describe(dnnl_memory_t *out, dnnl_engine_t engine, struct matrix m)
{
    const dnnl_dims_t dims = {m.rows, m.cols};
    const dnnl_dims_t strides = {m.transposed ? 1 : m.stride, m.transposed ? m.stride : 1};
    return onednn_matrix(out, engine, dims, strides, m.type);
}

/* ONEDNN_DEFAULT_FPMATH_MODE in the environment would let products of float32 be rounded to bf16.
 * The precision of the backend alone decides that. */
static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr, float alpha, float beta)
{
    dnnl_post_ops_t post = NULL;
    dnnl_status_t bad;
    (void)((bad = dnnl_primitive_attr_create(attr)) ||
           (bad = dnnl_primitive_attr_set_fpmath_mode(*attr, dnnl_fpmath_mode_strict)) ||
           (bad = dnnl_post_ops_create(&post)) || (bad = onednn_scale(post, alpha, beta)) ||
           (bad = dnnl_primitive_attr_set_post_ops(*attr, post)));
    dnnl_post_ops_destroy(post);
    return bad;
}

static dnnl_status_t compile(struct matmul *g, const struct shape *s, struct product *p)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t made = NULL;
    dnnl_status_t bad;
    *p = (struct product){.shape = *s};
    if (!mem_has_room(ONEDNN_ROOM))
        return dnnl_out_of_memory;
    const struct matrix a = {s->m, s->inner, s->a_stride, s->trans_a, s->type};
    const struct matrix b = {s->inner, s->n, s->b_stride, s->trans_b, s->type};
    const struct matrix c = {s->m, s->n, s->c_stride, false, dnnl_f32};
    (void)((bad = describe(&p->a, g->engine, a)) || (bad = describe(&p->b, g->engine, b)) ||
           (bad = describe(&p->c, g->engine, c)) || (bad = make_attr(&attr, s->alpha, s->beta)) ||
           (bad = onednn_matmul(&made, g->engine, p->a, p->b, p->c, attr)) ||
           (bad = dnnl_primitive_create(&p->primitive, made)));
    dnnl_primitive_desc_destroy(made);
    dnnl_primitive_attr_destroy(attr);
    return bad;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->type == b->type && a->m == b->m && a->n == b->n && a->inner == b->inner &&
           a->a_stride == b->a_stride && a->b_stride == b->b_stride && a->c_stride == b->c_stride &&
           a->trans_a == b->trans_a && a->trans_b == b->trans_b && a->alpha == b->alpha &&
           a->beta == b->beta;
}

static dnnl_status_t product_of(struct matmul *g, const struct shape *s, struct product **out)
{
    for (int i = 0; i < g->count; i++)
        if (same_shape(&g->product[i].shape, s)) {
            *out = &g->product[i];
            return dnnl_success;
        }
    if (g->count == SHAPES)
        forget(g);
    *out = &g->product[g->count++];
    return compile(g, s, *out);
}

static dnnl_status_t run_rows(struct matmul *g, const struct shape *s, void *a, void *b, float *c)
{
    struct product *p;
    dnnl_status_t bad = product_of(g, s, &p);
    if (bad != dnnl_success) {
        forget(g); /* drops what is half made */
        return bad;
    }
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    (void)((bad = dnnl_memory_set_data_handle(p->a, a)) ||
           (bad = dnnl_memory_set_data_handle(p->b, b)) ||
           (bad = dnnl_memory_set_data_handle(p->c, c)) ||
           (bad = dnnl_primitive_execute(p->primitive, g->stream, 3, args)) ||
           (bad = dnnl_stream_wait(g->stream)));
    return bad;
}

static int64_t up(int64_t count, int64_t step)
{
    return (count + step - 1) / step * step;
}

/* Returns the most rows of `left` that one primitive takes. */
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

/* Computes the product of shape s by pieces of its rows. The rows of a transposed factor are taken
 * all at once. */
static void run_pieces(struct backend *be, struct matmul *g, struct shape s, void *a, void *b,
                       float *c)
{
    size_t size = size_of(s.type);
    int64_t m = s.m;
    for (int64_t row = 0; row < m; row += s.m) {
        s.m = take_rows(m - row, s.trans_a);
        char *from = (char *)a + (size_t)(row * s.a_stride) * size;
        dnnl_status_t bad = run_rows(g, &s, from, b, c + row * s.c_stride);
        if (bad == dnnl_out_of_memory)
            backend_fault_memory(be, OP_gemm, "oneDNN has no memory for the product");
        else if (bad != dnnl_success)
            backend_fault(be, OP_gemm, "oneDNN refused the product");
        if (bad != dnnl_success)
            return;
    }
}

/* Rounds both factors and multiplies them. Inner dimensions are padded with zeros to multiples of
 * INNER_STEP. */
static void run_rounded(struct backend *be, struct matmul *g, const struct gemm *p, struct shape s,
                        const struct matmul_sizes *sizes)
{
    int64_t k = up(s.inner, INNER_STEP);
    size_t size = size_of(s.type);
    size_t a_bytes = (size_t)(s.m * k) * size, need = a_bytes + (size_t)(s.n * k) * size;
    if (g->capacity < need) {
        struct error err;
        mem_free(g->rounded);
        g->capacity = 0;
        if (mem_alloc(&g->rounded, need, 1, &err) != STATUS_OK) {
            backend_fault_memory(be, OP_gemm, err.text);
            return;
        }
        g->capacity = need;
    }
    void *a = g->rounded, *b = (char *)g->rounded + a_bytes;
    s.inner = k;
    s.a_stride = s.trans_a ? s.m : k;
    s.b_stride = s.trans_b ? k : s.n;
    round_matrix(be->threads, a, s.type, &p->a, sizes->a_stride, s.trans_a ? k : s.m, s.a_stride);
    round_matrix(be->threads, b, s.type, &p->b, sizes->b_stride, s.trans_b ? s.n : k, s.b_stride);
    run_pieces(be, g, s, a, b, cpu_f32(&p->c));
}

bool matmul_run(struct backend *be, struct matmul *g, const struct gemm *p,
                const struct matmul_sizes *sizes)
{
    struct shape s = {.m = p->c.dim[0],
                      .n = p->c.dim[1],
                      .inner = sizes->inner,
                      .a_stride = sizes->a_stride,
                      .b_stride = sizes->b_stride,
                      .c_stride = sizes->c_stride,
                      .trans_a = p->trans_a,
                      .trans_b = p->trans_b,
                      .alpha = (float)p->alpha,
                      .beta = (float)p->beta};
    /* A single column gains nothing, and oneDNN 3.7 forgets its c_stride. */
    if (s.n == 1)
        return false;
    if (be->precision == PRECISION_BF16 &&
        (double)s.m * (double)s.n * (double)s.inner >= SMALLEST_ROUNDED) {
        s.type = g->rounded_type;
        run_rounded(be, g, p, s, sizes);
        return true;
    }
    /* Fewer rows gain nothing. More rows must all go one way (batch_invariant). */
    if (!matmul_for_fp32() || s.trans_a || !s.trans_b || s.m < BATCH_INVARIANT_ROWS ||
        s.n > MOST_COLUMNS)
        return false;
    s.type = dnnl_f32;
    run_pieces(be, g, s, cpu_f32(&p->a), cpu_f32(&p->b), cpu_f32(&p->c));
    return true;
}
