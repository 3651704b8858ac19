/* Opening and closing backends, their memory, faults and statistics. */
#include "backend/backend.h"
#include "backend/ops/op_functions.h"

#include <stdio.h>
#include <string.h>

enum status backend_init(struct backend *be, const struct ops *ops, void *impl, int threads,
                         struct error *err)
{
    memset(be, 0, sizeof *be);
    be->ops = ops;
    be->impl = impl;
    be->threads = threads;
    const struct {
        const char *op;
        bool filled;
    } slots[] = {{"alloc", ops->alloc != NULL},
                 {"release", ops->release != NULL},
                 {"close", ops->close != NULL},
                 {"set_precision", ops->set_precision != NULL},
                 {"graph_break", ops->graph_break != NULL},
#define OP(name, ...) {#name, ops->name != NULL},
                 OP_LIST(OP)
#undef OP
    };
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (!slots[i].filled)
            return error_set(err, STATUS_INTERNAL, "backend %s lacks the operation %s", ops->name,
                             slots[i].op);
    return STATUS_OK;
}

void backend_close(struct backend *be)
{
    if (be->ops != NULL)
        be->ops->close(be);
    memset(be, 0, sizeof *be);
}

const char *precision_name(enum precision precision)
{
    static const char *const names[PRECISION_COUNT] = {"fp32", "tf32", "bf16"};
    return precision < PRECISION_COUNT ? names[precision] : "unknown";
}

double precision_floor(enum precision precision)
{
    static const double floors[PRECISION_COUNT] = {1e-6, 5e-5, 4e-4};
    assert(precision < PRECISION_COUNT);
    return floors[precision];
}

enum status backend_set_precision(struct backend *be, enum precision precision, struct error *err)
{
    if (precision == be->precision)
        return STATUS_OK;
    TRY(be->ops->set_precision(be, precision, err));
    be->precision = precision;
    return STATUS_OK;
}

enum dtype op_low_precision(const struct backend *be)
{
    return be->ops->low_precision_bf16 && be->precision == PRECISION_BF16 ? DTYPE_BF16
                                                                          : be->ops->real;
}

int64_t op_ffn_up_padding(const struct backend *be, int64_t mask_rows)
{
    int64_t few = ffn_up_columns(LOW_PRECISION_ALIGN, 0),
            all = ffn_up_columns(LOW_PRECISION_ALIGN, mask_rows);
    return op_low_precision(be) != DTYPE_BF16 ? 0 : all > few ? all : few;
}

int64_t op_relu_mask_width(const struct backend *be, int64_t width)
{
    enum { RELU_MASK_BITS = 128 }; /* cuBLASLt pads a row of bits to a multiple of this */
    if (op_low_precision(be) == DTYPE_BF16)
        return (width + RELU_MASK_BITS - 1) / RELU_MASK_BITS * RELU_MASK_BITS / 8;
    return be->ops->ffn_rows > 0 ? (width + 7) / 8 : 0;
}

void op_graph_break(struct backend *be)
{
    be->ops->graph_break(be);
}

void graph_break_none(struct backend *be)
{
    (void)be;
}

const char *op_name(enum op_id id)
{
    static const char *const names[OP_COUNT] = {
#define OP(name, ...) #name,
        OP_LIST(OP)
#undef OP
    };
    return id < OP_COUNT ? names[id] : "unknown";
}

const char *memory_part_text(enum memory_part part)
{
    static const char *const texts[PART_COUNT] = {
#define X(name, text) text,
        PART_LIST(X)
#undef X
    };
    return part < PART_COUNT ? texts[part] : "unknown";
}

enum memory_part op_part(struct backend *be, enum memory_part part)
{
    enum memory_part before = be->part;
    be->part = part;
    return before;
}

enum status op_alloc(struct backend *be, struct tensor *t, enum dtype dtype, int ndim, int64_t d0,
                     int64_t d1, int64_t d2, int64_t d3, struct error *err)
{
    struct tensor made = tensor_make(NULL, dtype, ndim, d0, d1, d2, d3);
    assert(d0 >= 0 && d1 >= 0 && d2 >= 0 && d3 >= 0);
    *t = made;
    size_t bytes = tensor_bytes(&made);
    TRY(be->ops->alloc(be, &made.data, bytes, err));
    *t = made;
    be->planned[be->part] += bytes;
    be->bytes += bytes;
    if (be->bytes > be->peak_bytes)
        be->peak_bytes = be->bytes;
    if (bytes > 0)
        op_fill(be, t, 0.0);
    return STATUS_OK;
}

void op_release(struct backend *be, struct tensor *t)
{
    if (t->data == NULL)
        return;
    be->bytes -= tensor_bytes(t);
    be->ops->release(be, t->data);
    t->data = NULL;
}

static void latch(struct backend *be, enum op_id id, enum status status, const char *text)
{
    if (be->fault[0] != '\0')
        return;
    be->fault_op = id;
    be->fault_status = status;
    snprintf(be->fault, sizeof be->fault, "%s", text);
}

void backend_fault(struct backend *be, enum op_id id, const char *text)
{
    latch(be, id, STATUS_DEVICE, text);
}

void backend_fault_memory(struct backend *be, enum op_id id, const char *text)
{
    latch(be, id, STATUS_NOMEM, text);
}

enum status backend_check(const struct backend *be, struct error *err)
{
    if (be->fault[0] == '\0')
        return STATUS_OK;
    return error_set(err, be->fault_status, "device %s failed in %s: %s", be->ops->name,
                     op_name(be->fault_op), be->fault);
}

enum status backend_time_calls(struct backend *be, bool time, struct error *err)
{
    if (be->ops->clock == NULL || be->timed == time)
        return STATUS_OK;
    TRY(be->ops->clock->time_calls(be, time, err));
    be->timed = time;
    return STATUS_OK;
}

void backend_settle(struct backend *be)
{
    if (be->timed)
        be->ops->clock->settle(be);
}

void backend_reset_stats(struct backend *be)
{
    backend_settle(be);
    memset(be->stat, 0, sizeof be->stat);
    be->syncs = 0;
}

double op_begin_call(struct backend *be, enum op_id id)
{
    be->op = id;
    return clock_seconds();
}

void op_count_call(struct backend *be, enum op_id id, double start, struct op_cost cost)
{
    struct op_stat *stat = &be->stat[id];
    if (be->timeline != NULL)
        timeline_add(be->timeline, LANE_CALLS, op_name(id), start, clock_seconds() - start,
                     cost.flops, cost.bytes);
    if (be->seconds_of != NULL)
        stat->seconds += be->seconds_of(be, id, cost.flops, cost.bytes);
    else if (!be->timed) /* otherwise the device tells (backend_settle) */
        stat->seconds += clock_seconds() - start;
    stat->calls++;
    stat->flops += cost.flops;
    stat->bytes += cost.bytes;
    if (id == OP_download)
        be->syncs++;
}
