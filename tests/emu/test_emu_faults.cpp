/* Every kind of fault that the emulator promises to catch is planted here and must be caught. Where
 * a fault's effect depends on the order of threads, at least one of the three orders must show it.
 */
#include "emu/planted.h"

enum { N = 64 };

/* ---- Barriers -------------------------------------------------------------------------------- */
/* Reverses n numbers within a block. Without the barrier a thread reads what another may not have
 * written yet. */
static __global__ void k_reverse(float *x, int barrier)
{
    SHARED(float, tile, [N]);
    tile[threadIdx.x] = x[threadIdx.x];
    if (barrier)
        __syncthreads();
    x[threadIdx.x] = tile[N - 1 - threadIdx.x];
}

static bool reversed(int barrier)
{
    float host[N];
    float *x = device_floats(N, 0);
    for (int i = 0; i < N; i++)
        host[i] = static_cast<float>(i);
    check_cuda(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice));
    LAUNCH(k_reverse, 1, N, 0, nullptr, x, barrier);
    check_cuda(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost));
    check_cuda(cudaFree(x));
    bool good = true;
    for (int i = 0; i < N; i++)
        good = good && host[i] == static_cast<float>(N - 1 - i);
    return good;
}

static void missing_barrier_shows(void **)
{
    int shown = 0;
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order(static_cast<emu_order>(order), 1);
        assert_true(reversed(1));
        shown += !reversed(0);
    }
    emu_set_order(EMU_ASCENDING, 1);
    assert_true(shown > 0);
}

/* Each thread uses what its left neighbour wrote. With the threads in ascending order it looks
 * right, and only another order shows the fault. */
static __global__ void k_from_left(float *x)
{
    SHARED(float, tile, [N]);
    tile[threadIdx.x] = 1;
    x[threadIdx.x] = threadIdx.x == 0 ? 1 : tile[threadIdx.x - 1];
}

static bool all_ones_from_left(enum emu_order order)
{
    float host[N];
    float *x = device_floats(N, 0);
    emu_set_order(order, 1);
    LAUNCH(k_from_left, 1, N, 0, nullptr, x);
    check_cuda(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost));
    check_cuda(cudaFree(x));
    emu_set_order(EMU_ASCENDING, 1);
    bool good = true;
    for (int i = 0; i < N; i++)
        good = good && host[i] == 1;
    return good;
}

static void one_order_is_no_test(void **)
{
    assert_true(all_ones_from_left(EMU_ASCENDING));
    assert_false(all_ones_from_left(EMU_DESCENDING));
    assert_false(all_ones_from_left(EMU_SHUFFLED));
}

static __global__ void k_early_return(float *x)
{
    if (threadIdx.x >= N / 2)
        return;
    __syncthreads();
    x[threadIdx.x] = 0;
}

static void early_return(void)
{
    LAUNCH(k_early_return, 1, N, 0, nullptr, device_floats(N, 0));
    cudaDeviceSynchronize();
}

static __global__ void k_two_barriers(float *x)
{
    if (threadIdx.x % 2 == 0)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 0;
}

static void two_barriers(void)
{
    LAUNCH(k_two_barriers, 1, N, 0, nullptr, device_floats(N, 0));
    cudaDeviceSynchronize();
}

/* Half a warp in a shuffle, the other half at the block's barrier. */
static __global__ void k_half_shuffle(float *x)
{
    float a = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        a = warp_sum(a);
    __syncthreads();
    x[threadIdx.x] = a;
}

static void half_shuffle(void)
{
    LAUNCH(k_half_shuffle, 1, N, 0, nullptr, device_floats(N, 0));
    cudaDeviceSynchronize();
}

static void divergent_barriers_abort(void **)
{
    expect_caught(early_return, "kernel k_early_return, block (0,0,0), divergent barrier",
                  "divergent barrier");
    expect_caught(two_barriers, "kernel k_two_barriers, block (0,0,0), divergent barrier", "-");
    expect_caught(half_shuffle, "kernel k_half_shuffle, block (0,0,0), divergent barrier", "-");
}

/* ---- Memory ---------------------------------------------------------------------------------- */
static __global__ void k_write_at(float *x, int at)
{
    x[at] = 1;
}

static __global__ void k_read_at(float *out, const float *x, int at)
{
    out[0] = x[at];
}

enum { ODD = 67 };

static void write_one_beyond(void)
{
    LAUNCH(k_write_at, 1, 1, 0, nullptr, device_floats(ODD, 0), static_cast<int>(ODD));
    cudaDeviceSynchronize();
}

static void write_one_below(void)
{
    LAUNCH(k_write_at, 1, 1, 0, nullptr, device_floats(ODD, 0), -1);
    cudaDeviceSynchronize();
}

/* 64 floats are a multiple of the alignment, so the guard page follows at once. */
static void read_one_beyond(void)
{
    float *x = device_floats(N, 0);
    LAUNCH(k_read_at, 1, 1, 0, nullptr, device_floats(1, 0), x, static_cast<int>(N));
    cudaDeviceSynchronize();
}

static void global_out_of_bounds(void **)
{
    expect_caught(write_one_beyond, "kernel k_write_at", "AddressSanitizer: use-after-poison");
    expect_caught(write_one_below, "kernel k_write_at", "AddressSanitizer: use-after-poison");
    expect_caught(read_one_beyond,
                  "kernel k_read_at, block (0,0,0), thread (0,0,0): access out of "
                  "bounds",
                  "-");
}

static __global__ void k_shared_beyond(float *x, int at)
{
    SHARED(float, tile, [5]);
    SHARED(float, next, [5]);
    float *p = tile; /* so that the language cannot know its length */
    p[at] = 1;
    next[0] = 1;
    x[0] = p[0] + next[0];
}

static __global__ void k_dynamic_beyond(float *x, int at)
{
    DYNAMIC_SHARED(float, buffer);
    buffer[at] = 1;
    x[0] = buffer[0];
}

static void shared_beyond(void)
{
    LAUNCH(k_shared_beyond, 1, 1, 0, nullptr, device_floats(1, 0), 5);
    cudaDeviceSynchronize();
}

static void dynamic_beyond(void)
{
    LAUNCH(k_dynamic_beyond, 1, 1, 5 * sizeof(float), nullptr, device_floats(1, 0), 5);
    cudaDeviceSynchronize();
}

static void dynamic_far_beyond(void)
{
    LAUNCH(k_dynamic_beyond, 1, 1, 4 * sizeof(float), nullptr, device_floats(1, 0), 4);
    cudaDeviceSynchronize();
}

static void shared_out_of_bounds(void **)
{
    expect_caught(shared_beyond, "behind the shared variable tile", "AddressSanitizer");
    expect_caught(dynamic_beyond, "behind the dynamic shared memory", "AddressSanitizer");
    expect_caught(dynamic_far_beyond, "kernel k_dynamic_beyond", "AddressSanitizer");
}

static void host_read(void)
{
    volatile float *x = device_floats(N, 0);
    printf("%g\n", static_cast<double>(x[3]));
}

static void host_write(void)
{
    volatile float *x = device_floats(N, 0);
    x[3] = 1;
}

static void use_after_free(void)
{
    float *x = device_floats(N, 0), *out = device_floats(1, 0);
    cudaFree(x);
    LAUNCH(k_read_at, 1, 1, 0, nullptr, out, x, 0);
    cudaDeviceSynchronize();
}

static void host_pointer_to_kernel(void)
{
    float local = 0;
    LAUNCH(k_write_at, 1, 1, 0, nullptr, &local, 0);
    cudaDeviceSynchronize();
}

struct by_value {
    int at; /* and padding, which may hold anything */
    float *p;
};

static __global__ void k_by_value(by_value v)
{
    v.p[v.at] = 1;
}

/* A stale pointer inside of a structure. */
static void hidden_use_after_free(void)
{
    by_value v = {0, device_floats(N, 0)};
    cudaFree(v.p);
    LAUNCH(k_by_value, 1, 1, 0, nullptr, v);
    cudaDeviceSynchronize();
}

/* Padding that looks like the upper half of a device pointer. */
static void padding_is_no_pointer(void **)
{
    by_value v;
    float *p = device_floats(N, 0);
    memset(&v, 0, sizeof v);
    memcpy(&v, &p, sizeof p);
    v.at = 0;
    v.p = p;
    LAUNCH(k_by_value, 1, 1, 0, nullptr, v);
    assert_true(device_float(p) == 1);
    check_cuda(cudaFree(p));
}

static void host_and_device_memory_are_apart(void **)
{
    expect_caught(hidden_use_after_free, "which is freed", "-");
    expect_caught(host_read, "host code touched device memory", "-");
    expect_caught(host_write, "host code touched device memory", "-");
    expect_caught(use_after_free, "freed", "-");
    expect_caught(host_pointer_to_kernel, "no device memory", "-");
}

static __global__ void k_vector(float *out, const float *x)
{
    float4 v = load_vec<float4>(x);
    out[0] = v.x;
}

static __global__ void k_vector_store(float *out)
{
    store_vec(out, make_float2(1, 2));
}

static void misaligned_store(void)
{
    LAUNCH(k_vector_store, 1, 1, 0, nullptr, device_floats(4, 0) + 1);
    cudaDeviceSynchronize();
}

static void misaligned(void)
{
    float *x = device_floats(N, 0);
    LAUNCH(k_vector, 1, 1, 0, nullptr, device_floats(1, 0), x + 1);
    cudaDeviceSynchronize();
}

static void misaligned_vectors_abort(void **)
{
    expect_caught(misaligned, "kernel k_vector, block (0,0,0), thread (0,0,0): ", "-");
    expect_caught(misaligned_store, "is not aligned for a vector of 8 bytes", "-");
}

static __global__ void k_unwritten_shared(float *out)
{
    SHARED(float, tile, [N]);
    DYNAMIC_SHARED(float, buffer);
    out[0] = tile[threadIdx.x];
    out[1] = buffer[threadIdx.x];
}

/* Also in the second block, after the first has written there. */
static __global__ void k_left_behind(float *out)
{
    SHARED(float, tile, [N]);
    DYNAMIC_SHARED(float, buffer);
    if (blockIdx.x == gridDim.x - 1) {
        out[0] = tile[0];
        out[1] = buffer[0];
    }
    tile[0] = buffer[0] = 1;
}

static void unwritten_memory_is_nan(void **)
{
    float *fresh = nullptr, *out = device_floats(2, 0);
    check_cuda(cudaMalloc(&fresh, sizeof *fresh));
    assert_true(isnan(device_float(fresh)));
    LAUNCH(k_unwritten_shared, 1, 1, N, nullptr, out);
    assert_true(isnan(device_float(out)));
    assert_true(isnan(device_float(out + 1)));
    LAUNCH(k_left_behind, 2, 1, N, nullptr, out);
    assert_true(isnan(device_float(out)));
    assert_true(isnan(device_float(out + 1)));
    check_cuda(cudaFree(fresh));
    check_cuda(cudaFree(out));
}

/* ---- Limits ---------------------------------------------------------------------------------- */
static __global__ void k_nothing(float *x)
{
    if (threadIdx.x == 0)
        x[0] = 1;
}

static cudaError_t launch_shape(dim3 grid, dim3 block, size_t bytes)
{
    float *x = device_floats(1, 0);
    LAUNCH(k_nothing, grid, block, bytes, nullptr, x);
    cudaError_t status = cudaGetLastError();
    assert_true((status == cudaSuccess) == (device_float(x) == 1));
    check_cuda(cudaFree(x));
    return status;
}

static void limits_are_enforced(void **)
{
    assert_int_equal(launch_shape(1, 1024, 48 * 1024), cudaSuccess);
    assert_int_equal(launch_shape(1, 1025, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_shape(1, dim3(32, 33), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_shape(0, 32, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_shape(dim3(1, 65536), 32, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_shape(1, 32, 48 * 1024 + 1), cudaErrorInvalidValue);
    cudaFuncAttribute attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    assert_int_equal(cudaFuncSetAttribute(k_nothing, attribute, 228 * 1024), cudaErrorInvalidValue);
    cudaGetLastError();
    check_cuda(cudaFuncSetAttribute(k_nothing, attribute, 227 * 1024));
    assert_int_equal(launch_shape(1, 32, 227 * 1024), cudaSuccess);
}

static __global__ void k_too_much_static(float *x)
{
    SHARED(float, a, [8 * 1024]);
    SHARED(float, b, [4 * 1024 + 1]);
    a[0] = b[0] = 1;
    x[0] = a[0] + b[0];
}

static void too_much_static(void)
{
    LAUNCH(k_too_much_static, 1, 1, 0, nullptr, device_floats(1, 0));
    cudaDeviceSynchronize();
}

static __global__ void k_static_and_dynamic(float *x)
{
    SHARED(float, a, [8 * 1024]);
    DYNAMIC_SHARED(float, b);
    a[0] = b[0] = 1;
    x[0] = a[0] + b[0];
}

static void too_much_together(void)
{
    LAUNCH(k_static_and_dynamic, 1, 1, 16 * 1024 + 4, nullptr, device_floats(1, 0));
    cudaDeviceSynchronize();
}

static void static_shared_memory_is_limited(void **)
{
    expect_caught(too_much_together, "bytes of static shared memory", "-");
    expect_caught(too_much_static, "bytes of static shared memory", "-");
}

int main(void)
{
    setenv("DEQ_EMU_QUIET", "1", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_barrier_shows),
        cmocka_unit_test(one_order_is_no_test),
        cmocka_unit_test(divergent_barriers_abort),
        cmocka_unit_test(global_out_of_bounds),
        cmocka_unit_test(shared_out_of_bounds),
        cmocka_unit_test(host_and_device_memory_are_apart),
        cmocka_unit_test(padding_is_no_pointer),
        cmocka_unit_test(misaligned_vectors_abort),
        cmocka_unit_test(unwritten_memory_is_nan),
        cmocka_unit_test(limits_are_enforced),
        cmocka_unit_test(static_shared_memory_is_limited),
    };
    return cmocka_run_group_tests_name("faults in kernels", tests, nullptr, nullptr);
}
