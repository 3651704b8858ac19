/* Opening, memory, transfers and the table of the CPU backend. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/cpu_impl.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/openblas.h"
#include "base/mem.h"

#include <oneapi/dnnl/dnnl.h>
#include <string.h>

/* Large enough for an efficient product, while the logits of a chunk still lie in the caches. */
enum { CHUNK_NUMBERS = 640000 };
/* Rows of a wide feed-forward layer. With half as many, its products run slower by some per
 * cent. */
enum { FFN_ROWS = 256 };

static enum status cpu_alloc(struct backend *be, void **out, size_t bytes, struct error *err)
{
    (void)be;
    return mem_alloc(out, bytes, 1, err);
}

static void cpu_release(struct backend *be, void *ptr)
{
    (void)be;
    mem_free(ptr);
}

/* Converts between the two floating types. Equal types are copied as bytes. */
static void convert(void *dst, enum dtype dst_type, const void *src, enum dtype src_type,
                    int64_t count)
{
    if (count == 0)
        return;
    if (dst_type == src_type) {
        memcpy(dst, src, (size_t)count * dtype_size(src_type));
    } else if (dst_type == DTYPE_F32 && src_type == DTYPE_F64) {
        for (int64_t i = 0; i < count; i++)
            ((float *)dst)[i] = (float)((const double *)src)[i];
    } else {
        assert(dst_type == DTYPE_F64 && src_type == DTYPE_F32);
        for (int64_t i = 0; i < count; i++)
            ((double *)dst)[i] = ((const float *)src)[i];
    }
}

void cpu_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type)
{
    (void)be;
    convert(dst->data, dst->dtype, src, src_type, tensor_count(dst));
}

void cpu_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src)
{
    (void)be;
    convert(dst, dst_type, src->data, src->dtype, tensor_count(src));
}

void cpu_copy(struct backend *be, const struct tensor *dst, const struct tensor *src)
{
    const int64_t piece = 1 << 16; /* bytes */
    int64_t bytes = (int64_t)tensor_bytes(src);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(bytes / 16))
    for (int64_t start = 0; start < bytes; start += piece) {
        int64_t n = bytes - start < piece ? bytes - start : piece;
        memcpy((char *)dst->data + start, (const char *)src->data + start, (size_t)n);
    }
}

void cpu_fill(struct backend *be, const struct tensor *t, double value)
{
    int64_t count = tensor_count(t);
    switch (t->dtype) {
    case DTYPE_F32: {
        float *x = t->data, v = (float)value;
#pragma omp parallel for simd schedule(static) num_threads(be->threads) if (cpu_worth(count / 4))
        for (int64_t i = 0; i < count; i++)
            x[i] = v;
        break;
    }
    case DTYPE_F64:
        for (int64_t i = 0; i < count; i++)
            ((double *)t->data)[i] = value;
        break;
    case DTYPE_I32:
        for (int64_t i = 0; i < count; i++)
            ((int32_t *)t->data)[i] = (int32_t)value;
        break;
    case DTYPE_U8:
        memset(t->data, (int)value, (size_t)count);
        break;
    case DTYPE_BF16: /* never here, low-precision tensors are real */
        assert(!"no such type");
        break;
    }
}

float *cpu_scratch(struct backend *be, size_t count, bool shared, enum op_id id)
{
    struct cpu *cpu = be->impl;
    struct cpu_scratch *s = &cpu->scratch[shared ? cpu->threads : omp_get_thread_num()];
    if (s->count >= count)
        return s->data;
    struct error err;
    mem_free(s->data);
    s->count = 0;
    if (mem_alloc((void **)&s->data, count, sizeof *s->data, &err) != STATUS_OK) {
#pragma omp critical(deq_cpu_fault)
        backend_fault_memory(be, id, err.text);
        return NULL;
    }
    s->count = count;
    return s->data;
}

static void cpu_close(struct backend *be)
{
    struct cpu *cpu = be->impl;
    matmul_free(cpu->matmul);
    for (int i = 0; i <= cpu->threads; i++)
        mem_free(cpu->scratch[i].data);
    mem_free(cpu->scratch);
    mem_free(cpu);
}

static enum status cpu_set_precision(struct backend *be, enum precision precision,
                                     struct error *err)
{
    (void)be;
    if (precision == PRECISION_TF32)
        return error_set(err, STATUS_DEVICE,
                         "tf32 products: no processor has them, only graphics cards; use fp32, or "
                         "bf16 where it is there");
    if (precision == PRECISION_BF16 && !matmul_for_bf16())
        return error_set(err, STATUS_DEVICE,
                         "bf16 products: this processor has neither AVX512_BF16 nor AMX, or "
                         "ONEDNN_MAX_CPU_ISA forbids them; use fp32");
    return STATUS_OK;
}

/* Compares what the compiler was told it may use with what there is. */
static enum status check_processor(struct error *err)
{
    const char *missing = NULL;
#ifdef __AVX512F__
    if (!__builtin_cpu_supports("avx512f"))
        missing = "AVX-512";
#endif
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2"))
        missing = "AVX2";
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma"))
        missing = "FMA";
#endif
    if (missing == NULL)
        return STATUS_OK;
    return error_set(err, STATUS_DEVICE,
                     "this processor has no %s, which this program was built for: rebuild it here, "
                     "or for any machine of the last ten years with make ARCH=x86-64-v3",
                     missing);
}

/* Returns how many threads a parallel region gets when it asks for `wanted`. OMP_THREAD_LIMIT and
 * OMP_MAX_ACTIVE_LEVELS can lower that number without telling anyone. */
static int measure_team(int wanted)
{
    int got = 1;
#pragma omp parallel num_threads(wanted)
#pragma omp single
    got = omp_get_num_threads();
    return got;
}

enum status cpu_open(struct backend *be, int threads, struct error *err)
{
    static const struct ops table = {.name = "cpu",
                                     .real = DTYPE_F32,
                                     .chunk_numbers = CHUNK_NUMBERS,
                                     .ffn_rows = FFN_ROWS,
                                     .graph_break = graph_break_none,
                                     .alloc = cpu_alloc,
                                     .release = cpu_release,
                                     .close = cpu_close,
                                     .set_precision = cpu_set_precision,
#define OP(name, ...) .name = cpu_##name,
                                     OP_LIST(OP)
#undef OP
    };
    struct cpu *cpu = NULL;
    TRY(check_processor(err));
    if (threads <= 0)
        threads = omp_get_max_threads();
    omp_set_dynamic(0);
    threads = measure_team(threads);
    /* oneDNN divides a product by this setting. Parts for threads that do not come are not
     * computed, so it must be the number of those that do. */
    omp_set_num_threads(threads);
    TRY(mem_alloc((void **)&cpu, 1, sizeof *cpu, err));
    cpu->threads = threads;
    if (!matmul_for_fp32()) /* else oneDNN has the faster products */
        *(void **)&cpu->sgemm = openblas_function("cblas_sgemm");
    enum status status =
        mem_alloc((void **)&cpu->scratch, (size_t)threads + 1, sizeof *cpu->scratch, err);
    if (status == STATUS_OK)
        status = matmul_create(&cpu->matmul, err);
    if (status == STATUS_OK)
        status = backend_init(be, &table, cpu, threads, err);
    if (status == STATUS_OK)
        be->batch_invariant = matmul_for_fp32();
    if (status != STATUS_OK) {
        matmul_free(cpu->matmul);
        mem_free(cpu->scratch);
        mem_free(cpu);
    }
    return status;
}
