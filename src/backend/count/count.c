/* The backend that counts. */
#include "backend/count/count.h"

#include "backend/attention_operands.h"
#include "backend/device_scratch.h"
#include "base/mem.h"
#include <math.h>

/* Rounded operands begin on multiples of 256 bytes (cuda/gemm.cu). */
enum { OPERAND_ALIGN = 128, LOW_PRECISION_BYTES = 2 };
/* Addresses given out lie beyond what any process can have, so that touching one is a fault. */
static const uintptr_t FIRST_ADDRESS = (uintptr_t)1 << 56;
enum { ADDRESS_ALIGN = 64 };

/* What a product costs. Passes before and after it move `pass_bytes`. */
struct product {
    double flops, bytes, pass_bytes;
    int launches;
};

struct count {
    struct ops table;
    struct count_device device;
    bool tiled; /* the last attention ran on tensor cores */
    uintptr_t next;
    size_t scratch;
    struct product product; /* of the call that is being counted */
};

static struct count *count_of(const struct backend *be)
{
    return be->impl;
}

size_t count_scratch(const struct backend *be)
{
    return count_of(be)->scratch;
}

static enum status count_alloc(struct backend *be, void **out, size_t bytes, struct error *err)
{
    struct count *c = count_of(be);
    (void)err;
    *out = (void *)c->next;
    c->next += (bytes / ADDRESS_ALIGN + 1) * ADDRESS_ALIGN;
    return STATUS_OK;
}

static void count_release(struct backend *be, void *ptr)
{
    (void)be;
    (void)ptr;
}

static void count_close(struct backend *be)
{
    mem_free(be->impl);
}

static void count_download(struct backend *be, void *dst, enum dtype dst_type,
                           const struct tensor *src)
{
    (void)be;
    int64_t count = tensor_count(src);
    for (int64_t i = 0; i < count; i++) {
        if (dst_type == DTYPE_F64)
            ((double *)dst)[i] = 1;
        else if (dst_type == DTYPE_F32)
            ((float *)dst)[i] = 1;
        else if (dst_type == DTYPE_I32)
            ((int32_t *)dst)[i] = 1;
        else
            ((unsigned char *)dst)[i] = 1;
    }
}

/* Takes any precision. What it costs is part of the device (count_device). */
static enum status count_set_precision(struct backend *be, enum precision precision,
                                       struct error *err)
{
    (void)be, (void)precision, (void)err;
    return STATUS_OK;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Notes the scratch that a call needs for its rounded factors. */
static void need_scratch(struct count *c, size_t bytes)
{
    if (bytes > c->scratch)
        c->scratch = bytes;
}

/* Counts the pass that rounds a real factor [rows, cols] into scratch, `written` numbers a row.
 * Returns the bytes of scratch. */
static size_t round_factor(struct product *p, int64_t rows, int64_t cols, int64_t written)
{
    p->pass_bytes +=
        (double)(rows * cols) * sizeof(float) + (double)(rows * written) * LOW_PRECISION_BYTES;
    p->bytes += (double)(rows * written) * LOW_PRECISION_BYTES;
    p->launches++;
    return (size_t)round_up(low_precision_up(rows) * low_precision_up(written), OPERAND_ALIGN) *
           LOW_PRECISION_BYTES;
}

/* Counts a factor of a product, which is read as it is stored, or rounded first. Returns the bytes
 * of scratch. */
static size_t take_factor(const struct count *c, struct product *p, const struct tensor *t)
{
    if (c->device.rounds && t->dtype == DTYPE_F32)
        return round_factor(p, t->dim[0], t->dim[1], t->dim[1]);
    p->bytes += (double)tensor_bytes(t);
    return 0;
}

static void count_gemm(struct backend *be, const struct gemm *p)
{
    struct count *c = count_of(be);
    int64_t inner = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    c->product = (struct product){.flops = 2.0 * (double)tensor_count(&p->c) * (double)inner,
                                  .bytes = (double)tensor_bytes(&p->c) * (p->beta != 0 ? 2 : 1),
                                  .launches = 1};
    size_t a = take_factor(c, &c->product, &p->a);
    need_scratch(c, a + take_factor(c, &c->product, &p->b));
}

/* A wide feed-forward layer [n,width] from x [n,d], or its gradient from that of the other end, as
 * cuda/ffn_up.cu computes them. */
struct layer {
    const struct tensor *x, *w, *h, *mask;
    int64_t inner;   /* length of the product's sums, d and the columns of bias and mask */
    int64_t columns; /* those columns, 0 if bias and mask come in a pass after the product */
    bool fused;      /* there is no pass after the product */
    bool reads_h;    /* that pass reads the layer too */
};

static void count_layer(struct count *c, const struct layer *l)
{
    int64_t n = l->h->dim[0], width = l->h->dim[1];
    struct product *p = &c->product;
    *p = (struct product){.flops = 2.0 * (double)n * (double)width * (double)l->inner,
                          .bytes = (double)tensor_bytes(l->h),
                          .launches = 1};
    double extra = l->mask->data != NULL ? (double)tensor_bytes(l->mask) : 0;
    if (!c->device.rounds) {
        p->bytes += (double)tensor_bytes(l->x) + (double)tensor_bytes(l->w);
    } else {
        need_scratch(c, round_factor(p, n, l->x->dim[1], l->inner));
        p->bytes += (double)l->w->dim[0] * (double)l->w->dim[1] * LOW_PRECISION_BYTES;
    }
    if (l->columns >
        0) { /* The columns are written into the padding of the weight, which has `width` rows. */
        p->pass_bytes += extra + (double)(width * l->columns) * LOW_PRECISION_BYTES;
        p->bytes += (double)(width * l->columns) * LOW_PRECISION_BYTES;
        p->launches++;
    }
    if (l->fused || !c->device.rectifier_passes)
        return;
    p->pass_bytes += extra + (l->reads_h ? 3 : 2) * (double)tensor_bytes(l->h);
    p->launches++;
}

static int64_t mask_rows(const struct tensor *mask, int64_t rows, int64_t rows_per_mask)
{
    return mask->data == NULL ? 0 : rows / rows_per_mask;
}

static void count_ffn_up(struct backend *be, const struct ffn_up *p)
{
    struct count *c = count_of(be);
    int64_t d = p->x.dim[1], rows = mask_rows(&p->mask, p->x.dim[0], p->rows_per_mask);
    int64_t columns = c->device.rounds ? ffn_up_columns(p->h.dim[1], rows) : 0;
    struct layer layer = {.x = &p->x, .w = &p->w, .h = &p->h, .mask = &p->mask, .inner = d};
    if (columns > 0) {
        layer.inner = low_precision_up(d + columns);
        layer.columns = layer.inner - d;
        layer.fused = true;
    }
    count_layer(c, &layer);
    c->product.bytes += p->relu_mask.data != NULL ? (double)tensor_bytes(&p->relu_mask) : 0;
}

static void count_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p)
{
    struct count *c = count_of(be);
    int64_t rows = mask_rows(&p->mask, p->dy.dim[0], p->rows_per_mask);
    bool fused = c->device.rounds && p->relu_mask.data != NULL && !p->forward &&
                 ffn_up_columns(p->dh.dim[1], rows) > 0;
    struct layer layer = {.x = &p->dy,
                          .w = &p->w,
                          .h = &p->dh,
                          .mask = &p->mask,
                          .inner = p->dy.dim[1],
                          .fused = fused,
                          .reads_h = true};
    count_layer(c, &layer);
    c->product.bytes += fused ? (double)tensor_bytes(&p->relu_mask) : 0;
}

/* Notes the scratch of an operation that a GPU computes by kernels of its own. */
static void need_numbers(struct backend *be, int64_t numbers)
{
    if (count_of(be)->device.kernel_scratch)
        need_scratch(count_of(be), (size_t)numbers * sizeof(float));
}

/* Tiles of 16 queries, a warp's, and 64 keys that cuda/attention_bf16.cu computes for a head. */
static double attention_tiles(const struct attention *f)
{
    enum { WARP = 16, BLOCK = 64, KEYS = 64 };
    int64_t length = f->qkv.dim[1], mem = f->mem.data == NULL ? 0 : f->mem.dim[1];
    int64_t span = f->span > 0 && f->span < mem + length ? f->span : mem + length, tiles = 0;
    for (int64_t row = 0; row < length; row += WARP) {
        int64_t first = row / BLOCK * BLOCK, begin = mem + first - span + 1;
        int64_t end = mem + (row + WARP < length ? row + WARP : length);
        for (int64_t key = begin > 0 ? begin : 0; key < end; key += KEYS)
            tiles += mem + row - key - (KEYS - 1) < span;
    }
    return (double)tiles;
}

/* Attention on tensor cores rounds its operands first. A tile takes so many matrix instructions for
 * each 16 columns of the padded head, of 4096 operations each (cuda/README.md). */
static void count_tiles(struct backend *be, const struct attention *f, bool vjp, int instructions)
{
    struct count *c = count_of(be);
    int64_t head = attention_padded_head(f->qkv.dim[2] / 3 / f->heads);
    c->tiled = c->device.rounds && head > 0;
    if (!c->tiled)
        return;
    double operands = (double)attention_operands(f, vjp);
    int64_t columns = head / 16;
    double queries = (double)(f->qkv.dim[0] * f->qkv.dim[1]);
    double asked = f->rows.data == NULL ? 1 : (double)f->rows.dim[0] / queries;
    c->product =
        (struct product){.flops = 4096.0 * instructions * (double)columns * attention_tiles(f) *
                                  (double)(f->qkv.dim[0] * f->heads) * asked,
                         .bytes = operands * LOW_PRECISION_BYTES + (double)tensor_bytes(&f->out),
                         .pass_bytes = operands * (sizeof(float) + LOW_PRECISION_BYTES),
                         .launches = vjp ? 4 : 2};
}

/* The scratch of its operands, in numbers of float32. */
static int64_t operand_numbers(const struct backend *be, const struct attention *f, bool vjp)
{
    return count_of(be)->tiled ? (attention_operands(f, vjp) + 1) / 2 : 0;
}

static void count_attention(struct backend *be, const struct attention *p)
{
    count_tiles(be, p, false, p->rk.data != NULL ? 26 : 16);
    need_numbers(be, operand_numbers(be, p, false));
}

static void count_attention_vjp(struct backend *be, const struct attention_vjp *p)
{
    int64_t head = p->fwd.qkv.dim[2] / 3 / p->fwd.heads;
    int queries = p->fwd.rk.data == NULL ? 24 : head > 64 ? 48 : 44;
    int keys = p->fwd.rk.data == NULL ? 32 : head > 80 ? 44 : 42;
    count_tiles(be, &p->fwd, true, queries + keys);
    need_numbers(be, attention_vjp_scratch(p) + operand_numbers(be, &p->fwd, true));
}

static void count_attention_tangent(struct backend *be, const struct attention_tangent *p)
{
    need_numbers(be, attention_tangent_scratch(p));
}

static void count_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p)
{
    need_numbers(be, columns_scratch(p->ds.dim[0], p->ds.dim[1]));
}

static void count_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *p)
{
    need_numbers(be, norm_tangent_scratch(p));
}

static void count_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    (void)acc;
    need_numbers(be, columns_scratch(x->dim[0], x->dim[1]));
}

static void count_scatter_add_rows(struct backend *be, const struct tensor *table,
                                   const struct tensor *x, const struct tensor *idx, double scale)
{
    (void)table, (void)idx, (void)scale;
    need_numbers(be, scatter_add_scratch(x->dim[0]));
}

static void count_col_dot(struct backend *be, const struct tensor *acc, const struct tensor *x,
                          const struct tensor *y)
{
    (void)y;
    count_col_sum(be, acc, x);
}

static bool is_product(enum op_id id)
{
    return id == OP_gemm || id == OP_ffn_up || id == OP_ffn_up_vjp;
}

static double seconds_of(struct backend *be, enum op_id id, double flops, double bytes)
{
    const struct count *c = count_of(be);
    const struct count_device *d = &c->device;
    const struct product *p = &c->product;
    if (is_product(id))
        return p->pass_bytes / d->bandwidth +
               fmax(p->flops / d->product_rate, p->bytes / d->bandwidth) +
               p->launches * d->call_seconds;
    if (c->tiled && d->attention_rate > 0 && (id == OP_attention || id == OP_attention_vjp))
        return p->pass_bytes / d->bandwidth +
               fmax(p->flops / d->attention_rate, p->bytes / d->bandwidth) +
               p->launches * d->call_seconds;
    double seconds = fmax(flops / d->plain_rate, bytes / d->bandwidth) + d->call_seconds;
    return id == OP_download ? seconds + d->sync_seconds : seconds;
}

/* Takes any arguments and does nothing with them. */
static void ignore(struct backend *be, ...)
{
    (void)be;
}

/* nothing_gemm, nothing_axpby, ... are what operations do that this file does not count itself. */
#define OP(name, args, ...)                                     \
    static void nothing_##name(struct backend *be, __VA_ARGS__) \
    {                                                           \
        ignore args;                                            \
    }
OP_LIST(OP)
#undef OP

enum status count_open(struct backend *be, const struct count_device *device, struct error *err)
{
    struct count *c = NULL;
    TRY(mem_alloc((void **)&c, 1, sizeof *c, err));
    c->device = *device;
    c->next = FIRST_ADDRESS;
    c->table = (struct ops){.name = "count",
                            .real = DTYPE_F32,
                            .chunk_numbers = device->chunk_numbers,
                            .ffn_rows = device->ffn_rows,
                            .low_precision_bf16 = device->rounds,
                            .alloc = count_alloc,
                            .release = count_release,
                            .close = count_close,
                            .graph_break = graph_break_none,
                            .set_precision = count_set_precision,
#define OP(name, ...) .name = nothing_##name,
                            OP_LIST(OP)
#undef OP
    };
    c->table.download = count_download;
    c->table.gemm = count_gemm;
    c->table.attention = count_attention;
    c->table.attention_vjp = count_attention_vjp;
    c->table.ffn_up = count_ffn_up;
    c->table.ffn_up_vjp = count_ffn_up_vjp;
    c->table.attention_tangent = count_attention_tangent;
    c->table.residual_norm_vjp = count_residual_norm_vjp;
    c->table.norm_vjp_tangent = count_norm_vjp_tangent;
    c->table.col_sum = count_col_sum;
    c->table.col_dot = count_col_dot;
    c->table.scatter_add_rows = count_scatter_add_rows;
    enum status status = backend_init(be, &c->table, c, 1, err);
    be->seconds_of = seconds_of;
    if (status != STATUS_OK)
        mem_free(c);
    return status;
}

enum status count_open_like(struct backend *be, const struct backend *like, struct error *err)
{
    const struct count_device device = {
        .product_rate = INFINITY,
        .plain_rate = INFINITY,
        .bandwidth = INFINITY,
        .rounds = like->ops->low_precision_bf16 && like->precision == PRECISION_BF16,
        .kernel_scratch = like->ops->clock != NULL,
        .chunk_numbers = like->ops->chunk_numbers,
        .ffn_rows = like->ops->ffn_rows,
    };
    TRY(count_open(be, &device, err));
    count_of(be)->table.real = like->ops->real;
    be->precision = like->precision;
    be->batch_invariant = like->batch_invariant;
    return STATUS_OK;
}
