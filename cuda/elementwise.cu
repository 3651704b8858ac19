/* Elementwise operations and column sums. */
#include "cuda_impl.h"
#include "kernel.h"

template <class T> __global__ void k_fill(T *x, int64_t count, T value)
{
    for (int64_t i = flat_index(); i < count; i += flat_stride())
        x[i] = value;
}

template <class T> static void fill(struct backend *be, const struct tensor *t, double value)
{
    int64_t count = tensor_count(t);
    LAUNCH(k_fill<T>, flat_blocks(count, 1), MAX_THREADS, 0, cuda_of(be)->stream,
           static_cast<T *>(t->data), count, (T)value);
}

void cuda_fill(struct backend *be, const struct tensor *t, double value)
{
    if (tensor_count(t) == 0)
        return;
    if (value == 0) { /* all bits 0 in every type */
        cuda_note(be, OP_fill, cudaMemsetAsync(t->data, 0, tensor_bytes(t), cuda_of(be)->stream));
        return;
    }
    switch (t->dtype) {
    case DTYPE_F32:
        fill<float>(be, t, value);
        break;
    case DTYPE_F64:
        fill<double>(be, t, value);
        break;
    case DTYPE_I32:
        fill<int32_t>(be, t, value);
        break;
    case DTYPE_U8:
        fill<uint8_t>(be, t, value);
        break;
    case DTYPE_BF16:
        assert(!"narrow tensors are filled with 0 alone");
        break;
    }
    cuda_launched(be, OP_fill);
}

template <int V> __global__ void k_axpby(float *y, float a, const float *x, float b, int64_t packs)
{
    for (int64_t i = flat_index(); i < packs; i += flat_stride()) {
        pack<V> xv = load_pack<V>(x + i * V), yv;
        if (b != 0)
            yv = load_pack<V>(y + i * V);
#pragma unroll
        for (int k = 0; k < V; k++)
            yv.x[k] = b != 0 ? a * xv.x[k] + b * yv.x[k] : a * xv.x[k];
        store_pack<V>(y + i * V, yv);
    }
}

void cuda_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
                double b)
{
    int64_t count = tensor_count(y);
    if (count == 0)
        return;
    int vec = VEC_OF(count, y->data, x->data);
    unsigned blocks = flat_blocks(count, vec);
    cudaStream_t stream = cuda_of(be)->stream;
    LAUNCH_VEC(k_axpby, vec, blocks, MAX_THREADS, 0, stream, f32(y), (float)a, f32(x), (float)b,
               count / vec);
    cuda_launched(be, OP_axpby);
}

/* Where the mask number of (b, t, d) lies: strides 0 where it is the same for all. */
struct mask_strides {
    int64_t batch, time, column;
};

template <int V>
__global__ void k_mul_bcast(float *out, const float *x, const float *mask, struct mask_strides m,
                            int64_t length, int64_t width)
{
    int64_t row = blockIdx.x, d = tile_column<V>();
    if (d >= width)
        return;
    const float *from = mask + row / length * m.batch + row % length * m.time + d * m.column;
    pack<V> v = load_pack<V>(x + row * width + d);
    if (m.column == 0) {
#pragma unroll
        for (int k = 0; k < V; k++)
            v.x[k] *= *from;
    } else {
        pack<V> by = load_pack<V>(from);
#pragma unroll
        for (int k = 0; k < V; k++)
            v.x[k] *= by.x[k];
    }
    store_pack<V>(out + row * width + d, v);
}

void cuda_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                    const struct tensor *mask)
{
    const int64_t *size = mask->dim;
    int64_t rows = x->dim[0] * x->dim[1], width = x->dim[2];
    if (rows * width == 0)
        return;
    struct mask_strides m = {size[0] == 1 ? 0 : size[1] * size[2], size[1] == 1 ? 0 : size[2],
                             size[2] == 1 ? 0 : 1};
    int vec = VEC_OF(width, out->data, x->data, m.column == 0 ? NULL : mask->data);
    struct row_launch l = launch_tiles(rows, width, vec);
    cudaStream_t stream = cuda_of(be)->stream;
    LAUNCH_VEC(k_mul_bcast, vec, l.grid, l.threads, 0, stream, f32(out), f32(x), f32(mask), m,
               x->dim[1], width);
    cuda_launched(be, OP_mul_bcast);
}

/* A block sums COLUMNS columns over a chunk of rows: its threads lie 32 columns wide (one line of
 * memory) and ROW_LANES rows deep. */
enum { COLUMNS = 32, ROW_LANES = 8, MAX_CHUNKS = 64, CHUNK_ROWS = 64, MANY_STRIPS = 512 };

/* out[chunk,d] = sum of the chunk's rows; with `add`, out[d] += (one chunk). */
template <class T>
__global__ void k_columns(float *out, bool add, const T *x, const float *y, int64_t rows,
                          int64_t width, int64_t chunk)
{
    SHARED(float, part, [ROW_LANES][COLUMNS]);
    int column = (int)threadIdx.x % COLUMNS, lane = (int)threadIdx.x / COLUMNS;
    int64_t d = (int64_t)blockIdx.x * COLUMNS + column, first = blockIdx.y * chunk;
    int64_t end = first + chunk < rows ? first + chunk : rows;
    float sum = 0;
    if (d < width)
        for (int64_t n = first + lane; n < end; n += ROW_LANES)
            sum += to_float(x[n * width + d]) * (y != NULL ? y[n * width + d] : 1.0f);
    part[lane][column] = sum;
    __syncthreads();
    if (lane > 0 || d >= width)
        return;
    for (int k = 1; k < ROW_LANES; k++)
        sum += part[k][column];
    if (add)
        out[d] += sum;
    else
        out[blockIdx.y * width + d] = sum;
}

/* Wide matrices have strips enough to fill a device; low-precision ones are cut into chunks of rows
 * too.
 */
static int64_t chunks_of(int64_t rows, int64_t width)
{
    int64_t chunks = div_up(rows, CHUNK_ROWS);
    if (div_up(width, COLUMNS) >= MANY_STRIPS || chunks <= 1)
        return 1;
    return div_up(rows, div_up(rows, at_most(chunks, MAX_CHUNKS)));
}

int64_t columns_room(int64_t rows, int64_t width)
{
    int64_t chunks = chunks_of(rows, width);
    return chunks == 1 ? 0 : chunks * width;
}

template <class T>
static void columns_in(struct backend *be, float *part, float *acc, const T *x, const float *y,
                       int64_t rows, int64_t width)
{
    if (rows * width == 0)
        return;
    cudaStream_t stream = cuda_of(be)->stream;
    int64_t chunks = chunks_of(rows, width), chunk = div_up(rows, chunks);
    dim3 strips((unsigned)div_up(width, COLUMNS)), all(strips.x, (unsigned)chunks);
    const int threads = COLUMNS * ROW_LANES;
    if (chunks == 1) {
        LAUNCH(k_columns<T>, strips, threads, 0, stream, acc, true, x, y, rows, width, rows);
        return;
    }
    const float *none = NULL;
    LAUNCH(k_columns<T>, all, threads, 0, stream, part, false, x, y, rows, width, chunk);
    LAUNCH(k_columns<float>, strips, threads, 0, stream, acc, true, (const float *)part, none,
           chunks, width, chunks);
}

void cuda_columns_in(struct backend *be, float *part, float *acc, const float *x, const float *y,
                     int64_t rows, int64_t width)
{
    columns_in(be, part, acc, x, y, rows, width);
}

template <class T>
static void columns(struct backend *be, enum op_id id, float *acc, const T *x, const float *y,
                    int64_t rows, int64_t width)
{
    float *part = NULL;
    int64_t room = columns_room(rows, width);
    if (room > 0 &&
        (part = static_cast<float *>(cuda_work(be, (size_t)room * sizeof(float), id))) == NULL)
        return;
    columns_in(be, part, acc, x, y, rows, width);
    cuda_launched(be, id);
}

void cuda_columns(struct backend *be, enum op_id id, float *acc, const float *x, const float *y,
                  int64_t rows, int64_t width)
{
    columns(be, id, acc, x, y, rows, width);
}

void cuda_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    const float *none = NULL;
    if (x->dtype == DTYPE_BF16)
        columns(be, OP_col_sum, f32(acc), static_cast<const __nv_bfloat16 *>(x->data), none,
                x->dim[0], x->dim[1]);
    else
        columns(be, OP_col_sum, f32(acc), (const float *)f32(x), none, x->dim[0], x->dim[1]);
}
