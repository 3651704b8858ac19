/* The emulated cuBLAS against a plain triple loop. It is column-major, with leading dimensions and
 * the rounding of each arithmetic, and it checks its arguments. */
#include "emu/planted.h"

#include <vector>

enum { M = 3, N = 4, K = 5, LD = 7 };

/* Small whole numbers and halves, exact in every arithmetic but for the inputs' rounding. */
static std::vector<float> numbers(size_t count, float step)
{
    std::vector<float> x(count);
    for (size_t i = 0; i < count; i++)
        x[i] = step * static_cast<float>(static_cast<int>(i * 7 % 11) - 5);
    return x;
}

template <class T> static T *to_device(const std::vector<T> &x)
{
    T *p = nullptr;
    check_cuda(cudaMalloc(&p, x.size() * sizeof(T)));
    check_cuda(cudaMemcpy(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

static float element(const std::vector<float> &x, bool transposed, int row, int col)
{
    return x[static_cast<size_t>(transposed ? row * LD + col : col * LD + row)];
}

static void check_product(bool ta, bool tb)
{
    std::vector<float> a = numbers(LD * LD, 0.5f), b = numbers(LD * LD, 1), c = numbers(LD * N, 2);
    float *pa = to_device(a), *pb = to_device(b), *pc = to_device(c), alpha = 2, beta = 0.5f;
    cublasHandle_t handle = nullptr;
    assert_int_equal(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasGemmEx(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                  tb ? CUBLAS_OP_T : CUBLAS_OP_N, M, N, K, &alpha, pa, CUDA_R_32F,
                                  LD, pb, CUDA_R_32F, LD, &beta, pc, CUDA_R_32F, LD,
                                  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    alpha = beta = 100; /* they were read at the call */
    std::vector<float> got(c.size());
    check_cuda(cudaMemcpy(got.data(), pc, got.size() * sizeof(float), cudaMemcpyDeviceToHost));
    for (int col = 0; col < N; col++)
        for (int row = 0; row < LD; row++) {
            float want = c[static_cast<size_t>(col * LD + row)];
            if (row < M) {
                float sum = 0;
                for (int k = 0; k < K; k++)
                    sum += element(a, ta, row, k) * element(b, tb, k, col);
                want = 2 * sum + 0.5f * want;
            }
            assert_true(got[static_cast<size_t>(col * LD + row)] == want);
        }
    cublasDestroy(handle);
    check_cuda(cudaFree(pa));
    check_cuda(cudaFree(pb));
    check_cuda(cudaFree(pc));
}

static void products_are_column_major(void **)
{
    for (int t = 0; t < 4; t++)
        check_product(t % 2, t / 2);
}

/* beta 0 overwrites NaN, as the contract of cuBLAS has it. */
static float multiply_one(cublasComputeType_t compute, float x)
{
    float *a = device_floats(1, x), *b = device_floats(1, 1), *c = nullptr, one = 1, zero = 0;
    check_cuda(cudaMalloc(&c, sizeof *c));
    cublasHandle_t handle = nullptr;
    cublasCreate(&handle);
    assert_int_equal(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a, CUDA_R_32F, 1,
                                  b, CUDA_R_32F, 1, &zero, c, CUDA_R_32F, 1, compute,
                                  CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    float got = device_float(c);
    cublasDestroy(handle);
    check_cuda(cudaFree(a));
    check_cuda(cudaFree(b));
    check_cuda(cudaFree(c));
    return got;
}

static void inputs_are_rounded(void **)
{
    const float x = 1 + 0x1p-9f + 0x1p-12f; /* below TF32's half unit of 2^-11 */
    assert_true(multiply_one(CUBLAS_COMPUTE_32F, x) == x);
    assert_true(multiply_one(CUBLAS_COMPUTE_32F_FAST_TF32, x) == 1 + 0x1p-9f);
    assert_true(isnan(multiply_one(CUBLAS_COMPUTE_32F_FAST_TF32, NAN)));
    /* Half a unit above an even number, half a unit above an odd one, and nearly a unit. */
    const float low = 1 + 0x1p-11f, high = 1 + 0x1p-10f + 0x1p-11f, most = 1 + 0x1.8p-11f;
    const float want[EMU_TF32_ROUNDINGS][3] = {{1 + 0x1p-10f, 1 + 0x1p-9f, 1 + 0x1p-10f},
                                               {1, 1 + 0x1p-9f, 1 + 0x1p-10f},
                                               {1, 1 + 0x1p-10f, 1}};
    for (int rounding = 0; rounding < EMU_TF32_ROUNDINGS; rounding++) {
        emu_set_tf32(static_cast<emu_tf32>(rounding));
        assert_true(multiply_one(CUBLAS_COMPUTE_32F_FAST_TF32, low) == want[rounding][0]);
        assert_true(multiply_one(CUBLAS_COMPUTE_32F_FAST_TF32, high) == want[rounding][1]);
        assert_true(multiply_one(CUBLAS_COMPUTE_32F_FAST_TF32, most) == want[rounding][2]);
    }
    emu_set_tf32(EMU_TF32_AWAY);
}

static void bfloat16_products(void **)
{
    std::vector<__nv_bfloat16> a, b;
    for (int i = 0; i < K; i++) {
        a.push_back(__float2bfloat16(static_cast<float>(i + 1)));
        b.push_back(__float2bfloat16(1 + static_cast<float>(i) * 0x1p-12f)); /* rounds to 1 */
    }
    __nv_bfloat16 *pa = to_device(a), *pb = to_device(b);
    float *c = device_floats(1, 0), one = 1, zero = 0;
    cublasHandle_t handle = nullptr;
    cublasCreate(&handle);
    assert_int_equal(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, K, &one, pa, CUDA_R_16BF,
                                  K, pb, CUDA_R_16BF, K, &zero, c, CUDA_R_32F, 1,
                                  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    assert_true(device_float(c) == K * (K + 1) / 2);
    cublasDestroy(handle);
    check_cuda(cudaFree(pa));
    check_cuda(cudaFree(pb));
    check_cuda(cudaFree(c));
}

static cublasStatus_t sgemm(const float *a, int lda, const float *b, int ldb, float *c, int ldc)
{
    float one = 1;
    cublasHandle_t handle = nullptr;
    cublasCreate(&handle);
    cublasStatus_t status = cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &one, a,
                                         CUDA_R_32F, lda, b, CUDA_R_32F, ldb, &one, c, CUDA_R_32F,
                                         ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    check_cuda(cudaDeviceSynchronize());
    cublasDestroy(handle);
    return status;
}

static void beyond_its_matrix(void)
{
    float *a = device_floats(M * K - 1, 0);
    sgemm(a, M, device_floats(K * N, 0), K, device_floats(M * N, 0), M);
}

static void host_matrix(void)
{
    static float a[M * K];
    sgemm(a, M, device_floats(K * N, 0), K, device_floats(M * N, 0), M);
}

static void arguments_are_checked(void **)
{
    float *a = device_floats(M * K + 1, 0), *b = device_floats(K * N, 0),
          *c = device_floats(M * N, 0);
    assert_int_equal(sgemm(a, M, b, K, c, M), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(sgemm(a, M - 1, b, K, c, M), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(sgemm(a, M, b, K - 1, c, M), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(sgemm(a, M, b, K, c, M - 1), CUBLAS_STATUS_INVALID_VALUE);
    float *odd = reinterpret_cast<float *>(reinterpret_cast<char *>(a) + 2);
    assert_int_equal(sgemm(odd, M, b, K, c, M), CUBLAS_STATUS_INVALID_VALUE);
    expect_caught(beyond_its_matrix, "does not lie in one allocation", "-");
    expect_caught(host_matrix, "does not lie in one allocation", "-");
    check_cuda(cudaFree(a));
    check_cuda(cudaFree(b));
    check_cuda(cudaFree(c));
}

int main(void)
{
    setenv("DEQ_EMU_QUIET", "1", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_checked), /* forks, so before OpenBLAS has threads */
        cmocka_unit_test(products_are_column_major),
        cmocka_unit_test(inputs_are_rounded),
        cmocka_unit_test(bfloat16_products),
    };
    return cmocka_run_group_tests_name("emulated cuBLAS", tests, nullptr, nullptr);
}
