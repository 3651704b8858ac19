/* Products of the emulated libraries cuBLAS and cuBLASLt, column-major as theirs, by OpenBLAS. */
#ifndef DEQ_TESTS_EMU_PRODUCT_H
#define DEQ_TESTS_EMU_PRODUCT_H

#include "emu/internal.h"
#include <vector>

/* OpenBLAS's Fortran interface is column-major too. */
extern "C" void sgemm_(const char *transa, const char *transb, const int *m, const int *n,
                       const int *k, const float *alpha, const float *a, const int *lda,
                       const float *b, const int *ldb, const float *beta, float *c, const int *ldc);

#ifdef EMU_TSAN
extern "C" void openblas_set_num_threads(int threads);
#endif

/* Comes before every product. ThreadSanitizer does not see how the threads of OpenBLAS wait for
 * each other, and would take them for races. Under it the calling thread works alone. The number
 * belongs to the thread that calls, so it is set every time. */
static inline void emu_product_begins()
{
#ifdef EMU_TSAN
    openblas_set_num_threads(1);
#endif
}

/* `rows` x `cols` numbers, columns ld apart. */
struct emu_matrix {
    const void *p;
    cudaDataType type;
    int64_t rows, cols, ld;

    size_t size() const
    {
        return type == CUDA_R_32F ? 4 : 2;
    }
    size_t bytes() const
    {
        return rows * cols == 0 ? 0 : static_cast<size_t>(ld * (cols - 1) + rows) * size();
    }
};

/* d = alpha op(a) op(b) + beta c, inputs rounded to TF32 if asked for. */
struct emu_product {
    bool trans_a, trans_b, tf32;
    emu_matrix a, b, c, d;
    float alpha, beta;
};

/* Whether the library's kernels cannot read the product's factors 16 bytes at a time. */
static inline bool emu_uneven(const emu_product &p)
{
    bool along = p.trans_a || !p.trans_b; /* column-major */
    int64_t inner = p.trans_a ? p.a.rows : p.a.cols;
    return along && p.a.type == CUDA_R_16BF && inner % 8 != 0;
}

static inline bool emu_is_number(cudaDataType type)
{
    return type == CUDA_R_32F || type == CUDA_R_16BF;
}

/* Aborts unless a matrix that the host names lies in one allocation of the device. */
static inline void emu_check_matrix(const char *library, char name, const emu_matrix &m)
{
    if (!emu_on_device(m.p, m.bytes()))
        emu_die("%s: matrix %c (%lld x %lld, leading dimension %lld) at %p does not lie in one "
                "allocation of the device",
                library, name, static_cast<long long>(m.rows), static_cast<long long>(m.cols),
                static_cast<long long>(m.ld), m.p);
}

/* Rounds to TF32's 10 bits of mantissa, by the rule that was set. */
static inline float emu_to_tf32(float x)
{
    const uint32_t cut = 0x1fffu, middle = 0x1000u;
    uint32_t u = emu_bits<uint32_t>(x);
    if ((u & 0x7f800000u) == 0x7f800000u)
        return x;
    switch (emu_conf().tf32) {
    case EMU_TF32_EVEN:
        u += middle - 1 + (u >> 13 & 1);
        break;
    case EMU_TF32_AWAY:
        u += middle;
        break;
    case EMU_TF32_ZERO:
    case EMU_TF32_ROUNDINGS:
        break;
    }
    return emu_bits<float>(u & ~cut);
}

static inline float emu_load(const emu_matrix &m, int64_t row, int64_t col)
{
    int64_t at = col * m.ld + row;
    return m.type == CUDA_R_32F ? static_cast<const float *>(m.p)[at]
                                : __bfloat162float(static_cast<const __nv_bfloat16 *>(m.p)[at]);
}

static inline void emu_store(const emu_matrix &m, int64_t row, int64_t col, float x)
{
    void *p = const_cast<void *>(m.p);
    int64_t at = col * m.ld + row;
    if (m.type == CUDA_R_32F)
        static_cast<float *>(p)[at] = x;
    else
        static_cast<__nv_bfloat16 *>(p)[at] = __float2bfloat16(x);
}

static inline std::vector<float> emu_pack(const emu_matrix &m, bool tf32)
{
    std::vector<float> out;
    out.reserve(static_cast<size_t>(m.rows * m.cols));
    for (int64_t col = 0; col < m.cols; col++)
        for (int64_t row = 0; row < m.rows; row++) {
            float x = emu_load(m, row, col);
            out.push_back(tf32 ? emu_to_tf32(x) : x);
        }
    return out;
}

/* Computes the product, whose addresses are real ones. finish(x, row, col) is what is written for
 * the number x of the sum, rounded once. */
template <class Finish> void emu_multiply(const emu_product &p, Finish finish)
{
    std::vector<float> a = emu_pack(p.a, p.tf32), b = emu_pack(p.b, p.tf32);
    std::vector<float> c(static_cast<size_t>(p.d.rows * p.d.cols));
    int m = static_cast<int>(p.d.rows), n = static_cast<int>(p.d.cols);
    int k = static_cast<int>(p.trans_a ? p.a.rows : p.a.cols);
    int lda = p.a.rows > 0 ? static_cast<int>(p.a.rows) : 1;
    int ldb = p.b.rows > 0 ? static_cast<int>(p.b.rows) : 1;
    if (p.beta != 0)
        c = emu_pack(p.c, false);
    emu_product_begins();
    sgemm_(p.trans_a ? "T" : "N", p.trans_b ? "T" : "N", &m, &n, &k, &p.alpha, a.data(), &lda,
           b.data(), &ldb, &p.beta, c.data(), &m);
    for (int64_t col = 0; col < n; col++)
        for (int64_t row = 0; row < m; row++)
            emu_store(p.d, row, col, finish(c[static_cast<size_t>(col * m + row)], row, col));
}

#endif
