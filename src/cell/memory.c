#include "cell/memory.h"

enum { ROOM_FACTOR = 2 }; /* one stream: the rows are moved once every `capacity` appends */

enum status memory_create(struct memory *m, struct backend *be, int64_t batch, int64_t capacity,
                          int64_t width, struct error *err)
{
    enum dtype real = be->ops->real;
    *m = (struct memory){.batch = batch, .capacity = capacity, .width = width};
    if (capacity == 0)
        return STATUS_OK;
    m->room = batch == 1 ? ROOM_FACTOR * capacity : capacity;
    enum memory_part before = op_part(be, PART_MEMORY);
    TRY(op_alloc(be, &m->now, real, 3, batch, m->room, width, 1, err));
    op_part(be, before);
    return STATUS_OK;
}

void memory_free(struct memory *m, struct backend *be)
{
    op_release(be, &m->now);
    *m = (struct memory){0};
}

void memory_reset(struct memory *m)
{
    m->count = 0;
    m->start = 0;
}

/* Rows [first, first + count) of stream b in t [B,T,W], as a matrix. */
static struct tensor stream_rows(const struct tensor *t, int64_t b, int64_t first, int64_t count)
{
    struct tensor rows = tensor_matrix(t);
    return tensor_slice(&rows, b * t->dim[1] + first, count);
}

void memory_keep(struct memory *m, int64_t count)
{
    assert(m->batch == 1 && count >= 0);
    if (m->count <= count)
        return;
    m->start += m->count - count;
    m->count = count;
}

struct tensor memory_view(const struct memory *m)
{
    if (m->count == 0)
        return (struct tensor){0};
    if (m->batch == 1) {
        struct tensor rows = stream_rows(&m->now, 0, m->start, m->count);
        return tensor_shape(&rows, 3, 1, m->count, m->width, 1);
    }
    return tensor_prefix(&m->now, 3, m->batch, m->count, m->width, 1);
}

/* One stream: append behind the rows held; when the room is used up, move those kept to the front.
 * keep + take is at most half the room, so the move never overlaps. */
static void push_single(struct memory *m, struct backend *be, const struct tensor *x, int64_t keep,
                        int64_t take)
{
    m->start += m->count - keep;
    if (m->start + keep + take > m->room) {
        if (keep > 0) {
            struct tensor from = stream_rows(&m->now, 0, m->start, keep);
            struct tensor to = stream_rows(&m->now, 0, 0, keep);
            op_copy(be, &to, &from);
        }
        m->start = 0;
    }
    struct tensor from = stream_rows(x, 0, x->dim[1] - take, take);
    struct tensor to = stream_rows(&m->now, 0, m->start + keep, take);
    op_copy(be, &to, &from);
    m->count = keep + take;
}

void memory_push(struct memory *m, struct backend *be, const struct tensor *x,
                 const struct tensor *scratch)
{
    int64_t length = x->dim[1];
    assert(x->dim[0] == m->batch && x->dim[2] == m->width);
    if (m->capacity == 0)
        return;
    int64_t take = length < m->capacity ? length : m->capacity;
    int64_t keep = m->count + take <= m->capacity ? m->count : m->capacity - take;
    if (m->batch == 1) {
        push_single(m, be, x, keep, take);
        return;
    }
    struct tensor old = memory_view(m), kept = {0};
    if (keep > 0)
        kept = tensor_prefix(scratch, 3, m->batch, keep, m->width, 1);
    for (int64_t b = 0; b < m->batch && keep > 0; b++) {
        struct tensor from = stream_rows(&old, b, m->count - keep, keep);
        struct tensor to = stream_rows(&kept, b, 0, keep);
        op_copy(be, &to, &from);
    }
    m->count = keep + take;
    struct tensor now = memory_view(m);
    if (keep == 0 && take == length) {
        op_copy(be, &now, x);
        return;
    }
    for (int64_t b = 0; b < m->batch; b++) {
        struct tensor from = stream_rows(x, b, length - take, take);
        struct tensor to = stream_rows(&now, b, keep, take);
        op_copy(be, &to, &from);
        if (keep == 0)
            continue;
        from = stream_rows(&kept, b, 0, keep);
        to = stream_rows(&now, b, 0, keep);
        op_copy(be, &to, &from);
    }
}

void memory_upload(struct memory *m, struct backend *be, const float *host, int64_t count)
{
    assert(count <= m->capacity);
    m->start = 0;
    m->count = count;
    struct tensor rows = memory_view(m);
    if (rows.data != NULL)
        op_upload(be, &rows, host, DTYPE_F32);
}
