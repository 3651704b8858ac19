/* What the two halves of the checkpoint reader share: directory (checkpoint_read.c) and content
 * (checkpoint_decode.c). */
#ifndef DEQ_STORE_CHECKPOINT_IMPL_H
#define DEQ_STORE_CHECKPOINT_IMPL_H

#include "store/checkpoint.h"

#include <stdbool.h>

struct stored_section {
    struct checkpoint_section shown; /* first: a pointer to it is one to this */
    uint64_t offset, sum;
    bool plain; /* stored as it is */
};

struct checkpoint {
    char *path; /* owns */
    int fd;
    int64_t bytes; /* of the file */
    int64_t count;
    struct stored_section *list;              /* owns: [count], in file order */
    const struct checkpoint_section **sorted; /* owns: [count], by name */
    struct decoder *decoder;                  /* owns */
};

/* Scratch of decoding: buffers and a zlib stream. Freed with checkpoint_decoder_close. */
enum status checkpoint_decoder_open(struct decoder **out, struct error *err);
void checkpoint_decoder_close(struct decoder *d); /* NULL is allowed */

#endif
