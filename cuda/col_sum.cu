/* Column sums of matrices, for gradients of biases and gains. */
#include "cuda_impl.h"
#include "kernel.h"

/* A block sums COLUMNS columns over a chunk of rows. Its threads lie 32 columns wide (one line of
 * memory) and ROW_LANES rows deep. */
enum { COLUMNS = SUM_COLUMNS, ROW_LANES = 8 };

/* out[chunk,d] = sum of the chunk's rows. With `add` there is one chunk and out[d] += its sum. */
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

template <class T>
static void columns_in(struct backend *be, float *part, float *acc, const T *x, const float *y,
                       int64_t rows, int64_t width)
{
    if (rows * width == 0)
        return;
    cudaStream_t stream = cuda_of(be)->stream;
    int64_t chunks = column_chunks(rows, width), chunk = div_up(rows, chunks);
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
    int64_t numbers = columns_scratch(rows, width);
    if (numbers > 0 &&
        (part = static_cast<float *>(cuda_work(be, (size_t)numbers * sizeof(float), id))) == NULL)
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

void cuda_col_dot(struct backend *be, const struct tensor *acc, const struct tensor *x,
                  const struct tensor *y)
{
    columns(be, OP_col_dot, f32(acc), (const float *)f32(x), (const float *)f32(y), x->dim[0],
            x->dim[1]);
}
