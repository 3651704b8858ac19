/* Opening, memory and the table of the reference backend. */
#include "backend/ref/ref.h"
#include "backend/ref/ref_ops.h"
#include "base/mem.h"

#include <string.h>

enum { CHUNK_NUMBERS = 640000, FFN_ROWS = 4 };

static enum status ref_alloc(struct backend *be, void **out, size_t bytes, struct error *err)
{
    (void)be;
    return mem_alloc(out, bytes, 1, err);
}

static void ref_release(struct backend *be, void *ptr)
{
    (void)be;
    mem_free(ptr);
}

/* Returns number i of an array of the given type. */
static double number_get(const void *data, enum dtype dtype, int64_t i)
{
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)data)[i];
    case DTYPE_F64:
        return ((const double *)data)[i];
    case DTYPE_I32:
        return ((const int32_t *)data)[i];
    case DTYPE_U8:
        return ((const uint8_t *)data)[i];
    case DTYPE_BF16: /* never here, low-precision tensors are real */
        break;
    }
    assert(!"no such type");
    return 0;
}

static void number_set(void *data, enum dtype dtype, int64_t i, double value)
{
    switch (dtype) {
    case DTYPE_F32:
        ((float *)data)[i] = (float)value;
        break;
    case DTYPE_F64:
        ((double *)data)[i] = value;
        break;
    case DTYPE_I32:
        ((int32_t *)data)[i] = (int32_t)value;
        break;
    case DTYPE_U8:
        ((uint8_t *)data)[i] = (uint8_t)value;
        break;
    case DTYPE_BF16:
        assert(!"no such type");
        break;
    }
}

/* Converts numbers. Equal types are copied as bytes, so that a NaN keeps its bits. An empty array
 * may be NULL. */
static void convert(void *dst, enum dtype dst_type, const void *src, enum dtype src_type,
                    int64_t count)
{
    if (count == 0)
        return;
    if (dst_type == src_type) {
        memcpy(dst, src, (size_t)count * dtype_size(src_type));
        return;
    }
    for (int64_t i = 0; i < count; i++)
        number_set(dst, dst_type, i, number_get(src, src_type, i));
}

void ref_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type)
{
    (void)be;
    convert(dst->data, dst->dtype, src, src_type, tensor_count(dst));
}

void ref_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src)
{
    (void)be;
    convert(dst, dst_type, src->data, src->dtype, tensor_count(src));
}

void ref_copy(struct backend *be, const struct tensor *dst, const struct tensor *src)
{
    (void)be;
    convert(dst->data, dst->dtype, src->data, src->dtype, tensor_count(src));
}

void ref_fill(struct backend *be, const struct tensor *t, double value)
{
    (void)be;
    int64_t count = tensor_count(t);
    for (int64_t i = 0; i < count; i++)
        number_set(t->data, t->dtype, i, value);
}

static void ref_close(struct backend *be)
{
    (void)be; /* no private state */
}

static enum status ref_set_precision(struct backend *be, enum precision precision,
                                     struct error *err)
{
    (void)be, (void)precision, (void)err; /* ref_gemm rounds as be->precision says */
    return STATUS_OK;
}

enum status ref_open(struct backend *be, struct error *err)
{
    static const struct ops table = {.name = "ref",
                                     .real = DTYPE_F64,
                                     .chunk_numbers = CHUNK_NUMBERS,
                                     .ffn_rows = FFN_ROWS,
                                     .graph_break = graph_break_none,
                                     .alloc = ref_alloc,
                                     .release = ref_release,
                                     .close = ref_close,
                                     .set_precision = ref_set_precision,
#define OP(name, ...) .name = ref_##name,
                                     OP_LIST(OP)
#undef OP
    };
    TRY(backend_init(be, &table, NULL, 1, err));
    be->batch_invariant = true;
    return STATUS_OK;
}
