/* Random numbers from the Philox blocks of base/rng.h, compiled for the device, so that masks are
 * those of the CPU bit for bit. A thread draws one block of four words. */
#include "cuda_impl.h"
#include "kernel.h"
#include "queue.h"

/* Changes from step to step, and is found on the device. */
struct draw {
    struct rng_key key;
    int64_t first;
};

/* Element i of the mask takes number first + i, so a thread's block of four may begin in front of
 * it. */
template <class T>
__global__ void k_mask(T *mask, int64_t count, double p, T keep, const struct draw *draw)
{
    struct rng_key key = draw->key;
    int64_t first = draw->first;
    int64_t skip = first % 4, blocks = (skip + count + 3) / 4;
    for (int64_t block = flat_index(); block < blocks; block += flat_stride()) {
        uint32_t words[4];
        rng_block(key, (uint64_t)(first / 4 + block), words);
        for (int i = 0; i < 4; i++) {
            int64_t at = block * 4 + i - skip;
            if (at >= 0 && at < count)
                mask[at] = (double)rng_unit(words[i]) >= p ? keep : T(0);
        }
    }
}

static const struct draw *draw_at(struct backend *be, size_t at)
{
    return static_cast<const struct draw *>(queue_changing(be, at));
}

static void start_mask(struct backend *be, size_t at, const struct tensor *mask, double p)
{
    int64_t count = tensor_count(mask);
    unsigned blocks = flat_blocks(count, 4);
    cudaStream_t stream = cuda_of(be)->stream;
    if (mask->dtype == DTYPE_U8)
        LAUNCH(k_mask<uint8_t>, blocks, MAX_THREADS, 0, stream, static_cast<uint8_t *>(mask->data),
               count, p, (uint8_t)1, draw_at(be, at));
    else
        LAUNCH(k_mask<float>, blocks, MAX_THREADS, 0, stream, f32(mask), count, p,
               (float)(1 / (1 - p)), draw_at(be, at));
    cuda_launched(be, OP_dropout_mask);
}

void cuda_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                       uint64_t first)
{
    struct draw draw = {key, (int64_t)first};
    if (tensor_count(mask) > 0)
        memcpy(queued_changing<start_mask>::note(be, sizeof draw, mask, p), &draw, sizeof draw);
}

/* rng_uniform and rng_normal of base/rng.c, with two numbers a block. */
__global__ void k_fill_uniform(float *x, int64_t count, double lo, double hi,
                               const struct draw *draw)
{
    struct rng_key key = draw->key;
    for (int64_t block = flat_index(); block * 2 < count; block += flat_stride()) {
        uint32_t w[4];
        rng_block(key, (uint64_t)block, w);
        for (int i = 0; i < 2 && block * 2 + i < count; i++) {
            uint64_t bits = ((uint64_t)w[2 * i] << 32 | w[2 * i + 1]) >> 11;
            x[block * 2 + i] = (float)(lo + (hi - lo) * ((double)bits * 0x1.0p-53));
        }
    }
}

__global__ void k_fill_normal(float *x, int64_t count, double std, const struct draw *draw)
{
    struct rng_key key = draw->key;
    const double two_pi = 6.283185307179586476925;
    for (int64_t block = flat_index(); block * 2 < count; block += flat_stride()) {
        uint32_t w[4];
        rng_block(key, (uint64_t)block, w);
        double u = ((double)w[0] + 1.0) * 0x1.0p-32;
        double v = ((double)w[1] + (double)w[2] * 0x1.0p-32) * 0x1.0p-32;
        double r = std * sqrt(-2.0 * log(u));
        x[block * 2] = (float)(r * cos(two_pi * v));
        if (block * 2 + 1 < count)
            x[block * 2 + 1] = (float)(r * sin(two_pi * v));
    }
}

static void start_normal(struct backend *be, size_t at, const struct tensor *t, double std)
{
    int64_t count = tensor_count(t);
    LAUNCH(k_fill_normal, flat_blocks(count, 2), MAX_THREADS, 0, cuda_of(be)->stream, f32(t), count,
           std, draw_at(be, at));
    cuda_launched(be, OP_fill_normal);
}

void cuda_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key)
{
    struct draw draw = {key, 0};
    if (tensor_count(t) > 0)
        memcpy(queued_changing<start_normal>::note(be, sizeof draw, t, std), &draw, sizeof draw);
}

static void start_uniform(struct backend *be, size_t at, const struct tensor *t, double lo,
                          double hi)
{
    int64_t count = tensor_count(t);
    LAUNCH(k_fill_uniform, flat_blocks(count, 2), MAX_THREADS, 0, cuda_of(be)->stream, f32(t),
           count, lo, hi, draw_at(be, at));
    cuda_launched(be, OP_fill_uniform);
}

void cuda_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                       struct rng_key key)
{
    struct draw draw = {key, 0};
    if (tensor_count(t) > 0)
        memcpy(queued_changing<start_uniform>::note(be, sizeof draw, t, lo, hi), &draw,
               sizeof draw);
}
