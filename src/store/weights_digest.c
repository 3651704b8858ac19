#include "store/checkpoint.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdio.h>
#include <string.h>

static enum status add_piece(void *context, const void *data, size_t size, size_t offset,
                             struct error *err)
{
    (void)offset;
    (void)err;
    XXH3_64bits_update(context, data, size);
    return STATUS_OK;
}

/* Each parameter has a hash, of its name with the NUL, then its values; their sum does not depend
 * on the order of the parameters. */
enum status checkpoint_weights_digest(struct checkpoint *c, char out[WEIGHTS_DIGEST_TEXT],
                                      struct error *err)
{
    uint64_t both[2] = {0}; /* the sum, and of how many */
    XXH3_state_t state;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const char *section = checkpoint_section(c, i)->name, *name = section + 2;
        if (strncmp(section, "w:", 2) != 0)
            continue;
        XXH3_64bits_reset(&state);
        XXH3_64bits_update(&state, name, strlen(name) + 1);
        TRY(checkpoint_read_pieces(c, section, add_piece, &state, err));
        both[0] += XXH3_64bits_digest(&state);
        both[1]++;
    }
    if (both[1] == 0)
        return error_set(err, STATUS_DATA, "%s: holds no weights (no section \"w:...\")",
                         checkpoint_path(c));
    snprintf(out, WEIGHTS_DIGEST_TEXT, "%016llx",
             (unsigned long long)XXH3_64bits(both, sizeof both));
    return STATUS_OK;
}
