/* cuBLASLt: products with an epilogue, column-major, inputs rounded as in cublas.cpp, results
 * rounded once, at the end.
 *
 * Where the library's documents leave something open, the choice here is the one that a caller
 * could least rely on by accident: the rectifier makes 0 of a NaN (the documents say max(x, 0)),
 * and its bits are stored inverted, the first of a byte on top. A kernel chosen for one product
 * does not run another, and needs the alignment that it was asked for with. */
#include "emu/internal.h"

#include <string.h>
#include <vector>

struct cublasLtContext {
    int nothing;
};

enum { GATE_BITS = 128 };

/* Behind the opaque types. */
struct description {
    cublasComputeType_t compute;
    bool trans_a, trans_b;
    cublasLtEpilogue_t epilogue;
    uint8_t *aux;
    int64_t aux_ld;
};

struct layout {
    cudaDataType type;
    int64_t rows, cols, ld;

    size_t size() const
    {
        return type == CUDA_R_32F ? 4 : 2;
    }
    size_t bytes() const
    {
        return static_cast<size_t>(ld * (cols - 1) + rows) * size();
    }
};

struct preference {
    uint64_t work;
    uint32_t align[4];
};

/* What a chosen kernel was chosen for, inside cublasLtMatmulAlgo_t. */
struct choice {
    uint64_t magic;
    int32_t m, n, k, epilogue, types;
    uint32_t align[4];
};
static_assert(sizeof(choice) <= sizeof(cublasLtMatmulAlgo_t), "a choice fits where it is kept");
static const uint64_t MAGIC = 0x6c746d61746d756c;

template <class T, class O> static T *inside(O *opaque)
{
    return reinterpret_cast<T *>(opaque);
}

static cublasStatus_t refuse(cublasStatus_t status, const char *why)
{
    emu_refuse(cudaSuccess, "cuBLASLt: %s", why);
    return status;
}

/* One product, its addresses as the host gave them. */
struct lt_product {
    description desc;
    layout a, b, c, d;
    const void *pa, *pb, *pc;
    void *pd;
    float alpha, beta;
    int64_t m, n, k;
};

static cublasStatus_t check_sizes(lt_product *p)
{
    const description &e = p->desc;
    p->m = e.trans_a ? p->a.cols : p->a.rows;
    p->k = e.trans_a ? p->a.rows : p->a.cols;
    p->n = e.trans_b ? p->b.rows : p->b.cols;
    if ((e.trans_b ? p->b.cols : p->b.rows) != p->k || p->c.rows != p->m || p->c.cols != p->n ||
        p->d.rows != p->m || p->d.cols != p->n)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the sizes do not fit together");
    if (p->m < 1 || p->n < 1 || p->k < 1)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "an empty product");
    if (p->a.type != p->b.type || p->c.type != p->d.type ||
        (p->a.type == CUDA_R_32F && p->d.type != CUDA_R_32F))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "types that do not go together");
    if (p->a.type != CUDA_R_32F && e.compute != CUBLAS_COMPUTE_32F)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "arithmetic that these types lack");
    if (e.epilogue == CUBLASLT_EPILOGUE_DEFAULT || e.epilogue == CUBLASLT_EPILOGUE_RELU)
        return CUBLAS_STATUS_SUCCESS;
    if (e.epilogue != CUBLASLT_EPILOGUE_RELU_AUX && e.epilogue != CUBLASLT_EPILOGUE_DRELU)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an epilogue that is not emulated");
    if (e.aux == nullptr || e.aux_ld % GATE_BITS != 0 || e.aux_ld < p->m)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "bits without an address or in short rows");
    return CUBLAS_STATUS_SUCCESS;
}

static choice choice_of(const lt_product &p, const uint32_t *align)
{
    choice c = {};
    c.magic = MAGIC;
    c.m = static_cast<int32_t>(p.m);
    c.n = static_cast<int32_t>(p.n);
    c.k = static_cast<int32_t>(p.k);
    c.epilogue = p.desc.epilogue;
    c.types = p.a.type * 64 + p.d.type + 4096 * p.desc.trans_a + 8192 * p.desc.trans_b;
    memcpy(c.align, align, sizeof c.align);
    return c;
}

static bool aligned(const void *p, const layout &l, uint32_t align)
{
    return reinterpret_cast<uintptr_t>(p) % align == 0 &&
           static_cast<size_t>(l.ld) * l.size() % align == 0;
}

static cublasStatus_t check_memory(const lt_product &p, const choice &c)
{
    const void *start[] = {p.pa, p.pb, p.pc, p.pd};
    const layout *of[] = {&p.a, &p.b, &p.c, &p.d};
    for (int i = 0; i < 4; i++) {
        if (!aligned(start[i], *of[i], c.align[i]))
            return refuse(CUBLAS_STATUS_INVALID_VALUE, "less aligned than the kernel needs");
        if (!emu_on_device(start[i], of[i]->bytes()))
            emu_die("cuBLASLt: matrix %c at %p does not lie in one allocation of the device",
                    "abcd"[i], start[i]);
    }
    if (p.pd == p.pa || p.pd == p.pb)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the result is also a factor");
    if (p.pc == p.pd && p.c.ld != p.d.ld)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "in place with another leading dimension");
    size_t bytes = static_cast<size_t>(p.desc.aux_ld) / 8 * static_cast<size_t>(p.n);
    if ((p.desc.epilogue & 128) != 0 && !emu_on_device(p.desc.aux, bytes))
        emu_die("cuBLASLt: bits at %p do not lie in one allocation of the device",
                (void *)p.desc.aux);
    return CUBLAS_STATUS_SUCCESS;
}

static float load(const void *p, const layout &l, int64_t row, int64_t col)
{
    int64_t at = col * l.ld + row;
    return l.type == CUDA_R_32F ? static_cast<const float *>(p)[at]
                                : __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[at]);
}

static std::vector<float> pack(const void *p, const layout &l, cublasComputeType_t compute)
{
    std::vector<float> out;
    out.reserve(static_cast<size_t>(l.rows * l.cols));
    for (int64_t col = 0; col < l.cols; col++)
        for (int64_t row = 0; row < l.rows; row++)
            out.push_back(compute == CUBLAS_COMPUTE_32F_FAST_TF32
                              ? emu_to_tf32(load(p, l, row, col))
                              : load(p, l, row, col));
    return out;
}

static float finish(const description &e, float x, int64_t row, int64_t col)
{
    uint8_t *byte = e.aux == nullptr ? nullptr : e.aux + (col * e.aux_ld + row) / 8;
    uint8_t bit = static_cast<uint8_t>(128 >> row % 8);
    switch (e.epilogue) {
    case CUBLASLT_EPILOGUE_RELU_AUX:
        *byte = static_cast<uint8_t>(x > 0 ? *byte & ~bit : *byte | bit);
        return x > 0 ? x : 0;
    case CUBLASLT_EPILOGUE_RELU:
        return x > 0 ? x : 0;
    case CUBLASLT_EPILOGUE_DRELU:
        return (*byte & bit) == 0 ? x : 0;
    default:
        return x;
    }
}

static void run(const lt_product &p)
{
    std::vector<float> a = pack(p.pa, p.a, p.desc.compute), b = pack(p.pb, p.b, p.desc.compute);
    std::vector<float> c(static_cast<size_t>(p.m * p.n));
    int m = static_cast<int>(p.m), n = static_cast<int>(p.n), k = static_cast<int>(p.k);
    int lda = static_cast<int>(p.a.rows), ldb = static_cast<int>(p.b.rows);
    if (p.beta != 0)
        c = pack(p.pc, p.c, CUBLAS_COMPUTE_32F);
    emu_product_begins();
    sgemm_(p.desc.trans_a ? "T" : "N", p.desc.trans_b ? "T" : "N", &m, &n, &k, &p.alpha, a.data(),
           &lda, b.data(), &ldb, &p.beta, c.data(), &m);
    for (int64_t col = 0; col < p.n; col++)
        for (int64_t row = 0; row < p.m; row++) {
            float x = finish(p.desc, c[static_cast<size_t>(col * p.m + row)], row, col);
            int64_t at = col * p.d.ld + row;
            if (p.d.type == CUDA_R_32F)
                static_cast<float *>(p.pd)[at] = x;
            else
                static_cast<__nv_bfloat16 *>(p.pd)[at] = __float2bfloat16(x);
        }
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = nullptr;
    if (emu_health() != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasLtContext{};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if (scale != CUDA_R_32F)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "factors that are not float32");
    auto *made = new description{compute, false, false, CUBLASLT_EPILOGUE_DEFAULT, nullptr, 0};
    *desc = inside<cublasLtMatmulDescOpaque_t>(made);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete inside<description>(desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t size)
{
    auto *d = inside<description>(desc);
    bool wide = what == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER ||
                what == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD;
    int32_t number = 0;
    if (size != (wide ? 8 : 4))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "an attribute of another size");
    if (!wide)
        memcpy(&number, value, sizeof number);
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        d->trans_a = number != CUBLAS_OP_N;
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_TRANSB:
        d->trans_b = number != CUBLAS_OP_N;
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        d->epilogue = static_cast<cublasLtEpilogue_t>(number);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        memcpy(&d->aux, value, sizeof d->aux);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        memcpy(&d->aux_ld, value, sizeof d->aux_ld);
        return CUBLAS_STATUS_SUCCESS;
    default:
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an attribute that is not emulated");
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (type != CUDA_R_32F && type != CUDA_R_16BF)
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "a type that is not emulated");
    if (ld < static_cast<int64_t>(rows))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a leading dimension below the rows");
    auto *l = new layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), ld};
    *made = inside<cublasLtMatrixLayoutOpaque_t>(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete inside<layout>(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *wanted)
{
    *wanted = inside<cublasLtMatmulPreferenceOpaque_t>(new preference{0, {256, 256, 256, 256}});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wanted)
{
    delete inside<preference>(wanted);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wanted,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t size)
{
    auto *p = inside<preference>(wanted);
    int which = what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && size == sizeof p->work) {
        memcpy(&p->work, value, size);
        return CUBLAS_STATUS_SUCCESS;
    }
    if (which < 0 || which > 3 || size != sizeof p->align[0])
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a preference that is not emulated");
    memcpy(&p->align[which], value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wanted, int room,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    lt_product p = {};
    *count = 0;
    if (handle == nullptr || room < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (emu_conf().lt_refuses)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    p.desc = *inside<description>(desc);
    p.a = *inside<layout>(a);
    p.b = *inside<layout>(b);
    p.c = *inside<layout>(c);
    p.d = *inside<layout>(d);
    cublasStatus_t status = check_sizes(&p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    choice made = choice_of(p, inside<preference>(wanted)->align);
    memset(&results[0], 0, sizeof results[0]);
    memcpy(&results[0].algo, &made, sizeof made);
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *work, size_t work_bytes, cudaStream_t stream)
{
    if (handle == nullptr)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (emu_health() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    lt_product p = {*inside<description>(desc),
                    *inside<layout>(a_layout),
                    *inside<layout>(b_layout),
                    *inside<layout>(c_layout),
                    *inside<layout>(d_layout),
                    a,
                    b,
                    c,
                    d,
                    *static_cast<const float *>(alpha),
                    *static_cast<const float *>(beta),
                    0,
                    0,
                    0};
    choice chosen = {};
    cublasStatus_t status = check_sizes(&p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    if (algo != nullptr)
        memcpy(&chosen, algo, sizeof chosen);
    choice fits = choice_of(p, chosen.align);
    if (memcmp(&fits, &chosen, sizeof fits) != 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a kernel chosen for another product");
    if (work_bytes > 0 &&
        (!emu_on_device(work, work_bytes) || reinterpret_cast<uintptr_t>(work) % 16 != 0))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a workspace that is not the device's");
    status = check_memory(p, chosen);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    p.pa = emu_real(a);
    p.pb = emu_real(b);
    p.pc = emu_real(c);
    p.pd = emu_real(d);
    p.desc.aux = static_cast<uint8_t *>(emu_real(p.desc.aux));
    cudaError_t queued = emu_enqueue(stream, "a cuBLASLt product", [p] {
        emu_conf().counts.launches++;
        run(p);
    });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
