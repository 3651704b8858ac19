#include "store/deflate_memory.h"

#include "base/mem.h"

#include <zlib.h>

enum { DEFAULT_MEMORY = 8 }; /* zlib's memLevel */

static voidpf zip_alloc(voidpf context, uInt items, uInt size)
{
    (void)context;
    struct error err; /* zlib knows only that it failed */
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
    return error_set(err, STATUS_INTERNAL, "zlib does not start (%d): its version is not ours",
                     result);
}

enum status deflate_memory_open(struct z_stream_s *zip, struct error *err)
{
    zip->zalloc = zip_alloc;
    zip->zfree = zip_free;
    return opened(deflateInit2(zip, 1, Z_DEFLATED, MAX_WBITS, DEFAULT_MEMORY, Z_RLE), err);
}

void deflate_memory_restart(struct z_stream_s *zip, bool runs)
{
    deflateReset(zip);
    deflateParams(zip, 1, runs ? Z_RLE : Z_HUFFMAN_ONLY); /* of an empty stream: cannot fail */
}

enum status inflate_memory_open(struct z_stream_s *zip, struct error *err)
{
    zip->zalloc = zip_alloc;
    zip->zfree = zip_free;
    return opened(inflateInit(zip), err);
}
