#include "store/plane_codec.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* Both directions are inlined with a constant size, so that the inner loop is unrolled and each
 * element is read or written as a whole. */
static inline void split(uint8_t *restrict to, const uint8_t *restrict from, size_t count,
                         size_t size)
{
    for (size_t i = 0; i < count; i++)
        for (size_t p = 0; p < size; p++)
            to[p * count + i] = from[i * size + p];
}

static inline void join(uint8_t *restrict to, const uint8_t *restrict from, size_t count,
                        size_t size)
{
    for (size_t i = 0; i < count; i++)
        for (size_t p = 0; p < size; p++)
            to[i * size + p] = from[p * count + i];
}

void shuffle_split(void *to, const void *from, size_t count, size_t size)
{
    assert(size >= 1 && size <= 8);
    if (size == 1)
        memcpy(to, from, count);
    else if (size == 4)
        split(to, from, count, 4);
    else if (size == 8)
        split(to, from, count, 8);
    else
        split(to, from, count, size);
}

void shuffle_join(void *to, const void *from, size_t count, size_t size)
{
    assert(size >= 1 && size <= 8);
    if (size == 1)
        memcpy(to, from, count);
    else if (size == 4)
        join(to, from, count, 4);
    else if (size == 8)
        join(to, from, count, 8);
    else
        join(to, from, count, size);
}
