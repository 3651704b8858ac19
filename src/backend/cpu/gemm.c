/* Matrix products. For few rows there is a routine of our own, one pass over the weights. For more
 * it is oneDNN's matmul where that is the fastest (matmul.c), else oneDNN's or OpenBLAS's SGEMM. */
#include "backend/cpu/matmul.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/vecmath.h"
#include "base/mem.h"

#include <string.h>

/* The bits of a row do not depend on the other rows, up to FEW_ROWS. So many texts may be sampled
 * together (generate/generation.h), and each is the same as alone. SGEMM would be a quarter faster
 * from 5 rows on. */
enum { FEW_ROWS = 8, ROWS_AT_ONCE = 8 };

/* Computes sum[r] = a . row r of b for `rows` rows. Several sums at once hide the latency of
 * each. */
static inline __attribute__((always_inline)) void dots(int rows, int64_t inner, const float *a,
                                                       const float *b, int64_t b_stride, float *sum)
{
    vec acc[ROWS_AT_ONCE];
    int64_t k = 0;
    for (int r = 0; r < rows; r++)
        acc[r] = vec_set(0);
    for (; k + VEC <= inner; k += VEC) {
        vec x = vec_load(a + k);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            acc[r] += x * vec_load(b + r * b_stride + k);
    }
    for (int r = 0; r < rows; r++) {
        sum[r] = vec_sum(acc[r]);
        for (int64_t tail = k; tail < inner; tail++)
            sum[r] += a[tail] * b[r * b_stride + tail];
    }
}

/* Computes c = alpha a b^T + beta c for at most FEW_ROWS rows of a. Every row of b is read once. */
static void dot_rows(struct backend *be, const struct gemm *p, int64_t inner, int64_t a_stride,
                     int64_t b_stride, int64_t c_stride)
{
    int64_t m = p->c.dim[0], n = p->c.dim[1];
    const float *a = cpu_f32(&p->a), *b = cpu_f32(&p->b);
    float *c = cpu_f32(&p->c), alpha = (float)p->alpha, beta = (float)p->beta;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(n * inner))
    for (int64_t j = 0; j < n; j += ROWS_AT_ONCE) {
        int64_t count = n - j < ROWS_AT_ONCE ? n - j : ROWS_AT_ONCE;
        for (int64_t i = 0; i < m; i++) {
            float sum[ROWS_AT_ONCE], *to = c + i * c_stride + j;
            if (count == ROWS_AT_ONCE)
                dots(ROWS_AT_ONCE, inner, a + i * a_stride, b + j * b_stride, b_stride, sum);
            for (int64_t r = 0; r < count; r++) {
                if (count < ROWS_AT_ONCE)
                    dots(1, inner, a + i * a_stride, b + (j + r) * b_stride, b_stride, sum + r);
                to[r] = alpha * sum[r] + (p->beta == 0 ? 0 : beta * to[r]);
            }
        }
    }
}

/* Without AVX-512 oneDNN's SGEMM does not copy factors into its own layout unless the sizes are
 * large for the number of threads. That is fast where layers store their weights transposed. In
 * products of gradients, [256,256] [256,1024] and the like, it reaches 36 to 52 GFLOP/s where
 * OpenBLAS reaches 65 to 90 (a thread of a Zen 3). */
static bool openblas_is_faster(const struct cpu *cpu, const struct gemm *p)
{
    return cpu->sgemm != NULL && (p->trans_a || !p->trans_b);
}

void cpu_gemm(struct backend *be, const struct gemm *p)
{
    int64_t m = p->c.dim[0], n = p->c.dim[1];
    int64_t inner = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    int64_t a_stride = p->a_stride != 0 ? p->a_stride : p->a.dim[1];
    int64_t b_stride = p->b_stride != 0 ? p->b_stride : p->b.dim[1];
    int64_t c_stride = p->c_stride != 0 ? p->c_stride : n;
    if (m == 0 || n == 0)
        return;
    if (p->add.data != NULL && p->beta != 0) {
        struct gemm in_place = *p;
        struct tensor *c = &in_place.c;
        in_place.add.data = NULL;
        for (int64_t i = 0; c_stride != n && i < m; i++)
            memcpy(cpu_f32(c) + i * c_stride, cpu_f32(&p->add) + i * n, (size_t)n * sizeof(float));
        if (c_stride == n)
            cpu_copy(be, c, &p->add);
        cpu_gemm(be, &in_place);
        return;
    }
    if (inner == 0 || (m <= FEW_ROWS && p->trans_b && !p->trans_a)) {
        dot_rows(be, p, inner, a_stride, b_stride, c_stride);
        return;
    }
    struct cpu *cpu = be->impl;
    const struct matmul_sizes sizes = {inner, a_stride, b_stride, c_stride};
    if (matmul_run(be, cpu->matmul, p, &sizes))
        return;
    if (openblas_is_faster(cpu, p)) {
        cpu->sgemm(CblasRowMajor, p->trans_a ? CblasTrans : CblasNoTrans,
                   p->trans_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)inner,
                   (float)p->alpha, cpu_f32(&p->a), (int)a_stride, cpu_f32(&p->b), (int)b_stride,
                   (float)p->beta, cpu_f32(&p->c), (int)c_stride);
        return;
    }
    dnnl_status_t status = dnnl_out_of_memory;
    if (mem_has_room(ONEDNN_ROOM))
        status = dnnl_sgemm(p->trans_a ? 'T' : 'N', p->trans_b ? 'T' : 'N', m, n, inner,
                            (float)p->alpha, cpu_f32(&p->a), a_stride, cpu_f32(&p->b), b_stride,
                            (float)p->beta, cpu_f32(&p->c), c_stride);
    if (status == dnnl_out_of_memory)
        backend_fault_memory(be, OP_gemm, "oneDNN has no memory for the product");
    else if (status != dnnl_success)
        backend_fault(be, OP_gemm, "oneDNN refused the product");
}
