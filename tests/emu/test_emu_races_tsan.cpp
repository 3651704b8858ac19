/* Races between the threads of a launch, seen by ThreadSanitizer. Every CUDA thread is a thread of
 * its own to it, and only barriers, fences and atomics order them. Unlike a wrong result in some
 * order of threads, a race is reported in any. */
#include "emu/planted.h"

#include "cuda/mma.h"
#include <dirent.h>
#include <omp.h>
#include <pthread.h>

enum { N = 64 };

/* A report ends the program. */
extern "C" const char *__tsan_default_options(void);
extern "C" const char *__tsan_default_options(void)
{
    return "halt_on_error=1:report_signal_unsafe=0";
}

/* Rotates N numbers. Without the first barrier a write races with a read. Without the second a read
 * races with a write of the next round. */
static void rotate_numbers(float *x, float *tile, unsigned me, void (*barrier)(void), bool first,
                           bool second)
{
    for (int round = 0; round < 2; round++) {
        tile[me] = x[me];
        if (first)
            barrier();
        x[me] = tile[(me + 1) % N];
        if (second)
            barrier();
    }
}

static void block_barrier(void)
{
    __syncthreads();
}

static __global__ void k_rotate(float *x, bool first, bool second)
{
    SHARED(float, tile, [N]);
    rotate_numbers(x, tile, threadIdx.x, block_barrier, first, second);
}

static void rotate(bool first, bool second)
{
    LAUNCH(k_rotate, 3, N, 0, nullptr, device_floats(N, 1), first, second);
    cudaDeviceSynchronize();
}

static void no_first_barrier(void)
{
    LAUNCH(k_rotate, 1, N, 0, nullptr, device_floats(N, 1), false, true);
    cudaDeviceSynchronize();
}

static void no_second_barrier(void)
{
    LAUNCH(k_rotate, 1, N, 0, nullptr, device_floats(N, 1), true, false);
    cudaDeviceSynchronize();
}

static void shared_memory_races(void **)
{
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order(static_cast<emu_order>(order), 1);
        expect_caught(no_first_barrier, "data race", "-");
        expect_caught(no_first_barrier, "rotate_numbers", "-");
        expect_caught(no_second_barrier, "data race", "-");
    }
    emu_set_order(EMU_ASCENDING, 1);
}

/* The same text by real threads, N of them with one barrier. */
static struct {
    pthread_barrier_t barrier;
    float x[N], tile[N];
    bool first, second;
} real;

static void real_barrier(void)
{
    pthread_barrier_wait(&real.barrier);
}

static void *real_rotate(void *me)
{
    rotate_numbers(real.x, real.tile, static_cast<unsigned>(reinterpret_cast<uintptr_t>(me)),
                   real_barrier, real.first, real.second);
    return nullptr;
}

static void rotate_by_threads(bool first, bool second)
{
    pthread_t thread[N];
    real.first = first;
    real.second = second;
    pthread_barrier_init(&real.barrier, nullptr, N);
    for (uintptr_t i = 0; i < N; i++)
        if (pthread_create(&thread[i], nullptr, real_rotate, reinterpret_cast<void *>(i)) != 0)
            abort();
    for (int i = 0; i < N; i++)
        pthread_join(thread[i], nullptr);
    pthread_barrier_destroy(&real.barrier);
}

static void threads_without_first(void)
{
    rotate_by_threads(false, true);
}

static void threads_without_second(void)
{
    rotate_by_threads(true, false);
}

static void threads_with_both(void)
{
    rotate_by_threads(true, true);
}

/* What is said of fibers is said of threads, with one difference. Threads tell only now and then
 * that the second barrier is missing. A thread that leaves a pthread_barrier late is taken to have
 * waited for what a fast one has done since (see barrier_address in block.cpp). */
static void real_threads_agree(void **)
{
    static char said[16384];
    int found = 0;
    expect_caught(threads_without_first, "data race", "-");
    expect_caught(threads_without_first, "rotate_numbers", "-");
    for (int i = 0; i < 10; i++)
        found += ends_badly(threads_without_second, said, sizeof said) ? 1 : 0;
    print_message("a missing second barrier: found by real threads in %d of 10 runs\n", found);
    if (ends_badly(threads_with_both, said, sizeof said))
        fail_msg("%s", said);
}

/* Within a warp a shuffle orders no memory, while __syncwarp does. */
static __global__ void k_warp_exchange(float *x, bool sync)
{
    SHARED(float, tile, [32]);
    tile[threadIdx.x] = x[threadIdx.x];
    if (sync)
        __syncwarp();
    else
        x[threadIdx.x] = warp_sum(1.0f);
    x[threadIdx.x] = tile[31 - threadIdx.x];
}

static void warp_without_sync(void)
{
    LAUNCH(k_warp_exchange, 1, 32, 0, nullptr, device_floats(32, 1), false);
    cudaDeviceSynchronize();
}

static void warps_need_syncwarp(void **)
{
    expect_caught(warp_without_sync, "data race", "-");
    LAUNCH(k_warp_exchange, 1, 32, 0, nullptr, device_floats(32, 1), true);
    check_cuda(cudaDeviceSynchronize());
}

/* Every block adds to the same numbers. */
static __global__ void k_accumulate(float *sum, bool atomic)
{
    if (atomic)
        atomicAdd(&sum[threadIdx.x], 1.0f);
    else
        sum[threadIdx.x] += 1.0f;
}

static void blocks_without_atomics(void)
{
    LAUNCH(k_accumulate, 2, N, 0, nullptr, device_floats(N, 0), false);
    cudaDeviceSynchronize();
}

static void races_between_blocks(void **)
{
    expect_caught(blocks_without_atomics, "data race", "-");
    float *sum = device_floats(N, 0);
    LAUNCH(k_accumulate, 5, N, 0, nullptr, sum, true);
    assert_true(device_float(sum + 3) == 5);
    LAUNCH(k_accumulate, 1, N, 0, nullptr, sum, false); /* launches are ordered */
    LAUNCH(k_accumulate, 1, N, 0, nullptr, sum, false);
    assert_true(device_float(sum + 3) == 7);
    check_cuda(cudaFree(sum));
}

/* The last block to finish adds what all have left. */
static __global__ void k_last_block(float *part, unsigned *done, float *total)
{
    SHARED(unsigned, ticket, );
    part[blockIdx.x * blockDim.x + threadIdx.x] = 1;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        ticket = atomicAdd(done, 1u);
    __syncthreads();
    if (ticket != gridDim.x - 1)
        return;
    __threadfence();
    if (threadIdx.x == 0) {
        float sum = 0;
        for (unsigned i = 0; i < gridDim.x * blockDim.x; i++)
            sum += part[i];
        *total = sum;
    }
}

static void correct_kernels_are_quiet(void **)
{
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order(static_cast<emu_order>(order), 1);
        rotate(true, true);
        float *part = device_floats(4 * N, 0), *total = device_floats(1, 0);
        unsigned *done = nullptr;
        check_cuda(cudaMalloc(&done, sizeof *done));
        check_cuda(cudaMemset(done, 0, sizeof *done));
        LAUNCH(k_last_block, 4, N, 0, nullptr, part, done, total);
        assert_true(device_float(total) == 4 * N);
        check_cuda(cudaFree(part));
        check_cuda(cudaFree(total));
        check_cuda(cudaFree(done));
    }
}

/* Threads of this process, those of libraries too. */
static int threads_here(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == nullptr)
        return 0;
    while (struct dirent *entry = readdir(tasks))
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* By cuBLAS, large enough for several threads. */
static void multiply(void)
{
    enum { SIDE = 256 };
    float one = 1;
    float *a = device_floats(SIDE * SIDE, 1), *c = device_floats(SIDE * SIDE, 1);
    cublasHandle_t handle = nullptr;
    cublasCreate(&handle);
    omp_set_num_threads(4);
    assert_int_equal(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, SIDE, SIDE, SIDE, &one, a,
                                  CUDA_R_32F, SIDE, a, CUDA_R_32F, SIDE, &one, c, CUDA_R_32F, SIDE,
                                  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    assert_true(device_float(c) == SIDE + 1);
    cublasDestroy(handle);
    check_cuda(cudaFree(a));
    check_cuda(cudaFree(c));
}

static void race_after_product(void)
{
    multiply();
    no_first_barrier();
}

/* Whatever number of threads was asked for: see emu_product_begins. Races of ours are seen still.
 */
static void products_have_no_threads(void **)
{
    int before = threads_here();
    assert_true(before > 0);
    multiply();
    assert_int_equal(threads_here(), before);
    expect_caught(race_after_product, "rotate_numbers", "-");
}

/* Numbers that a thread has copied, or left, for others to load as matrices. Without the first
 * barrier the copy races with the load, and without the second the load with the next copy. */
static __global__ void k_matrices(const float *x, float *y, bool first, bool second)
{
    SHARED(float, tile, [4 * N]);
    unsigned me = threadIdx.x, other = (me + 32) % N;
    for (int round = 0; round < 2; round++) {
        uint32_t to[4];
        copy_async(&tile[4 * me], x + 4 * me, true);
        copy_commit();
        copy_wait<0>();
        if (first)
            __syncthreads();
        load_matrices(to, &tile[4 * other]);
        if (second)
            __syncthreads();
        y[me] = static_cast<float>(to[0]);
    }
}

static void load_matrices_of(bool first, bool second)
{
    LAUNCH(k_matrices, 1, N, 0, nullptr, device_floats(4 * N, 1), device_floats(N, 0), first,
           second);
    cudaDeviceSynchronize();
}

static void loaded_too_early(void)
{
    load_matrices_of(false, true);
}

static void copied_too_early(void)
{
    load_matrices_of(true, false);
}

static void copies_and_matrices_race(void **)
{
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order(static_cast<emu_order>(order), 1);
        load_matrices_of(true, true);
        expect_caught(loaded_too_early, "data race", "-");
        expect_caught(copied_too_early, "data race", "-");
    }
    emu_set_order(EMU_ASCENDING, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_memory_races),       cmocka_unit_test(real_threads_agree),
        cmocka_unit_test(warps_need_syncwarp),       cmocka_unit_test(races_between_blocks),
        cmocka_unit_test(correct_kernels_are_quiet), cmocka_unit_test(products_have_no_threads),
        cmocka_unit_test(copies_and_matrices_race),
    };
    return cmocka_run_group_tests_name("races in kernels", tests, nullptr, nullptr);
}
