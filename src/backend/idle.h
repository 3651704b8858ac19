/* Memory that stands idle at certain times of a step, and is lent to what is needed only then.
 *
 * Each piece has two ends: what a backward solve leaves alone may serve through it, and is taken
 * from the back; what is needed only while no solve runs may lie anywhere, and is taken from the
 * front. Nothing is given back: what was taken is never taken twice. */
#ifndef DEQ_BACKEND_IDLE_H
#define DEQ_BACKEND_IDLE_H

#include "backend/tensor.h"

#include <stdbool.h>

enum { IDLE_PIECES = 8, IDLE_ALIGN = 64 };

struct idle_piece {
    char *data; /* borrows */
    size_t bytes;
    size_t busy; /* of them, from the front: in use during a backward solve */
};

struct idle {
    struct idle_piece piece[IDLE_PIECES];
    int count;
};

/* Adds a tensor of which the first `busy` numbers are in use during a backward solve. */
static inline void idle_add(struct idle *from, const struct tensor *t, int64_t busy)
{
    assert(from->count < IDLE_PIECES && busy <= tensor_count(t));
    if (t->data != NULL)
        from->piece[from->count++] =
            (struct idle_piece){t->data, tensor_bytes(t), (size_t)busy * dtype_size(t->dtype)};
}

/* *t <- room in idle memory for a tensor like *t; `solving`: that lasts through a backward solve.
 * False, and nothing has changed, if there is none. from may be NULL. */
static inline bool idle_take(struct idle *from, struct tensor *t, bool solving)
{
    size_t bytes = (tensor_bytes(t) + IDLE_ALIGN - 1) / IDLE_ALIGN * IDLE_ALIGN;
    for (int i = 0; from != NULL && i < from->count; i++) {
        struct idle_piece *p = &from->piece[i];
        size_t start = solving ? (p->bytes - tensor_bytes(t)) / IDLE_ALIGN * IDLE_ALIGN : 0;
        if (tensor_bytes(t) > p->bytes || (solving && start < p->busy))
            continue;
        t->data = p->data + start;
        if (solving) {
            p->bytes = start;
        } else {
            size_t taken = bytes < p->bytes ? bytes : p->bytes;
            p->data += taken;
            p->bytes -= taken;
            p->busy -= taken < p->busy ? taken : p->busy;
        }
        return true;
    }
    return false;
}

/* The largest piece while no solve runs, as numbers of a type; data NULL: there is none. */
static inline struct tensor idle_largest(const struct idle *from, enum dtype dtype)
{
    const struct idle_piece *best = NULL;
    for (int i = 0; i < from->count; i++)
        if (best == NULL || from->piece[i].bytes > best->bytes)
            best = &from->piece[i];
    if (best == NULL)
        return (struct tensor){0};
    return tensor_make(best->data, dtype, 1, (int64_t)(best->bytes / dtype_size(dtype)), 1, 1, 1);
}

#endif
