/* The emulated cuBLASLt. It is column-major, has an epilogue behind the sum, rounds results once,
 * and checks its arguments. */
#include "emu/planted.h"

#include <vector>

enum { M = 16, N = 3, K = 5, LD = 24, WORK = 1 << 10, BITS = 128 };

/* A product [M,K] [K,N] of bfloat16 numbers with leading dimension LD everywhere. */
struct call {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c, d;
    cublasLtMatmulAlgo_t algo;
    void *work;
};

template <class T> static cublasStatus_t set(call *c, cublasLtMatmulDescAttributes_t what, T value)
{
    return cublasLtMatmulDescSetAttribute(c->desc, what, &value, sizeof value);
}

static void describe(call *c, cublasLtEpilogue_t epilogue, void *bits, cudaDataType_t result)
{
    check_cuda(cudaMalloc(&c->work, WORK));
    assert_int_equal(cublasLtCreate(&c->handle), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulDescCreate(&c->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                     CUBLAS_STATUS_SUCCESS);
    set(c, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(c, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, bits);
    set(c, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (int64_t)BITS);
    cublasLtMatrixLayoutCreate(&c->a, CUDA_R_16BF, M, K, LD);
    cublasLtMatrixLayoutCreate(&c->b, CUDA_R_16BF, K, N, LD);
    cublasLtMatrixLayoutCreate(&c->c, result, M, N, LD);
    cublasLtMatrixLayoutCreate(&c->d, result, M, N, LD);
}

static cublasStatus_t ask(call *c)
{
    cublasLtMatmulPreference_t wanted;
    cublasLtMatmulHeuristicResult_t result;
    int count = 0;
    uint32_t align = 16;
    cublasLtMatmulPreferenceCreate(&wanted);
    for (int i = 0; i < 4; i++)
        cublasLtMatmulPreferenceSetAttribute(wanted,
                                             static_cast<cublasLtMatmulPreferenceAttributes_t>(
                                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
                                             &align, sizeof align);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(c->handle, c->desc, c->a, c->b, c->c,
                                                           c->d, wanted, 1, &result, &count);
    cublasLtMatmulPreferenceDestroy(wanted);
    if (count > 0)
        c->algo = result.algo;
    return status;
}

static cublasStatus_t run(call *c, const void *a, const void *b, float beta, const void *from,
                          void *to)
{
    float alpha = 2;
    cublasStatus_t status = cublasLtMatmul(c->handle, c->desc, &alpha, a, c->a, b, c->b, &beta,
                                           from, c->c, to, c->d, &c->algo, c->work, WORK, nullptr);
    alpha = beta = 100; /* they were read at the call */
    check_cuda(cudaDeviceSynchronize());
    return status;
}

static void release(call *c)
{
    cublasLtMatrixLayout_t layouts[] = {c->a, c->b, c->c, c->d};
    for (cublasLtMatrixLayout_t layout : layouts)
        cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(c->desc);
    cublasLtDestroy(c->handle);
    check_cuda(cudaFree(c->work));
}

/* Whole numbers from -5 to 5, on the device. */
static __nv_bfloat16 *numbers(size_t count, int step, std::vector<float> *host)
{
    std::vector<__nv_bfloat16> x;
    for (size_t i = 0; i < count; i++) {
        host->push_back(
            static_cast<float>(static_cast<int>(i * static_cast<size_t>(step) % 11) - 5));
        x.push_back(__float2bfloat16(host->back()));
    }
    __nv_bfloat16 *p = nullptr;
    check_cuda(cudaMalloc(&p, count * sizeof *p));
    check_cuda(cudaMemcpy(p, x.data(), count * sizeof *p, cudaMemcpyHostToDevice));
    return p;
}

/* Rectified with bits, then masked by them. The second product passes where the first was above
 * 0. */
static void epilogues(void **)
{
    std::vector<float> a, b, c;
    __nv_bfloat16 *pa = numbers(LD * K, 7, &a), *pb = numbers(LD * N, 3, &b);
    float *sum = nullptr, *out = nullptr;
    uint8_t *bits = nullptr;
    check_cuda(cudaMalloc(&sum, LD * N * sizeof *sum));
    check_cuda(cudaMalloc(&out, LD * N * sizeof *out));
    check_cuda(cudaMalloc(&bits, BITS / 8 * N));
    check_cuda(cudaMemset(bits, 0, BITS / 8 * N));
    c.assign(LD * N, -30);
    check_cuda(cudaMemcpy(sum, c.data(), c.size() * sizeof(float), cudaMemcpyHostToDevice));
    const cublasLtEpilogue_t epilogue[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_RELU,
                                           CUBLASLT_EPILOGUE_RELU_AUX, CUBLASLT_EPILOGUE_DRELU};
    int above = 0;
    for (int e = 0; e < 4; e++) {
        call call = {};
        std::vector<float> got(LD * N);
        float beta = e == 3 ? 0.0f : 1.0f;
        describe(&call, epilogue[e], bits, CUDA_R_32F);
        assert_int_equal(ask(&call), CUBLAS_STATUS_SUCCESS);
        assert_int_equal(run(&call, pa, pb, beta, sum, out), CUBLAS_STATUS_SUCCESS);
        check_cuda(cudaMemcpy(got.data(), out, got.size() * sizeof(float), cudaMemcpyDeviceToHost));
        for (int col = 0; col < N; col++)
            for (int row = 0; row < M; row++) {
                float product = 0, want;
                for (int k = 0; k < K; k++)
                    product += 2 * a[static_cast<size_t>(k * LD + row)] *
                               b[static_cast<size_t>(col * LD + k)];
                bool pass = product - 30 > 0;
                want = e == 3 ? product : product - 30;
                above += pass;
                assert_true(got[static_cast<size_t>(col * LD + row)] ==
                            (e > 0 && !pass ? 0 : want));
            }
        release(&call);
    }
    assert_true(above > 0 && above < 4 * M * N);
    void *all[] = {pa, pb, sum, out, bits};
    for (void *p : all)
        check_cuda(cudaFree(p));
}

/* The rectifier makes 0 of a NaN, as max(x, 0) does. Results in bfloat16 are the nearest. */
static void rounding(void **)
{
    std::vector<float> a, b;
    __nv_bfloat16 *pa = numbers(LD * K, 0, &a), *pb = numbers(LD * N, 0, &b), *out = nullptr;
    const __nv_bfloat16 some[] = {__float2bfloat16(1 + 0x1p-7f), __float2bfloat16(NAN)};
    check_cuda(cudaMalloc(&out, LD * N * sizeof *out));
    check_cuda(cudaMemset(pa, 0, LD * K * sizeof *pa));
    check_cuda(cudaMemset(pb, 0, LD * N * sizeof *pb));
    check_cuda(cudaMemcpy(pa, some, sizeof some, cudaMemcpyHostToDevice)); /* rows 0 and 1 */
    check_cuda(cudaMemcpy(pb, some, sizeof some[0], cudaMemcpyHostToDevice));
    call call = {};
    describe(&call, CUBLASLT_EPILOGUE_RELU, nullptr, CUDA_R_16BF);
    assert_int_equal(ask(&call), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(run(&call, pa, pb, 0, out, out), CUBLAS_STATUS_SUCCESS);
    __nv_bfloat16 got[2];
    check_cuda(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost));
    /* 2 (1 + 2^-7)^2 = 2 + 2^-5 + 2^-13 */
    assert_true(__bfloat162float(got[0]) == 2 + 0x1p-5f);
    assert_true(__bfloat162float(got[1]) == 0);
    release(&call);
    void *all[] = {pa, pb, out};
    for (void *p : all)
        check_cuda(cudaFree(p));
}

static void short_bits(void)
{
    call call = {};
    std::vector<float> a, b;
    __nv_bfloat16 *pa = numbers(LD * K, 7, &a), *pb = numbers(LD * N, 3, &b), *pd = pa;
    uint8_t *bits = nullptr;
    check_cuda(cudaMalloc(&pd, LD * N * sizeof *pd));
    check_cuda(cudaMalloc(&bits, BITS / 8 * N - 1));
    describe(&call, CUBLASLT_EPILOGUE_RELU_AUX, bits, CUDA_R_16BF);
    ask(&call);
    run(&call, pa, pb, 0, pd, pd);
}

static void arguments_are_checked(void **)
{
    call call = {};
    std::vector<float> a, b;
    __nv_bfloat16 *pa = numbers(LD * K, 7, &a), *pb = numbers(LD * N, 3, &b), *pd = nullptr;
    check_cuda(cudaMalloc(&pd, (LD * N + 1) * sizeof *pd));
    describe(&call, CUBLASLT_EPILOGUE_RELU, nullptr, CUDA_R_16BF);
    assert_int_equal(run(&call, pa, pb, 0, pd, pd), CUBLAS_STATUS_INVALID_VALUE); /* none chosen */
    assert_int_equal(ask(&call), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(run(&call, pa, pb, 0, pd, pd), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(run(&call, pa, pb, 0, pd, pd + 1),
                     CUBLAS_STATUS_INVALID_VALUE); /* alignment */
    assert_int_equal(run(&call, pa, pd, 0, pd, pd),
                     CUBLAS_STATUS_INVALID_VALUE); /* also a factor */
    set(&call, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    assert_int_equal(run(&call, pa, pb, 0, pd, pd), CUBLAS_STATUS_INVALID_VALUE); /* another one */
    set(&call, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU_AUX);
    assert_int_equal(ask(&call), CUBLAS_STATUS_INVALID_VALUE); /* no bits */
    uint64_t long_value = 1;
    assert_int_equal(set(&call, CUBLASLT_MATMUL_DESC_TRANSA, long_value),
                     CUBLAS_STATUS_INVALID_VALUE);
    cublasLtMatrixLayout_t layout = nullptr;
    assert_int_equal(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, M, K, M - 1),
                     CUBLAS_STATUS_INVALID_VALUE);
    set(&call, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    emu_refuse_lt(true);
    assert_int_equal(ask(&call), CUBLAS_STATUS_NOT_SUPPORTED);
    emu_refuse_lt(false);
    expect_caught(short_bits, "bits at", "-");
    release(&call);
    void *all[] = {pa, pb, pd};
    for (void *p : all)
        check_cuda(cudaFree(p));
}

int main(void)
{
    setenv("DEQ_EMU_QUIET", "1", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_checked), /* forks, so before OpenBLAS has threads */
        cmocka_unit_test(epilogues),
        cmocka_unit_test(rounding),
    };
    return cmocka_run_group_tests_name("emulated cuBLASLt", tests, nullptr, nullptr);
}
