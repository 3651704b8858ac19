/* The coding of a checkpoint's chunks, which splits numbers into byte planes and deflates each
 * plane that gains by it. */
#ifndef DEQ_STORE_PLANE_CODEC_H
#define DEQ_STORE_PLANE_CODEC_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct z_stream_s;

/* Splits `count` elements of `size` bytes (1..8) into planes, of which plane p holds byte p of all
 * elements, so that to[p * count + i] is byte p of element i. The buffers do not overlap and need
 * no alignment. */
void planes_split(void *to, const void *from, size_t count, size_t size);
/* The inverse of planes_split. */
void planes_join(void *to, const void *from, size_t count, size_t size);

/* What is worth doing with a plane. Noise is stored as it is. */
enum plane_kind { PLANE_NOISE, PLANE_BYTES, PLANE_RUNS };

/* Judges plane[n] by a sample of it. */
enum plane_kind plane_kind_of(const uint8_t *plane, size_t n);

/* Initialises a zeroed stream for compression or for decompression, with memory from mem_alloc. The
 * caller ends it with deflateEnd or inflateEnd. Returns STATUS_NOMEM, or STATUS_INTERNAL if the
 * zlib found has another version than the headers. */
enum status plane_deflate_open(struct z_stream_s *zip, struct error *err);
enum status plane_inflate_open(struct z_stream_s *zip, struct error *err);

/* Begins the next compressed stream of an open `zip`, for a plane of kind PLANE_BYTES or
 * PLANE_RUNS.
 *
 * What is compressed here are bytes of exponents, whose only structure is their frequencies and, in
 * parts, runs of one byte. For normally distributed numbers, Huffman coding of single bytes takes
 * half the time of zlib's level 1 and two thirds of the time of looking for runs, and leaves 0.34
 * of the size where level 1 leaves 0.44. */
void plane_deflate_restart(struct z_stream_s *zip, enum plane_kind kind);

#endif
