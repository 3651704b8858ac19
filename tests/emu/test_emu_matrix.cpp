/* The emulated matrix instructions: what the PTX ISA says of fragments, in this test's own words,
 * against products of whole matrices. A wrong lane, register, row or half must show. */
#include "emu/planted.h"

#include "cuda/mma.h"

enum { M = 16, K = 16, N = 8, LANES = 32 };

/* What a kernel does wrong on purpose. */
enum fault { RIGHT, LANES_SWAPPED, REGISTERS_SWAPPED, HALVES_SWAPPED, PLAIN_FOR_TRANSPOSED };

static uint32_t pair_of(float low, float high)
{
    return pack_bf16(low, high);
}

/* d = a b + d by one warp, whose fragments come straight from the matrices. The formulas are those
 * of the PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", number by number.
 */
static __global__ void k_product(const float *a, const float *b, float *d, fault what)
{
    int lane = static_cast<int>(threadIdx.x), group = lane >> 2, member = lane % 4;
    uint32_t fa[4], fb[2];
    float fd[4];
    if (what == LANES_SWAPPED)
        group = group ^ 1;
    for (int i = 0; i < 8; i += 2) {
        bool first_rows = i < 2 || (4 <= i && i < 6);
        int row = first_rows ? group : group + 8;
        int column = i < 4 ? member * 2 : member * 2 + 8;
        fa[i / 2] = pair_of(a[row * K + column], a[row * K + column + 1]);
    }
    group = lane >> 2;
    for (int i = 0; i < 4; i += 2) {
        int row = i < 2 ? member * 2 : member * 2 + 8;
        fb[i / 2] = pair_of(b[row * N + group], b[(row + 1) * N + group]);
    }
    for (int i = 0; i < 4; i++)
        fd[i] = d[(i < 2 ? group : group + 8) * N + member * 2 + (i & 1)];
    if (what == REGISTERS_SWAPPED) {
        uint32_t x = fa[1];
        fa[1] = fa[2];
        fa[2] = x;
    }
    if (what == HALVES_SWAPPED)
        fb[0] = fb[0] >> 16 | fb[0] << 16;
    mma_bf16(fd, fa, fb);
    for (int i = 0; i < 4; i++)
        d[(i < 2 ? group : group + 8) * N + member * 2 + (i & 1)] = fd[i];
}

/* The same by way of shared memory: a and b^T lie there by rows, and b itself for the transposed
 * form. */
static __global__ void k_loaded(const float *a, const float *b, float *d, fault what)
{
    SHARED(__nv_bfloat16, sa, [M][K]);
    SHARED(__nv_bfloat16, sb, [K][16]); /* two matrices b side by side */
    int lane = static_cast<int>(threadIdx.x);
    for (int i = lane; i < M * K; i += LANES)
        sa[i / K][i % K] = __float2bfloat16(a[i]);
    for (int i = lane; i < K * 16; i += LANES)
        sb[i / 16][i % 16] = __float2bfloat16(i % 16 < N ? b[i / 16 * N + i % 16] : 99);
    __syncthreads();
    uint32_t fa[4], fb[4];
    float fd[4];
    load_matrices(fa, &sa[lane % 16][lane / 16 * 8]);
    if (what == PLAIN_FOR_TRANSPOSED)
        load_matrices(fb, &sb[lane % 16][lane / 16 * 8]);
    else
        load_transposed(fb, &sb[lane % 16][lane / 16 * 8]);
    for (int i = 0; i < 4; i++)
        fd[i] = d[(lane / 4 + i / 2 * 8) * N + lane % 4 * 2 + i % 2];
    mma_bf16(fd, fa, fb);
    for (int i = 0; i < 4; i++)
        d[(lane / 4 + i / 2 * 8) * N + lane % 4 * 2 + i % 2] = fd[i];
}

typedef void product_kernel(const float *, const float *, float *, fault);

/* Whole numbers, whose products and sums are exact. No two rows or columns are alike. */
static bool product_is_right(product_kernel *kernel, fault what)
{
    float a[M * K], b[K * N], d[M * N], want[M * N];
    for (int i = 0; i < M * K; i++)
        a[i] = static_cast<float>(i * 37 % 101 - 50);
    for (int i = 0; i < K * N; i++)
        b[i] = static_cast<float>(i * 53 % 97 - 48);
    for (int i = 0; i < M * N; i++) {
        d[i] = want[i] = static_cast<float>(i);
        for (int k = 0; k < K; k++)
            want[i] += a[i / N * K + k] * b[k * N + i % N];
    }
    float *da = device_floats(M * K, 0), *db = device_floats(K * N, 0),
          *dd = device_floats(M * N, 0);
    check_cuda(cudaMemcpy(da, a, sizeof a, cudaMemcpyHostToDevice));
    check_cuda(cudaMemcpy(db, b, sizeof b, cudaMemcpyHostToDevice));
    check_cuda(cudaMemcpy(dd, d, sizeof d, cudaMemcpyHostToDevice));
    LAUNCH(kernel, 1, LANES, 0, nullptr, da, db, dd, what);
    check_cuda(cudaMemcpy(d, dd, sizeof d, cudaMemcpyDeviceToHost));
    check_cuda(cudaFree(da));
    check_cuda(cudaFree(db));
    check_cuda(cudaFree(dd));
    return memcmp(d, want, sizeof d) == 0;
}

static void products_and_wrong_lanes(void **)
{
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order(static_cast<emu_order>(order), 1);
        assert_true(product_is_right(k_product, RIGHT));
        assert_true(product_is_right(k_loaded, RIGHT));
        assert_false(product_is_right(k_product, LANES_SWAPPED));
        assert_false(product_is_right(k_product, REGISTERS_SWAPPED));
        assert_false(product_is_right(k_product, HALVES_SWAPPED));
        assert_false(product_is_right(k_loaded, PLAIN_FOR_TRANSPOSED));
    }
    emu_set_order(EMU_ASCENDING, 1);
}

/* 1 + 2^-24 is cut off to 1, and so is what lies just below the next number. */
static void sums_are_cut_off(void **)
{
    assert_true(emu_cut(1 + 0x1p-24) == 1);
    assert_true(emu_cut(1 + 0x1.fp-24) == 1);
    assert_true(emu_cut(-1 - 0x1.fp-24) == -1);
    assert_true(emu_cut(1 + 0x1p-23) == 1 + 0x1p-23f);
    assert_true(isinf(emu_cut(static_cast<double>(INFINITY))));
    assert_true(isnan(emu_cut(static_cast<double>(NAN))));
}

/* One half warp in a product, the other past it. */
static __global__ void k_half_product(float *x)
{
    uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    float d[4] = {x[0], 0, 0, 0};
    if (threadIdx.x < 16)
        mma_bf16(d, a, b);
    __syncthreads();
    x[threadIdx.x] = d[0];
}

static void half_product(void)
{
    LAUNCH(k_half_product, 1, LANES, 0, nullptr, device_floats(LANES, 1));
    cudaDeviceSynchronize();
}

static __global__ void k_askew(float *x)
{
    SHARED(float, tile, [64]);
    uint32_t to[4];
    tile[threadIdx.x] = tile[32 + threadIdx.x] = 0;
    __syncthreads();
    load_matrices(to, &tile[threadIdx.x + 1]);
    x[threadIdx.x] = static_cast<float>(to[0]);
}

static void askew(void)
{
    LAUNCH(k_askew, 1, LANES, 0, nullptr, device_floats(LANES, 1));
    cudaDeviceSynchronize();
}

static void misuse_ends_the_program(void **)
{
    expect_caught(half_product, "divergent barrier", "-");
    expect_caught(askew, "is not aligned for a vector of 16 bytes", "-");
}

/* ---- Copies ---------------------------------------------------------------------------------- */
enum { ROWS = 64 };
enum copy_fault { WAITS, NO_WAIT, WAITS_FOR_TOO_FEW, REUSES_TOO_EARLY };

/* Sends two tiles of numbers through one place in shared memory, each as a group of its own. A
 * thread reads what its neighbour has copied. */
static __global__ void k_two_tiles(const float *x, float *y, copy_fault what)
{
    SHARED(float, tile, [2][4 * ROWS]);
    unsigned me = threadIdx.x, next = (me + 1) % ROWS;
    for (int part = 0; part < 2; part++) {
        copy_async(&tile[part][4 * me], x + 4 * (ROWS * part + me), true);
        copy_commit();
    }
    if (what == WAITS_FOR_TOO_FEW)
        copy_wait<2>();
    else if (what != NO_WAIT)
        copy_wait<1>();
    __syncthreads();
    float first = tile[0][4 * next];
    if (what != REUSES_TOO_EARLY)
        __syncthreads();
    copy_async(&tile[0][4 * me], x, false); /* zeros */
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    y[me] = first;
    y[ROWS + me] = tile[1][4 * next + 1];
    y[2 * ROWS + me] = tile[0][4 * next + 3];
}

static bool tiles_are_right(copy_fault what)
{
    float host[2 * 4 * ROWS];
    float *x = device_floats(2 * 4 * ROWS, 0), *y = device_floats(3 * ROWS, -1);
    for (int i = 0; i < 2 * 4 * ROWS; i++)
        host[i] = static_cast<float>(i);
    check_cuda(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice));
    LAUNCH(k_two_tiles, 1, ROWS, 0, nullptr, x, y, what);
    check_cuda(cudaMemcpy(host, y, 3 * ROWS * sizeof *y, cudaMemcpyDeviceToHost));
    check_cuda(cudaFree(x));
    check_cuda(cudaFree(y));
    bool good = true;
    for (int i = 0; i < ROWS; i++) {
        int next = (i + 1) % ROWS;
        good = good && host[i] == static_cast<float>(4 * next) &&
               host[ROWS + i] == static_cast<float>(4 * (ROWS + next) + 1) &&
               host[2 * ROWS + i] == 0;
    }
    return good;
}

static void copies_come_late_or_early(void **)
{
    int shown[4] = {0};
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order(static_cast<emu_order>(order), 1);
        assert_true(tiles_are_right(WAITS));
        for (int what = NO_WAIT; what <= REUSES_TOO_EARLY; what++)
            shown[what] += !tiles_are_right(static_cast<copy_fault>(what));
    }
    emu_set_order(EMU_ASCENDING, 1);
    for (int what = NO_WAIT; what <= REUSES_TOO_EARLY; what++)
        assert_true(shown[what] > 0);
}

static __global__ void k_never_waits(const float *x)
{
    SHARED(float, tile, [4 * LANES]);
    copy_async(&tile[4 * threadIdx.x], x, true);
    copy_commit();
}

static void never_waits(void)
{
    LAUNCH(k_never_waits, 1, LANES, 0, nullptr, device_floats(4, 1));
    cudaDeviceSynchronize();
}

static void copies_end_before_their_thread(void **)
{
    expect_caught(never_waits, "copies into shared memory were not waited for", "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_and_wrong_lanes),
        cmocka_unit_test(sums_are_cut_off),
        cmocka_unit_test(misuse_ends_the_program),
        cmocka_unit_test(copies_come_late_or_early),
        cmocka_unit_test(copies_end_before_their_thread),
    };
    return cmocka_run_group_tests_name("matrix instructions", tests, nullptr, nullptr);
}
