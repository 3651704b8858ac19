/* Byte planes, the choice of their coding, and zlib streams with memory from mem_alloc. */
#include "store/plane_codec.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>
#include <zlib.h>

enum { DEFAULT_MEMORY = 8 }; /* zlib's memLevel */

/* --- planes ----------------------------------------------------------------------------------- */

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

void planes_split(void *to, const void *from, size_t count, size_t size)
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

void planes_join(void *to, const void *from, size_t count, size_t size)
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

enum plane_kind plane_kind_of(const uint8_t *plane, size_t n)
{
    enum { SAMPLE = 4096 };
    if (n < SAMPLE)
        return PLANE_RUNS;
    uint32_t count[256] = {0}, same = 0;
    size_t stride = n / SAMPLE;
    for (size_t i = 0; i < SAMPLE; i++) {
        size_t at = i * stride;
        count[plane[at]]++;
        same += at > 0 && plane[at] == plane[at - 1];
    }
    /* The sum of squared frequencies is 1/256 for uniform bytes, which this sample shows to 1 %
     * (two standard deviations). Deflating noise would cost a thousand times this count and gain a
     * percent at best. */
    double squares = 0.0;
    for (int i = 0; i < 256; i++)
        squares += (double)count[i] * (double)count[i];
    if ((squares - SAMPLE) * 256.0 < 1.08 * (double)SAMPLE * SAMPLE)
        return PLANE_NOISE;
    /* In a plane of exponents a third or a half of the bytes equal the one before by chance. Nearly
     * all do where there are runs, such as the zeros of moments that are not used yet. */
    return same > SAMPLE / 8 * 7 ? PLANE_RUNS : PLANE_BYTES;
}

/* --- zlib ------------------------------------------------------------------------------------- */

static voidpf zip_alloc(voidpf context, uInt items, uInt size)
{
    (void)context;
    struct error err; /* zlib learns only that it failed */
    void *p = NULL;
    return mem_alloc(&p, items, size, &err) == STATUS_OK ? p : Z_NULL;
}

static void zip_free(voidpf context, voidpf p)
{
    (void)context;
    mem_free(p);
}

static enum status opened(int result, struct error *err)
{
    if (result == Z_OK)
        return STATUS_OK;
    if (result == Z_MEM_ERROR)
        return error_set(err, STATUS_NOMEM, "out of memory: zlib got none for its state");
    return error_set(err, STATUS_INTERNAL,
                     "zlib does not start (error %d): want the version deq was built with", result);
}

enum status plane_deflate_open(struct z_stream_s *zip, struct error *err)
{
    zip->zalloc = zip_alloc;
    zip->zfree = zip_free;
    return opened(deflateInit2(zip, 1, Z_DEFLATED, MAX_WBITS, DEFAULT_MEMORY, Z_RLE), err);
}

void plane_deflate_restart(struct z_stream_s *zip, enum plane_kind kind)
{
    deflateReset(zip);
    /* This cannot fail, since the stream is empty. */
    deflateParams(zip, 1, kind == PLANE_RUNS ? Z_RLE : Z_HUFFMAN_ONLY);
}

enum status plane_inflate_open(struct z_stream_s *zip, struct error *err)
{
    zip->zalloc = zip_alloc;
    zip->zfree = zip_free;
    return opened(inflateInit(zip), err);
}
