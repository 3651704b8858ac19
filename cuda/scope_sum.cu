/* Sums over the scope that decides together about convergence. */
#include "cuda_impl.h"
#include "kernel.h"

enum { PREFIX_NUMBERS = 4096, PREFIX_THREADS = 128 };

/* Prefix sums, with a block for each sequence. The recurrence runs in shared memory, a thread a
 * column, in the order of the positions. What a position gets depends on nothing beyond it, bit for
 * bit. */
__global__ void k_prefix_sum(float *val, int64_t length, int64_t width, float decay, bool reverse)
{
    SHARED(float, tile, [PREFIX_NUMBERS]);
    float *x = val + blockIdx.x * length * width, sum = 0;
    int64_t span = PREFIX_NUMBERS / width; /* positions at a time */
    for (int64_t start = 0; start < length; start += span) {
        int64_t count = length - start < span ? length - start : span;
        /* positions [from, from + count), the last ones first if reverse */
        int64_t from = reverse ? length - start - count : start;
        for (int64_t i = threadIdx.x; i < count * width; i += blockDim.x)
            tile[i] = x[from * width + i];
        __syncthreads();
        if (threadIdx.x < width)
            for (int64_t k = 0; k < count; k++) {
                int64_t at = (reverse ? count - 1 - k : k) * width + threadIdx.x;
                sum = start + k == 0 ? tile[at] : tile[at] + decay * sum;
                tile[at] = sum;
            }
        __syncthreads();
        for (int64_t i = threadIdx.x; i < count * width; i += blockDim.x)
            x[from * width + i] = tile[i];
        __syncthreads();
    }
}

/* Every position gets the sum over the sequence, with a block for every sequence and column. */
__global__ void k_sequence_sum(float *val, int64_t length, int64_t width)
{
    float *x = val + blockIdx.x / width * length * width + blockIdx.x % width;
    double sum = 0;
    for (int64_t t = threadIdx.x; t < length; t += blockDim.x)
        sum += (double)x[t * width];
    sum = block_sum(sum);
    for (int64_t t = threadIdx.x; t < length; t += blockDim.x)
        x[t * width] = (float)sum;
}

void cuda_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                    bool reverse)
{
    int64_t batch = val->dim[0], length = val->dim[1], width = val->dim[2];
    cudaStream_t stream = cuda_of(be)->stream;
    if (tensor_count(val) == 0 || scope == SCOPE_TOKEN)
        return;
    if (scope == SCOPE_BATCH) { /* one sequence of all rows */
        length *= batch;
        batch = 1;
    }
    if (scope == SCOPE_PREFIX) {
        assert(width <= PREFIX_THREADS);
        LAUNCH(k_prefix_sum, (unsigned)batch, PREFIX_THREADS, 0, stream, f32(val), length, width,
               (float)decay, reverse);
    } else {
        LAUNCH(k_sequence_sum, (unsigned)(batch * width), row_threads(length, 1), 0, stream,
               f32(val), length, width);
    }
    cuda_launched(be, OP_scope_sum);
}
