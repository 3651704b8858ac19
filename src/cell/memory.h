/* Segment memory keeps the last rows of each of B streams from one segment to the next
 * (Transformer-XL, Dai et al. 2019). It holds at most `capacity` rows a stream, oldest first, and
 * starts empty. */
#ifndef DEQ_CELL_MEMORY_H
#define DEQ_CELL_MEMORY_H

#include "backend/workspace.h"

struct memory {
    struct tensor now; /* [B,slots,W], in a workspace. With B = 1 there are more slots than the
                          capacity, so that rows can be appended in place. */
    int64_t batch, capacity, width;
    int64_t count; /* rows a stream holds now */
    int64_t start; /* with B = 1, first row in `now` */
    int64_t slots; /* rows that fit into `now` */
};

/* Declares the rows, W = width. */
void memory_declare(struct memory *m, struct workspace *ws, int64_t batch, int64_t capacity,
                    int64_t width);
void memory_reset(struct memory *m);

/* The rows held, [B,count,W], without data while there are none. Valid until the next push. */
struct tensor memory_view(const struct memory *m);

/* Restores a memory from B*count*W numbers, count <= capacity rows a stream. */
void memory_upload(struct memory *m, struct backend *be, const float *host, int64_t count);

/* Forgets the oldest rows beyond `count`, of one stream (B = 1) only. */
void memory_keep(struct memory *m, int64_t count);

/* Makes every stream of `to` remember the rows of `from`, a memory of one stream with the same
 * width and no more rows than `to` can hold. */
void memory_spread(struct memory *to, struct backend *be, const struct memory *from);

/* Appends x [B,L,W], L >= 1, dropping the oldest rows beyond the capacity. With B > 1, rows that
 * are kept pass through `scratch`, at least B*capacity*W numbers that overlap neither. */
void memory_push(struct memory *m, struct backend *be, const struct tensor *x,
                 const struct tensor *scratch);

#endif
