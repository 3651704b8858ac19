/* Products whose epilogue does more than store, by cuBLASLt.
 *
 * As in gemm.cu, cuBLASLt reads row-major matrices as their transposes, so the operands change
 * places. Its kernels are chosen by a heuristic of the library, which is asked once for a shape. */
#include "gemm.h"

#include <new>
#include <string.h>

enum { LT_SHAPES = 32, LT_WAYS = 64, LT_ALIGN = 16, MASK_BITS = 128 };

/* What a choice depends on. It is compared as bytes, so it is cleared before it is filled.
 * Distances between rows do not count, because they are all aligned alike. */
struct lt_shape {
    int64_t m, n, k;
    int32_t trans_a, trans_b, in_type, c_type, d_type, epilogue, precision, in_place;
};

struct lt_choice {
    struct lt_shape shape;
    cublasLtMatmulAlgo_t algo;
    bool found;
};

/* The rows of the shape are rounded up to a power of two, since they change with what is solved. */
struct lt_timed {
    struct lt_shape shape;
    enum lt_way way;
};

struct lt {
    cublasLtHandle_t handle;
    void *work; /* borrows */
    size_t work_bytes;
    struct lt_choice choice[LT_SHAPES];
    int choices; /* so far, and beyond LT_SHAPES the oldest is replaced */
    struct lt_timed timed[LT_WAYS];
    int ways;
    enum lt_way otherwise; /* of all products beyond LT_WAYS */
};

struct lt *lt_open(void *work, size_t work_bytes)
{
    struct lt *lt = new (std::nothrow) struct lt();
    if (lt == NULL)
        return NULL;
    lt->work = work;
    lt->work_bytes = work_bytes;
    if (cublasLtCreate(&lt->handle) == CUBLAS_STATUS_SUCCESS)
        return lt;
    delete lt;
    return NULL;
}

void lt_close(struct lt *lt)
{
    if (lt == NULL)
        return;
    cublasLtDestroy(lt->handle);
    delete lt;
}

int64_t lt_mask_bytes(int64_t width)
{
    return div_up(width, MASK_BITS) * MASK_BITS / 8;
}

/* The library's descriptions of one product. */
struct lt_call {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c, d;
};

static void destroy_call(struct lt_call *call)
{
    cublasLtMatrixLayout_t layouts[] = {call->a, call->b, call->c, call->d};
    for (cublasLtMatrixLayout_t layout : layouts)
        if (layout != NULL)
            cublasLtMatrixLayoutDestroy(layout);
    if (call->desc != NULL)
        cublasLtMatmulDescDestroy(call->desc);
}

template <class T>
static bool set(const struct lt_call *call, cublasLtMatmulDescAttributes_t what, T value)
{
    return cublasLtMatmulDescSetAttribute(call->desc, what, &value, sizeof value) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool describe(cublasLtMatrixLayout_t *layout, const struct operand *o)
{
    return cublasLtMatrixLayoutCreate(layout, o->type, (uint64_t)o->width, (uint64_t)o->rows,
                                      o->stride) == CUBLAS_STATUS_SUCCESS;
}

static bool set_epilogue(const struct lt_call *call, const struct lt_product *p)
{
    static const cublasLtEpilogue_t names[EPILOGUES] = {
        CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_AUX,
        CUBLASLT_EPILOGUE_DRELU};
    if (!set(call, CUBLASLT_MATMUL_DESC_EPILOGUE, names[p->epilogue]))
        return false;
    if (p->relu_mask == NULL)
        return true;
    return set(call, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p->relu_mask) &&
           set(call, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 8 * lt_mask_bytes(p->p.d.width));
}

static bool create_call(struct backend *be, struct lt_call *call, const struct lt_product *p)
{
    const struct product *q = &p->p;
    cublasComputeType_t compute =
        be->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    *call = lt_call();
    return cublasLtMatmulDescCreate(&call->desc, compute, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           set(call, CUBLASLT_MATMUL_DESC_TRANSA, q->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N) &&
           set(call, CUBLASLT_MATMUL_DESC_TRANSB, q->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N) &&
           set_epilogue(call, p) && describe(&call->a, &q->b) && describe(&call->b, &q->a) &&
           describe(&call->c, &q->c) && describe(&call->d, &q->d);
}

static bool ask(struct lt *lt, const struct lt_call *call, cublasLtMatmulAlgo_t *algo)
{
    cublasLtMatmulPreference_t wanted = NULL;
    cublasLtMatmulHeuristicResult_t result;
    uint32_t align = LT_ALIGN;
    int count = 0;
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    if (cublasLtMatmulPreferenceCreate(&wanted) != CUBLAS_STATUS_SUCCESS)
        return false;
    bool good = cublasLtMatmulPreferenceSetAttribute(
                    wanted, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &lt->work_bytes,
                    sizeof lt->work_bytes) == CUBLAS_STATUS_SUCCESS;
    for (cublasLtMatmulPreferenceAttributes_t which : aligned)
        good = good && cublasLtMatmulPreferenceSetAttribute(wanted, which, &align, sizeof align) ==
                           CUBLAS_STATUS_SUCCESS;
    good =
        good &&
        cublasLtMatmulAlgoGetHeuristic(lt->handle, call->desc, call->a, call->b, call->c, call->d,
                                       wanted, 1, &result, &count) == CUBLAS_STATUS_SUCCESS &&
        count > 0;
    cublasLtMatmulPreferenceDestroy(wanted);
    if (good)
        *algo = result.algo;
    return good;
}

static struct lt_shape shape_of(const struct backend *be, const struct lt_product *p)
{
    const struct product *q = &p->p;
    struct lt_shape s;
    memset(&s, 0, sizeof s);
    s.m = q->d.rows;
    s.n = q->d.width;
    s.k = q->inner;
    s.trans_a = q->trans_a;
    s.trans_b = q->trans_b;
    s.in_type = q->a.type;
    s.c_type = q->c.type;
    s.d_type = q->d.type;
    s.epilogue = p->epilogue;
    s.precision = be->precision;
    s.in_place = q->c.data == q->d.data;
    return s;
}

/* The library's choice for such a product, asked for the first time or remembered. */
static const struct lt_choice *choose(struct backend *be, const struct lt_product *p)
{
    struct lt *lt = cuda_of(be)->lt;
    struct lt_shape shape = shape_of(be, p);
    int known = lt->choices < LT_SHAPES ? lt->choices : LT_SHAPES;
    for (int i = 0; i < known; i++)
        if (memcmp(&lt->choice[i].shape, &shape, sizeof shape) == 0)
            return &lt->choice[i];
    struct lt_choice *made = &lt->choice[lt->choices++ % LT_SHAPES];
    struct lt_call call;
    made->shape = shape;
    made->found = create_call(be, &call, p) && ask(lt, &call, &made->algo);
    destroy_call(&call);
    return made;
}

enum lt_way *lt_way_of(struct backend *be, const struct lt_product *p)
{
    struct lt *lt = cuda_of(be)->lt;
    struct lt_shape shape = shape_of(be, p);
    int64_t rows = 1;
    while (rows < shape.m)
        rows *= 2;
    shape.m = rows;
    for (int i = 0; i < lt->ways; i++)
        if (memcmp(&lt->timed[i].shape, &shape, sizeof shape) == 0)
            return &lt->timed[i].way;
    if (lt->ways == LT_WAYS) {
        lt->otherwise = LT_FUSED;
        return &lt->otherwise;
    }
    lt->timed[lt->ways].shape = shape;
    return &lt->timed[lt->ways++].way;
}

static bool is_even(const struct operand *o)
{
    size_t size = o->type == CUDA_R_32F ? sizeof(float) : sizeof(__nv_bfloat16);
    return is_aligned(o->data, LT_ALIGN) && (size_t)o->stride * size % LT_ALIGN == 0;
}

bool lt_supports(struct backend *be, const struct lt_product *p)
{
    const struct product *q = &p->p;
    if (cuda_of(be)->lt == NULL || q->inner == 0 || q->d.rows * q->d.width == 0)
        return false;
    if (!is_even(&q->a) || !is_even(&q->b) || !is_even(&q->c) || !is_even(&q->d) ||
        !is_aligned(p->relu_mask, LT_ALIGN))
        return false;
    return choose(be, p)->found;
}

void lt_multiply(struct backend *be, const struct lt_product *p, enum op_id id)
{
    struct lt *lt = cuda_of(be)->lt;
    const struct product *q = &p->p;
    const struct lt_choice *choice = choose(be, p);
    struct lt_call call;
    bool good = create_call(be, &call, p) &&
                cublasLtMatmul(lt->handle, call.desc, &q->alpha, q->b.data, call.a, q->a.data,
                               call.b, &q->beta, q->c.data, call.c, const_cast<void *>(q->d.data),
                               call.d, &choice->algo, lt->work, lt->work_bytes,
                               cuda_of(be)->stream) == CUBLAS_STATUS_SUCCESS;
    destroy_call(&call);
    if (!good)
        backend_fault(be, id, "cuBLASLt could not run the product");
}
