#include "count/count.h"

#include "base/mem.h"
#include <math.h>

/* Rows of rounded operands begin on 16 bytes, operands on 256 (cuda/gemm.cu). */
enum { ROUNDED_ALIGN = 8, OPERAND_ALIGN = 128, ROUNDED_BYTES = 2 };
/* Addresses given out: beyond what any process can have, so that touching one is a fault. */
static const uintptr_t FIRST_ADDRESS = (uintptr_t)1 << 56;
enum { ADDRESS_ALIGN = 64 };

struct count {
    struct ops table;
    struct count_device device;
    uintptr_t next;
    size_t scratch;
    double rounded, result; /* of the product being booked: operands' numbers, bytes of the rest */
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

/* Any: what it costs is the device's business (count_device). */
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

static size_t rounded_bytes(const struct tensor *t)
{
    int64_t count = t->dim[0] * round_up(t->dim[1], ROUNDED_ALIGN);
    return (size_t)round_up(count, OPERAND_ALIGN) * ROUNDED_BYTES;
}

static void count_gemm(struct backend *be, const struct gemm *p)
{
    struct count *c = count_of(be);
    c->rounded = (double)(tensor_count(&p->a) + tensor_count(&p->b));
    c->result = (double)tensor_bytes(&p->c) * (p->beta != 0 ? 2 : 1);
    size_t scratch = rounded_bytes(&p->a) + rounded_bytes(&p->b);
    if (c->device.rounds && scratch > c->scratch)
        c->scratch = scratch;
}

static double product_seconds(const struct count *c, double flops, double bytes)
{
    const struct count_device *d = &c->device;
    if (!d->rounds)
        return fmax(flops / d->product_rate, bytes / d->bandwidth) + d->call_seconds;
    double passes = c->rounded * (sizeof(float) + ROUNDED_BYTES) / d->bandwidth;
    double moved = c->rounded * ROUNDED_BYTES + c->result;
    return passes + fmax(flops / d->product_rate, moved / d->bandwidth) + 3 * d->call_seconds;
}

static double seconds_of(struct backend *be, enum op_id id, double flops, double bytes)
{
    const struct count *c = count_of(be);
    const struct count_device *d = &c->device;
    if (id == OP_gemm)
        return product_seconds(c, flops, bytes);
    double seconds = fmax(flops / d->plain_rate, bytes / d->bandwidth) + d->call_seconds;
    return id == OP_download ? seconds + d->sync_seconds : seconds;
}

/* The other operations: nothing to do, whatever the arguments. */
#define IDLE1(op, A)                                \
    static void count_##op(struct backend *be, A a) \
    {                                               \
        (void)be, (void)a;                          \
    }
#define IDLE2(op, A, B)                                  \
    static void count_##op(struct backend *be, A a, B b) \
    {                                                    \
        (void)be, (void)a, (void)b;                      \
    }
#define IDLE3(op, A, B, C)                                    \
    static void count_##op(struct backend *be, A a, B b, C c) \
    {                                                         \
        (void)be, (void)a, (void)b, (void)c;                  \
    }
#define IDLE4(op, A, B, C, D)                                      \
    static void count_##op(struct backend *be, A a, B b, C c, D d) \
    {                                                              \
        (void)be, (void)a, (void)b, (void)c, (void)d;              \
    }
#define IDLE5(op, A, B, C, D, E)                                        \
    static void count_##op(struct backend *be, A a, B b, C c, D d, E e) \
    {                                                                   \
        (void)be, (void)a, (void)b, (void)c, (void)d, (void)e;          \
    }
#define IDLE6(op, A, B, C, D, E, F)                                          \
    static void count_##op(struct backend *be, A a, B b, C c, D d, E e, F f) \
    {                                                                        \
        (void)be, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;      \
    }

typedef const struct tensor *view;

IDLE3(upload, view, const void *, enum dtype)
IDLE2(copy, view, view)
IDLE2(fill, view, double)
IDLE4(axpby, view, double, view, double)
IDLE3(mul_bcast, view, view, view)
IDLE2(col_sum, view, view)
IDLE1(copy_block, const struct copy_block *)
IDLE1(residual_norm, const struct residual_norm *)
IDLE1(residual_norm_vjp, const struct residual_norm_vjp *)
IDLE4(bias_relu, view, view, view, int64_t)
IDLE4(bias_relu_vjp, view, view, view, int64_t)
IDLE1(attention, const struct attention *)
IDLE1(attention_vjp, const struct attention_vjp *)
IDLE1(norm_vjp_tangent, const struct norm_vjp_tangent *)
IDLE1(attention_tangent, const struct attention_tangent *)
IDLE1(lstm_gate, const struct lstm_gate *)
IDLE1(lstm_gate_vjp, const struct lstm_gate_vjp *)
IDLE4(gather_rows, view, view, view, double)
IDLE4(scatter_add_rows, view, view, view, double)
IDLE1(softmax_xent, const struct softmax_xent *)
IDLE2(log_softmax, view, view)
IDLE4(dropout_mask, view, double, struct rng_key, uint64_t)
IDLE3(fill_normal, view, double, struct rng_key)
IDLE4(fill_uniform, view, double, double, struct rng_key)
IDLE4(weight_norm, view, view, view, view)
IDLE6(weight_norm_vjp, view, view, view, view, view, view)
IDLE5(solve_residual, view, view, view, view, view)
IDLE4(row_dots, view, view, view, int64_t)
IDLE4(scope_sum, view, enum scope, double, bool)
IDLE1(solve_judge, const struct solve_judge *)
IDLE1(anderson_weights, const struct anderson_weights *)
IDLE1(row_combine, const struct row_combine *)
IDLE3(row_divide, view, view, view)
IDLE2(sum_squares, view, view)
IDLE1(adam, const struct adam *)

enum status count_open(struct backend *be, const struct count_device *device, struct error *err)
{
    struct count *c = NULL;
    TRY(mem_alloc((void **)&c, 1, sizeof *c, err));
    c->device = *device;
    c->next = FIRST_ADDRESS;
    c->table = (struct ops){.name = "count",
                            .real = DTYPE_F32,
                            .chunk_numbers = device->chunk_numbers,
                            .alloc = count_alloc,
                            .release = count_release,
                            .close = count_close,
                            .end_run = end_no_run,
                            .set_precision = count_set_precision,
#define X(op) .op = count_##op,
                            OP_LIST(X)
#undef X
    };
    enum status status = backend_init(be, &c->table, c, 1, err);
    be->seconds_of = seconds_of;
    if (status != STATUS_OK)
        mem_free(c);
    return status;
}
