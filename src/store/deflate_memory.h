/* zlib streams whose memory comes from mem_alloc, like all other. */
#ifndef DEQ_STORE_DEFLATE_MEMORY_H
#define DEQ_STORE_DEFLATE_MEMORY_H

#include "base/status.h"

#include <stdbool.h>

struct z_stream_s;

/* Initialises a zeroed stream for compression, or for decompression. STATUS_NOMEM. The caller ends
 * it with deflateEnd or inflateEnd. */
enum status deflate_memory_open(struct z_stream_s *zip, struct error *err);
enum status inflate_memory_open(struct z_stream_s *zip, struct error *err);

/* Begins the next compressed stream, of bytes coded one by one or, with `runs`, of them and runs of
 * one. What is compressed here, bytes of exponents, has no other structure: of normally distributed
 * numbers single bytes take half the time of zlib's level 1 and gain more (0.34 against 0.44 of the
 * size), and two thirds of the time of looking for runs. */
void deflate_memory_restart(struct z_stream_s *zip, bool runs);

#endif
