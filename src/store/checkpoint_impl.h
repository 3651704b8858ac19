/* What the two halves of the checkpoint reader share. checkpoint_read.c reads the directory,
 * checkpoint_decode.c the content. */
#ifndef DEQ_STORE_CHECKPOINT_IMPL_H
#define DEQ_STORE_CHECKPOINT_IMPL_H

#include "store/checkpoint.h"

#include <stdbool.h>

struct stored_section {
    struct checkpoint_section shown; /* must be first, as decode casts a pointer to it back */
    uint64_t offset, sum;
    bool plain; /* stored as it is */
};

struct checkpoint {
    char *path; /* owns */
    int fd;
    int64_t bytes; /* of the file */
    int64_t count;
    struct stored_section *list;              /* owns [count], in file order */
    const struct checkpoint_section **sorted; /* owns [count], by name */
    struct decoder *decoder;                  /* owns */
};

/* Allocates the scratch of decoding. The caller frees it with checkpoint_decoder_close. Returns
 * STATUS_NOMEM, or STATUS_INTERNAL if zlib does not start. */
enum status checkpoint_decoder_open(struct decoder **out, struct error *err);
void checkpoint_decoder_close(struct decoder *d); /* NULL is allowed */

#endif
