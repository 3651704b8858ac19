/* The layout of a checkpoint file, shared by its writer and reader only.
 *
 *   header | content of section 0 | content of section 1 | ... | directory
 *
 * There are no gaps. Numbers are in the byte order of the writing machine, which `order` records,
 * and a reader of the other order refuses the file.
 *
 * The content of a section is stored as it is (ENCODING_PLAIN) or coded in chunks (ENCODING_PLANES)
 * of CHUNK_ELEMENTS elements, of which the last may be shorter. A chunk is split into byte planes,
 * the first bytes of all its elements, then the second bytes, and so on. Each plane is a block, a
 * uint32 and then as many bytes as its low 31 bits say. If the top bit BLOCK_DEFLATED is set, these
 * bytes are a zlib stream, which must be shorter than the plane. Otherwise they are the plane
 * itself. Planes are compressed one by one because exponent bytes compress well and low mantissa
 * bytes not at all.
 *
 * All checksums are XXH3 of 64 bits. One is of the header up to its checksum, one of the directory,
 * and one, in the directory, of each section's stored bytes. Every byte of a file is under one.
 */
#ifndef DEQ_STORE_CHECKPOINT_FORMAT_H
#define DEQ_STORE_CHECKPOINT_FORMAT_H

#include "store/checkpoint.h"

#include <assert.h>
#include <stdbool.h>

/* The magic is made as PNG's is, of a byte that no text has, the name, and line ends that a
 * transfer in text mode would change. */
#define CHECKPOINT_MAGIC \
    "\x89"               \
    "DEQ\r\n\x1a\n"

#define BLOCK_DEFLATED 0x80000000u

enum {
    CHECKPOINT_VERSION = 1,
    CHECKPOINT_ORDER = 0x01020304,
    CHECKPOINT_ORDER_OTHER = 0x04030201,
    CHUNK_ELEMENTS = 65536,
    ELEMENT_MAX = 8, /* bytes */
    CHUNK_MAX = CHUNK_ELEMENTS * ELEMENT_MAX,
    DEFLATE_MAX_RATIO = 1040 /* a deflate stream expands at most 1032 times */
};

enum checkpoint_encoding { ENCODING_PLANES, ENCODING_PLAIN };

struct checkpoint_header {
    uint8_t magic[8];
    uint32_t version, order;
    uint64_t file_size;
    uint64_t directory_offset, directory_size;
    uint64_t count; /* of sections */
    uint64_t directory_sum;
    uint64_t header_sum; /* of the bytes before it */
};

struct checkpoint_entry {
    char name[CHECKPOINT_NAME_MAX]; /* zeros after its end */
    int64_t dim[CHECKPOINT_MAX_DIMS];
    uint64_t offset, stored, size;
    uint64_t sum;
    uint16_t type, encoding;
    uint32_t ndim;
};

static_assert(sizeof(struct checkpoint_header) == 64, "the header has no padding");
static_assert(sizeof(struct checkpoint_entry) == 200, "a directory entry has no padding");

/* Whether name[CHECKPOINT_NAME_MAX] can be a section's name. It must not be empty, must end with a
 * NUL, be zero after it and, since messages print it, hold no control characters. */
bool checkpoint_name_ok(const char *name);
/* The number of elements, or -1 if the dims are negative, too many or need more bytes than an
 * int64_t can count. */
int64_t checkpoint_elements(enum checkpoint_type type, int64_t ndim, const int64_t *dims);

#endif
