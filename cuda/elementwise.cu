/* Elementwise operations, which fill, add, mask and copy blocks of wider arrays. */
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
        assert(!"low-precision tensors are filled with 0 alone");
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
    LAUNCH_FLAT(be, PACKS(k_axpby), vec, count, f32(y), (float)a, f32(x), (float)b, count / vec);
    cuda_launched(be, OP_axpby);
}

/* Strides to the mask number of (b, t, d), 0 where it is the same for all. */
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
    LAUNCH_TILES(be, PACKS(k_mul_bcast), vec, rows, width, f32(out), f32(x), f32(mask), m,
                 x->dim[1], width);
    cuda_launched(be, OP_mul_bcast);
}

template <class T> struct block_args {
    T *to;
    const float *from, *mask;
    int64_t length, width, to_batch, to_row, from_batch, from_row;
};

template <int V, class T> __global__ void k_copy_block(block_args<T> p)
{
    int64_t b = blockIdx.x / p.length, t = blockIdx.x % p.length, d = tile_column<V>();
    if (d >= p.width)
        return;
    pack<V> x = load_pack<V>(p.from + b * p.from_batch + t * p.from_row + d);
    if (p.mask != NULL) {
        pack<V> m = load_pack<V>(p.mask + b * p.width + d);
#pragma unroll
        for (int k = 0; k < V; k++)
            x.x[k] *= m.x[k];
    }
    store_pack<V>(p.to + b * p.to_batch + t * p.to_row + d, x);
}

template <class T> static void copy_rows(struct backend *be, const struct copy_block *p)
{
    int64_t batch = p->to.dim[0], length = p->to.dim[1], width = p->to.dim[2];
    if (batch * length * width == 0)
        return;
    block_args<T> a;
    a.to = static_cast<T *>(p->to.data);
    a.from = f32(&p->from);
    a.mask = f32(&p->mask);
    a.length = length;
    a.width = width;
    a.to_row = p->to_row != 0 ? p->to_row : width;
    a.from_row = p->from_row != 0 ? p->from_row : width;
    a.to_batch = p->to_batch != 0 ? p->to_batch : length * width;
    a.from_batch = p->from_batch != 0 ? p->from_batch : length * width;
    bool strides = (a.to_row | a.from_row | a.to_batch | a.from_batch) % 4 == 0;
    int vec = strides ? VEC_OF(width, a.to, a.from, a.mask) : 1;
    LAUNCH_TILES(be, PACKS_OF(k_copy_block, T), vec, batch * length, width, a);
    cuda_launched(be, OP_copy_block);
}

void cuda_copy_block(struct backend *be, const struct copy_block *p)
{
    if (p->to.dtype == DTYPE_BF16)
        copy_rows<__nv_bfloat16>(be, p);
    else
        copy_rows<float>(be, p);
}
