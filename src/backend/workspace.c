/* Places for the buffers of a model in one allocation. */
#include "backend/workspace.h"

#include "base/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POISON = 0xFF };

const char *phase_text(enum phase phase)
{
    static const char *const texts[PHASE_COUNT] = {"embed",     "begin",    "forward solve",
                                                   "output",    "loss",     "backward solve",
                                                   "gradients", "remember", "update"};
    return phase < 0 ? "always" : phase < PHASE_COUNT ? texts[phase] : "unknown";
}

bool lifetimes_meet(const struct lifetime *a, const struct lifetime *b)
{
    return a->first <= b->last && b->first <= a->last && (a->paths & b->paths) != 0;
}

static bool lives_in(const struct lifetime *life, enum phase phase, unsigned paths)
{
    return life->first <= phase && phase <= life->last && (life->paths & paths) != 0;
}

/* --- places ----------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + WORKSPACE_ALIGN - 1) / WORKSPACE_ALIGN * WORKSPACE_ALIGN;
}

/* Larger ones first, and of equal ones those that were declared first. */
static int by_size(const void *a, const void *b, void *list)
{
    int i = *(const int *)a, j = *(const int *)b;
    size_t x = ((const struct placed_buffer *)list)[i].bytes;
    size_t y = ((const struct placed_buffer *)list)[j].bytes;
    return x != y ? (x < y) - (x > y) : i - j;
}

/* The lowest offset for `one` between the `count` buffers it meets, which `near` lists by rising
 * offset. */
static size_t lowest_gap(const struct placed_buffer *list, const int *near, int count,
                         const struct placed_buffer *one)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        const struct placed_buffer *b = &list[near[i]];
        if (at + one->bytes <= b->offset)
            break;
        size_t end = aligned(b->offset + b->bytes);
        at = end > at ? end : at;
    }
    return at;
}

size_t workspace_place(struct placed_buffer *list, int *order, int *near, int count)
{
    size_t end = 0;
    for (int i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, (size_t)count, sizeof *order, by_size, list);
    for (int i = 0; i < count; i++) {
        struct placed_buffer *one = &list[order[i]];
        int found = 0;
        for (int j = 0; j < i; j++) {
            const struct placed_buffer *b = &list[order[j]];
            int at = found;
            if (b->bytes == 0 || !lifetimes_meet(&b->life, &one->life))
                continue;
            for (; at > 0 && list[near[at - 1]].offset > b->offset; at--)
                near[at] = near[at - 1];
            near[at] = order[j];
            found++;
        }
        one->offset = one->bytes > 0 ? lowest_gap(list, near, found, one) : 0;
        if (one->offset + one->bytes > end)
            end = one->offset + one->bytes;
    }
    return end;
}

bool workspace_shares(const struct placed_buffer *a, const struct placed_buffer *b)
{
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* --- from declarations to memory -------------------------------------------------------------- */

enum status workspace_create(struct workspace **out, struct backend *be, struct error *err)
{
    TRY(mem_alloc((void **)out, 1, sizeof **out, err));
    (*out)->be = be;
    (*out)->phase = PHASE_UPDATE;
    return STATUS_OK;
}

void workspace_free(struct workspace *ws)
{
    if (ws == NULL)
        return;
    op_release(ws->be, &ws->memory);
    mem_free(ws->list);
    mem_free(ws);
}

static enum status grow(struct workspace *ws)
{
    struct error ignored;
    int grown = ws->capacity == 0 ? 64 : 2 * ws->capacity;
    TRY(mem_grow((void **)&ws->list, (size_t)ws->count, (size_t)grown, sizeof *ws->list, &ignored));
    ws->capacity = grown;
    return STATUS_OK;
}

void workspace_declare(struct workspace *ws, struct tensor *t, const struct buffer *b)
{
    struct tensor shape = tensor_make(NULL, b->dtype, b->ndim, 1, 1, 1, 1);
    assert(!ws->committed && b->life.paths != 0 && b->life.first <= b->life.last);
    for (int i = 0; i < b->ndim; i++)
        shape.dim[i] = b->dim[i];
    assert(tensor_count(&shape) >= 0);
    *t = shape;
    if (ws->count == ws->capacity && ws->failed == STATUS_OK)
        ws->failed = grow(ws);
    if (ws->failed != STATUS_OK)
        return;
    struct placed_buffer *to = &ws->list[ws->count++];
    *to = (struct placed_buffer){.shape = shape,
                                 .tensor = t,
                                 .life = b->life,
                                 .part = b->part,
                                 .bytes = tensor_bytes(&shape)};
    snprintf(to->name, sizeof to->name, "%s", b->name);
}

/* What the backend has booked as a whole, by part. */
static void book_parts(const struct workspace *ws, enum memory_part as)
{
    size_t bytes[PART_COUNT] = {0}, peak = workspace_peak(ws, ~0u, bytes);
    ws->be->planned[as] -= peak;
    for (int i = 0; i < PART_COUNT; i++)
        ws->be->planned[i] += bytes[i];
}

enum status workspace_commit(struct workspace *ws, struct error *err)
{
    enum status status = ws->failed;
    int *scratch = NULL, count = ws->count;
    assert(!ws->committed);
    if (status != STATUS_OK)
        return error_set(err, status, "out of memory for a list of %d buffers", count);
    TRY(mem_alloc((void **)&scratch, (size_t)count * 2, sizeof *scratch, err));
    size_t bytes = workspace_place(ws->list, scratch, scratch + count, count);
    mem_free(scratch);
    enum memory_part before = op_part(ws->be, PART_WORK);
    status = op_alloc(ws->be, &ws->memory, DTYPE_U8, 1, (int64_t)bytes, 1, 1, 1, err);
    op_part(ws->be, before);
    TRY(status);
    for (int i = 0; i < count; i++) {
        struct placed_buffer *b = &ws->list[i];
        b->shape.data = b->tensor->data = (char *)ws->memory.data + b->offset;
    }
    ws->committed = true;
    book_parts(ws, PART_WORK);
    return STATUS_OK;
}

/* --- a step ----------------------------------------------------------------------------------- */

static void poison(struct workspace *ws, size_t from, size_t to)
{
    if (from >= to)
        return;
    struct tensor bytes = tensor_slice(&ws->memory, (int64_t)from, (int64_t)(to - from));
    op_fill(ws->be, &bytes, POISON);
}

void workspace_enter(struct workspace *ws, enum phase phase)
{
    bool entered = ws->phase != phase;
    ws->phase = phase;
    if (entered && ws->be->timeline != NULL)
        timeline_phase(ws->be->timeline, phase_text(phase));
    if (!entered || !ws->be->poison)
        return;
    for (size_t at = 0, bytes = workspace_bytes(ws); at < bytes;) {
        size_t next = bytes, end = at; /* of the next buffer to be left alone, and its end */
        for (int i = 0; i < ws->count; i++) {
            const struct placed_buffer *b = &ws->list[i];
            bool lived = b->life.first < phase && phase <= b->life.last;
            if (!lived || b->offset + b->bytes <= at)
                continue;
            size_t start = b->offset > at ? b->offset : at;
            if (start < next || (start == next && b->offset + b->bytes > end)) {
                next = start;
                end = b->offset + b->bytes;
            }
        }
        poison(ws, at, next);
        at = next < bytes ? end : bytes;
    }
}

/* --- figures ---------------------------------------------------------------------------------- */

size_t workspace_live(const struct workspace *ws, enum phase phase, unsigned path,
                      enum memory_part part)
{
    size_t sum = 0;
    for (int i = 0; i < ws->count; i++) {
        const struct placed_buffer *b = &ws->list[i];
        if (lives_in(&b->life, phase, path) && (part == PART_COUNT || part == b->part))
            sum += b->bytes;
    }
    return sum;
}

size_t workspace_peak(const struct workspace *ws, unsigned parts, size_t *bytes)
{
    size_t most = 0;
    for (int p = 0; p < PHASE_COUNT; p++)
        for (unsigned path = PATH_SOLVE; path <= PATH_LAYERS; path++) {
            size_t each[PART_COUNT], sum = 0;
            for (int i = 0; i < PART_COUNT; i++) {
                each[i] = workspace_live(ws, (enum phase)p, path, (enum memory_part)i);
                sum += parts & 1u << i ? each[i] : 0;
            }
            if (sum > most && bytes != NULL)
                memcpy(bytes, each, sizeof each);
            most = sum > most ? sum : most;
        }
    return most;
}

size_t workspace_bytes(const struct workspace *ws)
{
    return tensor_bytes(&ws->memory);
}
