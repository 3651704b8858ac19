/* The hidden layer of feed-forward networks.
 *
 * In bfloat16 the layer is stored as such. Bias, mask and rectifier come with the product, so that
 * it is written once and read by products alone. cuBLASLt rectifies. Bias and mask come as columns
 * (ffn_up_columns). Behind the numbers of its row, x has a one in the column of its mask row. There
 * w has the rounded bias or, where the mask is 0, a number so far below 0 that the rectifier makes
 * it 0. Another column, where all of x have a one, holds what rounding took from the bias. The
 * mask's scale is the product's factor. Backward, bits that the rectifier left say which numbers
 * pass, dropped ones included.
 *
 * Where the library has no kernel for a shape, and in float32, they come in a pass of their own. So
 * they do where that takes less time, which is measured once for a shape. */
#include "gemm.h"
#include "kernel.h"
#include "queue.h"
#include "stopwatch.h"

#include <stdio.h>

enum { COLUMN_TILE = 32, COLUMN_THREADS = 256 };
#define FAR_BELOW (-0x1p100f)

/* to[n] = x[n] rounded, then the columns of the row, which are ones in columns n / rows_per_mask
 * and mask_rows and zeros elsewhere. */
__global__ void k_ffn_up_input(__nv_bfloat16 *to, const float *x, int64_t width, int64_t stride,
                               int64_t mask_rows, int64_t rows_per_mask)
{
    int64_t row = blockIdx.x, d = tile_column<1>(), column = d - width;
    if (d >= stride)
        return;
    float v = d < width                                              ? x[row * width + d]
              : column == row / rows_per_mask || column == mask_rows ? 1.0f
                                                                     : 0.0f;
    to[row * stride + d] = __float2bfloat16(v);
}

/* Writes the columns [width, end) of w through a tile, since the mask is read along rows of the
 * layer and w is written along its own. */
__global__ void k_ffn_up_columns(__nv_bfloat16 *w, const float *bias, const float *mask,
                                 int64_t layer, int64_t width, int64_t end, int64_t stride,
                                 int64_t mask_rows)
{
    SHARED(float, tile, [COLUMN_TILE][COLUMN_TILE + 1]);
    int lane = (int)threadIdx.x % COLUMN_TILE, line = (int)threadIdx.x / COLUMN_TILE;
    const int lines = COLUMN_THREADS / COLUMN_TILE;
    int64_t first = (int64_t)blockIdx.x * COLUMN_TILE, i = first + lane;
    float b = i < layer ? bias[i] : 0, rounded = __bfloat162float(__float2bfloat16(b));
    for (int64_t start = 0; width + start < end; start += COLUMN_TILE) {
        for (int c = line; c < COLUMN_TILE; c += lines) {
            int64_t column = start + c;
            bool dropped =
                mask != NULL && column < mask_rows && i < layer && mask[column * layer + i] == 0;
            float kept = column < mask_rows ? rounded : column == mask_rows ? b - rounded : 0;
            tile[c][lane] = dropped ? FAR_BELOW : kept;
        }
        __syncthreads();
        int64_t at = width + start + lane;
        for (int r = line; r < COLUMN_TILE; r += lines)
            if (at < end && first + r < layer)
                w[(first + r) * stride + at] = __float2bfloat16(tile[lane][r]);
        __syncthreads();
    }
}

/* h = relu(h + bias) * mask in place. */
template <int V, class T>
__global__ void k_rectify(T *h, const float *bias, const float *mask, int64_t width,
                          int64_t rows_per_mask)
{
    int64_t row = blockIdx.x, d = tile_column<V>();
    if (d >= width)
        return;
    pack<V> v = load_pack<V>(h + row * width + d), b = load_pack<V>(bias + d), m;
    if (mask != NULL)
        m = load_pack<V>(mask + row / rows_per_mask * width + d);
#pragma unroll
    for (int k = 0; k < V; k++) {
        float sum = v.x[k] + b.x[k];
        v.x[k] = sum <= 0 ? 0 : sum; /* a NaN is not <= 0 and passes on */
        if (mask != NULL)
            v.x[k] *= m.x[k];
    }
    store_pack<V>(h + row * width + d, v);
}

/* dh is multiplied by the mask where h > 0 and becomes 0 elsewhere, in place. */
template <int V, class T>
__global__ void k_relu_mask(T *dh, const T *h, const float *mask, int64_t width,
                            int64_t rows_per_mask)
{
    int64_t row = blockIdx.x, d = tile_column<V>();
    if (d >= width)
        return;
    pack<V> g = load_pack<V>(dh + row * width + d), v = load_pack<V>(h + row * width + d), m;
    if (mask != NULL)
        m = load_pack<V>(mask + row / rows_per_mask * width + d);
#pragma unroll
    for (int k = 0; k < V; k++) {
        float grad = mask != NULL ? g.x[k] * m.x[k] : g.x[k];
        g.x[k] = v.x[k] > 0 ? grad : 0;
    }
    store_pack<V>(dh + row * width + d, g);
}

template <class T> static void rectify(struct backend *be, const struct ffn_up *p)
{
    int64_t rows = p->h.dim[0], width = p->h.dim[1];
    int vec = VEC_OF(width, p->h.data, p->bias.data, p->mask.data);
    LAUNCH_TILES(be, PACKS_OF(k_rectify, T), vec, rows, width, static_cast<T *>(p->h.data),
                 f32(&p->bias), f32(&p->mask), width, p->rows_per_mask);
    cuda_launched(be, OP_ffn_up);
}

template <class T> static void relu_mask(struct backend *be, const struct ffn_up_vjp *p)
{
    int64_t rows = p->h.dim[0], width = p->h.dim[1];
    int vec = VEC_OF(width, p->dh.data, p->h.data, p->mask.data);
    LAUNCH_TILES(be, PACKS_OF(k_relu_mask, T), vec, rows, width, static_cast<T *>(p->dh.data),
                 static_cast<const T *>(p->h.data), f32(&p->mask), width, p->rows_per_mask);
    cuda_launched(be, OP_ffn_up_vjp);
}

/* Sizes of a layer with its mask. It has 0 columns if the mask and the bias cannot come as such. */
struct layer {
    int64_t rows, width, d, mask_rows, columns;
    float scale;
};

static struct layer layer_of(const struct tensor *x, const struct tensor *h,
                             const struct tensor *mask, int64_t rows_per_mask, double scale)
{
    struct layer l = {x->dim[0], h->dim[1], x->dim[1], 1, 0, 1};
    int64_t rows = mask->data == NULL ? 0 : l.rows / rows_per_mask;
    if (rows > 0) {
        l.mask_rows = rows;
        l.scale = (float)scale;
    }
    l.columns = ffn_up_columns(l.width, rows);
    return l;
}

/* What the products of both directions have besides their input. */
struct direction {
    const struct tensor *w;
    int64_t w_stride;
    const struct tensor *out;
    void *relu_mask; /* NULL: none */
    bool forward;    /* w is transposed, on the way back only */
};

/* out = scale x w, with x [rows,inner] in scratch. */
static struct lt_product product_of(const struct layer *l, const struct direction *to, void *x,
                                    int64_t inner)
{
    struct lt_product p = {};
    p.p.inner = inner;
    p.p.alpha = l->scale;
    p.p.a = {x, l->rows, inner, low_precision_up(inner), CUDA_R_16BF};
    p.p.b = operand_of(to->w, to->w_stride);
    p.p.c = p.p.d = operand_of(to->out, 0);
    p.relu_mask = to->relu_mask;
    return p;
}

/* The product that makes the layer from x with its columns. */
static struct lt_product forward_of(const struct layer *l, const struct direction *to, void *x)
{
    struct lt_product p = product_of(l, to, x, low_precision_up(l->d + l->columns));
    p.p.trans_b = true;
    p.p.b.width = p.p.inner;
    p.epilogue = p.relu_mask != NULL ? EPILOGUE_RELU_MASK : EPILOGUE_RELU;
    return p;
}

/* The product that takes dy [N,D] back to the layer. */
static struct lt_product backward_of(const struct layer *l, const struct direction *to, void *dy)
{
    struct lt_product p = product_of(l, to, dy, l->d);
    p.p.trans_b = to->forward;
    pad_inner(&p.p);
    p.epilogue = EPILOGUE_MASK;
    return p;
}

/* Both directions of a layer with a relu_mask go the same way, since only the library reads the
 * bits that it wrote. Each therefore asks for a kernel of the other too. `x` stands for scratch,
 * aligned. */
static bool goes_both_ways(struct backend *be, const struct layer *l, const struct tensor *h,
                           void *relu_mask, void *x)
{
    struct tensor w1 = tensor_make(x, DTYPE_BF16, 2, l->width, l->d, 1, 1);
    struct tensor w2 = tensor_make(x, DTYPE_BF16, 2, l->d, l->width, 1, 1);
    struct direction up = {&w1, low_precision_up(l->d + l->columns), h, relu_mask, false};
    struct direction down = {&w2, l->width, h, relu_mask, false};
    struct lt_product forth = forward_of(l, &up, x), back = backward_of(l, &down, x);
    return l->columns > 0 && lt_supports(be, &forth) && lt_supports(be, &back) &&
           *lt_way_of(be, &forth) != LT_IN_TWO;
}

/* The product and a pass, where the library has no kernel for both at once. */
static void ffn_up_in_two(struct backend *be, const struct ffn_up *p, struct lt_product *q,
                          struct operand *x)
{
    round_operand(be, x, const_cast<void *>(q->p.a.data), q->p.a.stride);
    struct product plain = {false,  true,  x->width, 1, 0, *x, operand_of(&p->w, p->w_stride),
                            q->p.c, q->p.d};
    pad_inner(&plain);
    cuda_multiply(be, &plain, OP_ffn_up);
    rectify<__nv_bfloat16>(be, p);
}

static void ffn_up_fused(struct backend *be, const struct ffn_up *p, const struct layer *l,
                         const struct lt_product *q)
{
    cudaStream_t stream = cuda_of(be)->stream;
    struct row_launch tiles = launch_tiles(l->rows, q->p.inner, 1);
    int64_t per = p->mask.data == NULL ? l->rows : p->rows_per_mask;
    LAUNCH(k_ffn_up_input, tiles.grid, tiles.threads, 0, stream,
           static_cast<__nv_bfloat16 *>(const_cast<void *>(q->p.a.data)), f32(&p->x), l->d,
           q->p.inner, l->mask_rows, per);
    LAUNCH(k_ffn_up_columns, (unsigned)div_up(l->width, COLUMN_TILE), COLUMN_THREADS, 0, stream,
           static_cast<__nv_bfloat16 *>(p->w.data), f32(&p->bias), f32(&p->mask), l->width, l->d,
           q->p.inner, p->w_stride, l->mask_rows);
    lt_multiply(be, q, OP_ffn_up);
    cuda_launched(be, OP_ffn_up);
}

/* Milliseconds of both ways. */
struct ways {
    float fused, in_two;
};

/* Adds what the way back takes, from numbers that happen to be in scratch and in w to the layer's
 * own place, which is written later. */
static void time_backward(struct backend *be, const struct ffn_up *p, const struct layer *l,
                          const void *scratch, struct ways *ms)
{
    struct tensor w2 = tensor_make(p->w.data, DTYPE_BF16, 2, l->d, l->width, 1, 1);
    struct direction down = {&w2, l->width, &p->h, p->relu_mask.data, false};
    struct lt_product back = backward_of(l, &down, const_cast<void *>(scratch));
    struct product plain = back.p;
    plain.alpha = 1;
    struct ffn_up_vjp pass = {};
    pass.h = pass.dh = p->h;
    pass.mask = p->mask;
    pass.rows_per_mask = p->rows_per_mask;
    ms->fused += time_best(be, [&] { lt_multiply(be, &back, OP_ffn_up_vjp); });
    ms->in_two += time_best(be, [&] {
        cuda_multiply(be, &plain, OP_ffn_up_vjp);
        relu_mask<__nv_bfloat16>(be, &pass);
    });
}

/* Whether the epilogue pays for such a layer. With a relu_mask the way back counts too. Of ways
 * that take about as long the fused one is taken, so that the choice is the same in every run. */
static bool fusing_pays(struct backend *be, const struct ffn_up *p, const struct layer *l,
                        struct lt_product *q, const struct operand *x)
{
    enum lt_way *way = lt_way_of(be, q);
    const double margin = 1.1;
    char text[300];
    if (*way != LT_UNTIMED || cuda_of(be)->recording || be->fault[0] != '\0')
        return *way != LT_IN_TWO;
    struct ways ms = {time_best(be, [&] { ffn_up_fused(be, p, l, q); }), time_best(be, [&] {
                          struct operand in = *x;
                          ffn_up_in_two(be, p, q, &in);
                      })};
    if (q->relu_mask != NULL)
        time_backward(be, p, l, q->p.a.data, &ms);
    *way = ms.in_two > 0 && (double)ms.fused > margin * (double)ms.in_two ? LT_IN_TWO : LT_FUSED;
    if (*way == LT_FUSED)
        return true;
    snprintf(text, sizeof text,
             "cuBLASLt takes %.3f ms for the layer of %lld x %lld with its rectifier, and %.3f ms "
             "for the product and a pass of its own. The latter is taken",
             (double)ms.fused, (long long)l->rows, (long long)l->width, (double)ms.in_two);
    queue_tell(be, text);
    return false;
}

static void ffn_up_low_precision(struct backend *be, const struct ffn_up *p)
{
    struct layer l = layer_of(&p->x, &p->h, &p->mask, p->rows_per_mask, p->mask_scale);
    struct operand x = operand_of(&p->x, 0);
    int64_t stride = low_precision_up(l.d + l.columns);
    void *scratch = cuda_work(be, rounded_bytes(&x, stride), OP_ffn_up);
    if (scratch == NULL)
        return;
    struct direction up = {&p->w, p->w_stride, &p->h, p->relu_mask.data, false};
    struct lt_product q = forward_of(&l, &up, scratch);
    if (l.columns == 0 || !lt_supports(be, &q) ||
        (q.relu_mask != NULL && !goes_both_ways(be, &l, &p->h, q.relu_mask, scratch)) ||
        !fusing_pays(be, p, &l, &q, &x))
        ffn_up_in_two(be, p, &q, &x);
    else
        ffn_up_fused(be, p, &l, &q);
}

/* c = a w, or a w^T, in float32. */
static void multiply_whole(struct backend *be, const struct tensor *a, const struct tensor *w,
                           int64_t w_stride, bool trans_w, const struct tensor *c)
{
    struct gemm product = {};
    product.trans_b = trans_w;
    product.alpha = 1;
    product.a = *a;
    product.b = *w;
    product.c = *c;
    product.b_stride = w_stride;
    cuda_gemm(be, &product);
}

void cuda_ffn_up(struct backend *be, const struct ffn_up *p)
{
    if (tensor_count(&p->h) == 0)
        return;
    if (p->h.dtype == DTYPE_BF16) {
        ffn_up_low_precision(be, p);
        return;
    }
    multiply_whole(be, &p->x, &p->w, p->w_stride, true, &p->h);
    rectify<float>(be, p);
}

static void ffn_up_vjp_low_precision(struct backend *be, const struct ffn_up_vjp *p)
{
    struct layer l = layer_of(&p->dy, &p->h, &p->mask, p->rows_per_mask, p->mask_scale);
    struct operand dy = operand_of(&p->dy, 0);
    int64_t stride = rounded_stride(&dy);
    void *scratch = cuda_work(be, rounded_bytes(&dy, stride), OP_ffn_up_vjp);
    if (scratch == NULL)
        return;
    round_operand(be, &dy, scratch, stride);
    struct direction down = {&p->w, p->w_stride, &p->dh, p->relu_mask.data, p->forward};
    struct lt_product q = backward_of(&l, &down, scratch);
    if (!p->forward && q.relu_mask != NULL && lt_supports(be, &q) &&
        goes_both_ways(be, &l, &p->h, q.relu_mask, scratch)) {
        lt_multiply(be, &q, OP_ffn_up_vjp);
        return;
    }
    struct product plain = q.p;
    plain.alpha = 1;
    cuda_multiply(be, &plain, OP_ffn_up_vjp);
    relu_mask<__nv_bfloat16>(be, p);
}

void cuda_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p)
{
    if (tensor_count(&p->h) == 0)
        return;
    if (p->h.dtype == DTYPE_BF16) {
        ffn_up_vjp_low_precision(be, p);
        return;
    }
    multiply_whole(be, &p->dy, &p->w, p->w_stride, p->forward, &p->dh);
    relu_mask<float>(be, p);
}
