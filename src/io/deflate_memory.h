/* zlib streams whose memory comes from mem_alloc, like all other. */
#ifndef DEQ_IO_DEFLATE_MEMORY_H
#define DEQ_IO_DEFLATE_MEMORY_H

#include "base/status.h"

struct z_stream_s;

/* Initialises a zeroed stream for compression at level 1, or for decompression. STATUS_NOMEM. The
 * caller ends it with deflateEnd or inflateEnd. */
enum status deflate_memory_open(struct z_stream_s *zip, struct error *err);
enum status inflate_memory_open(struct z_stream_s *zip, struct error *err);

#endif
