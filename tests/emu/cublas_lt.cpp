/* cuBLASLt, whose products have an epilogue. They are column-major, inputs are rounded as in
 * cublas.cpp, and results once, at the end.
 *
 * Where the library's documents leave something open, the choice here is the one that a caller
 * could least rely on by accident. The rectifier makes 0 of a NaN (the documents say max(x, 0)),
 * and its bits are stored inverted, the first of a byte on top. A kernel chosen for one product
 * does not run another, and needs the alignment that it was asked for with. */
#include "emu/product.h"

#include <string.h>

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
    emu_product p;
    int64_t m, n, k;
};

static lt_product product_of(const void *desc, const void *a, const void *b, const void *c,
                             const void *d)
{
    lt_product p = {};
    p.desc = *static_cast<const description *>(desc);
    p.p.trans_a = p.desc.trans_a;
    p.p.trans_b = p.desc.trans_b;
    p.p.tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    p.p.a = *static_cast<const emu_matrix *>(a);
    p.p.b = *static_cast<const emu_matrix *>(b);
    p.p.c = *static_cast<const emu_matrix *>(c);
    p.p.d = *static_cast<const emu_matrix *>(d);
    p.m = p.p.trans_a ? p.p.a.cols : p.p.a.rows;
    p.k = p.p.trans_a ? p.p.a.rows : p.p.a.cols;
    p.n = p.p.trans_b ? p.p.b.rows : p.p.b.cols;
    return p;
}

static cublasStatus_t check_sizes(const lt_product *p)
{
    const description &e = p->desc;
    const emu_matrix &a = p->p.a, &b = p->p.b, &c = p->p.c, &d = p->p.d;
    if ((e.trans_b ? b.cols : b.rows) != p->k || c.rows != p->m || c.cols != p->n ||
        d.rows != p->m || d.cols != p->n)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the sizes do not fit together");
    if (p->m < 1 || p->n < 1 || p->k < 1)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "an empty product");
    if (a.type != b.type || c.type != d.type || (a.type == CUDA_R_32F && d.type != CUDA_R_32F))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "types that do not go together");
    if (a.type != CUDA_R_32F && e.compute != CUBLAS_COMPUTE_32F)
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
    c.types = p.p.a.type * 64 + p.p.d.type + 4096 * p.desc.trans_a + 8192 * p.desc.trans_b;
    memcpy(c.align, align, sizeof c.align);
    return c;
}

static cublasStatus_t check_memory(const lt_product &p, const choice &c)
{
    const emu_matrix *all[] = {&p.p.a, &p.p.b, &p.p.c, &p.p.d};
    for (int i = 0; i < 4; i++) {
        if (reinterpret_cast<uintptr_t>(all[i]->p) % c.align[i] != 0 ||
            static_cast<size_t>(all[i]->ld) * all[i]->size() % c.align[i] != 0)
            return refuse(CUBLAS_STATUS_INVALID_VALUE, "less aligned than the kernel needs");
        emu_check_matrix("cuBLASLt", "abcd"[i], *all[i]);
    }
    if (p.p.d.p == p.p.a.p || p.p.d.p == p.p.b.p)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "the result is also a factor");
    if (p.p.c.p == p.p.d.p && p.p.c.ld != p.p.d.ld)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "in place with another leading dimension");
    size_t bytes = static_cast<size_t>(p.desc.aux_ld) / 8 * static_cast<size_t>(p.n);
    if ((p.desc.epilogue & 128) != 0 && !emu_on_device(p.desc.aux, bytes))
        emu_die("cuBLASLt: bits at %p do not lie in one allocation of the device",
                (void *)p.desc.aux);
    return CUBLAS_STATUS_SUCCESS;
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
    if (!emu_is_number(type))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "a type that is not emulated");
    if (ld < static_cast<int64_t>(rows))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a leading dimension below the rows");
    auto *l =
        new emu_matrix{nullptr, type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), ld};
    *made = inside<cublasLtMatrixLayoutOpaque_t>(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete inside<emu_matrix>(l);
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
    *count = 0;
    if (handle == nullptr || room < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (emu_conf().lt_refuses)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    lt_product p = product_of(desc, a, b, c, d);
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
    lt_product p = product_of(desc, a_layout, b_layout, c_layout, d_layout);
    emu_matrix *all[] = {&p.p.a, &p.p.b, &p.p.c, &p.p.d};
    const void *given[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        all[i]->p = given[i];
    p.p.alpha = *static_cast<const float *>(alpha);
    p.p.beta = *static_cast<const float *>(beta);
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
    for (emu_matrix *x : all)
        x->p = emu_real(x->p);
    p.desc.aux = static_cast<uint8_t *>(emu_real(p.desc.aux));
    cudaError_t queued = emu_enqueue(stream, "a cuBLASLt product", [p] {
        emu_conf().counts.launches++;
        emu_conf().counts.device_ms +=
            p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT && emu_conf().lt_slow ? 5 : 1;
        emu_conf().counts.uneven += emu_uneven(p.p);
        emu_multiply(
            p.p, [&p](float x, int64_t row, int64_t col) { return finish(p.desc, x, row, col); });
    });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
