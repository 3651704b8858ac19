/* The fastest product of every routine there is, and the fastest loop over data in a cache. */
#include "bench/roof.h"

#include "backend/backend.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/openblas.h"
#include "backend/cpu/vecmath.h"
#include "base/clock.h"
#include "base/mem.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>

enum { MOST = 512 * 1024, SHAPES = 4, REPEATS = 12 };
enum { LOOP_FLOATS = 2048, LOOP_PASSES = 64, LOOP_REPEATS = 200 };
/* Seconds that one routine may take for one shape. */
static const double PATIENCE = 0.02;

struct shape {
    int64_t m, n, k;
};
static const struct shape shapes[SHAPES] = {
    {256, 512, 256}, {256, 256, 512}, {128, 1024, 256}, {512, 512, 512}};

/* The operands of a thread. */
struct operands {
    float *a, *b, *c; /* [MOST] each */
};

typedef __typeof__(cblas_sgemm) sgemm_fn;

/* One product by a thread. Returns false if it does not work. */
struct product {
    const struct shape *shape;
    const struct operands *x;
    sgemm_fn *sgemm;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
};

static bool run_openblas(const struct product *p)
{
    const struct shape *s = p->shape;
    p->sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)s->m, (int)s->n, (int)s->k, 1, p->x->a,
             (int)s->k, p->x->b, (int)s->n, 0, p->x->c, (int)s->n);
    return true;
}

static bool run_sgemm(const struct product *p)
{
    const struct shape *s = p->shape;
    return dnnl_sgemm('N', 'N', s->m, s->n, s->k, 1, p->x->a, s->k, p->x->b, s->n, 0, p->x->c,
                      s->n) == dnnl_success;
}

static bool run_matmul(const struct product *p)
{
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    return dnnl_primitive_execute(p->primitive, p->stream, 3, args) == dnnl_success &&
           dnnl_stream_wait(p->stream) == dnnl_success;
}

/* The fastest of a few runs in FLOP/s, 0 if it does not work. */
static double time_product(const struct product *p, bool (*run)(const struct product *))
{
    double best = INFINITY, begin = clock_seconds();
    const struct shape *s = p->shape;
    if (!run(p)) /* compiles, and warms the caches */
        return 0;
    for (int i = 0; i < REPEATS && (i < 2 || clock_seconds() - begin < PATIENCE); i++) {
        double start = clock_seconds();
        (void)run(p);
        best = fmin(best, clock_seconds() - start);
    }
    return 2.0 * (double)(s->m * s->n * s->k) / best;
}

/* The same by oneDNN's matmul. Layers store their weights transposed, and so is b. Float32 numbers
 * read as twice as many bfloat16 are numbers too. */
static double time_matmul(struct product *p, dnnl_engine_t engine, dnnl_data_type_t type)
{
    const struct shape *s = p->shape;
    dnnl_primitive_desc_t made = NULL;
    double rate = 0;
    const dnnl_dims_t a = {s->m, s->k}, a_step = {s->k, 1}, b = {s->k, s->n}, b_step = {1, s->k};
    const dnnl_dims_t c = {s->m, s->n}, c_step = {s->n, 1};
    p->a = p->b = p->c = NULL;
    p->primitive = NULL;
    if (onednn_matrix(&p->a, engine, a, a_step, type) == dnnl_success &&
        onednn_matrix(&p->b, engine, b, b_step, type) == dnnl_success &&
        onednn_matrix(&p->c, engine, c, c_step, dnnl_f32) == dnnl_success &&
        dnnl_memory_set_data_handle(p->a, p->x->a) == dnnl_success &&
        dnnl_memory_set_data_handle(p->b, p->x->b) == dnnl_success &&
        dnnl_memory_set_data_handle(p->c, p->x->c) == dnnl_success &&
        onednn_matmul(&made, engine, p->a, p->b, p->c, NULL) == dnnl_success &&
        dnnl_primitive_create(&p->primitive, made) == dnnl_success)
        rate = time_product(p, run_matmul);
    dnnl_primitive_desc_destroy(made);
    dnnl_primitive_destroy(p->primitive);
    dnnl_memory_destroy(p->a);
    dnnl_memory_destroy(p->b);
    dnnl_memory_destroy(p->c);
    return rate;
}

enum { ROUTINES = 4 };
static const char *const routine_text[ROUTINES] = {"oneDNN's sgemm", "oneDNN's matmul",
                                                   "OpenBLAS's sgemm", "oneDNN's matmul in bf16"};

/* What a thread reached. */
struct reached {
    double product[ROUTINES][SHAPES], memory;
};

/* Adds up two arrays into a third. No loop moves more, since a core loads twice for each store. */
static double reach_memory(const struct operands *x)
{
    double best = INFINITY;
    for (int i = 0; i < LOOP_REPEATS; i++) {
        double start = clock_seconds();
        for (int pass = 0; pass < LOOP_PASSES; pass++) {
            for (int64_t k = 0; k < LOOP_FLOATS; k += VEC)
                vec_store(x->c + k, vec_load(x->a + k) + vec_load(x->b + k));
            __asm__ volatile("" : : "r"(x->c) : "memory"); /* every pass is made */
        }
        best = fmin(best, clock_seconds() - start);
    }
    return 3.0 * LOOP_PASSES * LOOP_FLOATS * sizeof(float) / best;
}

static void reach(struct reached *r, const struct operands *x, sgemm_fn *sgemm,
                  enum precision precision)
{
    dnnl_engine_t engine = NULL;
    struct product p = {.x = x, .sgemm = sgemm};
    bool opened = dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success &&
                  dnnl_stream_create(&p.stream, engine, dnnl_stream_default_flags) == dnnl_success;
    for (int i = 0; i < SHAPES; i++) {
        p.shape = &shapes[i];
        r->product[0][i] = time_product(&p, run_sgemm);
        r->product[1][i] = opened ? time_matmul(&p, engine, dnnl_f32) : 0;
        r->product[2][i] = sgemm != NULL ? time_product(&p, run_openblas) : 0;
        if (precision == PRECISION_BF16 && opened)
            r->product[3][i] = time_matmul(&p, engine, dnnl_bf16);
        r->memory = fmax(r->memory, reach_memory(x));
    }
    if (p.stream != NULL)
        dnnl_stream_destroy(p.stream);
    if (engine != NULL)
        dnnl_engine_destroy(engine);
}

static void measure_threads(struct reached *reached, float *numbers, int threads,
                            enum precision precision)
{
    sgemm_fn *sgemm = NULL;
    *(void **)&sgemm = openblas_function("cblas_sgemm");
#pragma omp parallel num_threads(threads)
    {
        int i = omp_get_thread_num();
        float *own = numbers + (size_t)i * 3 * MOST;
        const struct operands x = {own, own + MOST, own + 2 * (size_t)MOST};
        for (int64_t k = 0; k < 3 * (int64_t)MOST; k++)
            own[k] = (float)(k % 7) - 3;
        reach(&reached[i], &x, sgemm, precision);
    }
}

enum status roof_measure(struct roof *r, int threads, enum precision precision, struct error *err)
{
    enum status status = STATUS_OK;
    struct reached *reached = NULL;
    float *numbers = NULL;
    *r = (struct roof){0};
    TRY_OUT(mem_alloc((void **)&reached, (size_t)threads, sizeof *reached, err));
    TRY_OUT(mem_alloc((void **)&numbers, (size_t)threads * 3 * MOST, sizeof *numbers, err));
    measure_threads(reached, numbers, threads, precision);
    for (int j = 0; j < ROUTINES; j++)
        for (int s = 0; s < SHAPES; s++) {
            double sum = 0;
            for (int i = 0; i < threads; i++)
                sum += reached[i].product[j][s];
            if (sum <= r->product)
                continue;
            *r = (struct roof){.product = sum,
                               .routine = routine_text[j],
                               .m = shapes[s].m,
                               .n = shapes[s].n,
                               .k = shapes[s].k};
        }
    for (int i = 0; i < threads; i++)
        r->memory += reached[i].memory;
    if (!(r->product > 0))
        status = error_set(err, STATUS_DEVICE, "no routine for products works in %s here",
                           precision_name(precision));
out:
    mem_free(numbers);
    mem_free(reached);
    return status;
}

double roof_seconds(const struct roof *r, double flops, double bytes)
{
    return fmax(flops / r->product, bytes / r->memory);
}
