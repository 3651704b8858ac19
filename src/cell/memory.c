#include "cell/memory.h"

enum { SPARE_FACTOR = 2 }; /* with one stream, rows move once every `capacity` appends */

void memory_declare(struct memory *m, struct workspace *ws, int64_t batch, int64_t capacity,
                    int64_t width)
{
    *m = (struct memory){.batch = batch, .capacity = capacity, .width = width};
    if (capacity == 0)
        return;
    m->slots = batch == 1 ? SPARE_FACTOR * capacity : capacity;
    workspace_declare(ws, &m->now,
                      &(struct buffer){.name = "segment memory",
                                       .dtype = ws->be->ops->real,
                                       .ndim = 3,
                                       .dim = {batch, m->slots, width},
                                       .life = lives_always(),
                                       .part = PART_MEMORY});
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

/* With one stream, appends behind the rows held. When no slot is left, those kept move to the
 * front. keep + take is at most half the slots, so that the move never overlaps. */
static void push_single(struct memory *m, struct backend *be, const struct tensor *x, int64_t keep,
                        int64_t take)
{
    m->start += m->count - keep;
    if (m->start + keep + take > m->slots) {
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

void memory_spread(struct memory *to, struct backend *be, const struct memory *from)
{
    assert(from->batch == 1 && from->width == to->width && from->count <= to->capacity);
    to->start = 0;
    to->count = from->count;
    if (from->count == 0)
        return;
    struct tensor rows = memory_view(from), all = memory_view(to);
    struct tensor source = stream_rows(&rows, 0, 0, from->count);
    for (int64_t b = 0; b < to->batch; b++) {
        struct tensor dest = stream_rows(&all, b, 0, from->count);
        op_copy(be, &dest, &source);
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
