/* Byte planes: the first bytes of all elements, then the second bytes, and so on. */
#ifndef DEQ_STORE_PLANE_CODEC_H
#define DEQ_STORE_PLANE_CODEC_H

#include <stddef.h>

/* Splits `count` elements of `size` bytes (1..8) into planes: to[p * count + i] is byte p of
 * element i. The buffers do not overlap and need no alignment. */
void shuffle_split(void *to, const void *from, size_t count, size_t size);
/* The inverse. */
void shuffle_join(void *to, const void *from, size_t count, size_t size);

#endif
