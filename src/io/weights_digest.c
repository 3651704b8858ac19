#include "io/checkpoint.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdio.h>
#include <string.h>

/* The hash of one parameter: of its name with the NUL, then its values. */
static void begin(XXH3_state_t *state, const char *name)
{
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, name, strlen(name) + 1);
}

/* A sum does not depend on the order of the parameters. */
static void end(struct weights_digest *d, const XXH3_state_t *state)
{
    d->sum += XXH3_64bits_digest(state);
    d->count++;
}

void weights_digest_add(struct weights_digest *d, const char *name, const void *data, size_t size)
{
    XXH3_state_t state;
    begin(&state, name);
    XXH3_64bits_update(&state, data, size);
    end(d, &state);
}

void weights_digest_text(const struct weights_digest *d, char out[WEIGHTS_DIGEST_TEXT])
{
    const uint64_t both[2] = {d->sum, (uint64_t)d->count};
    snprintf(out, WEIGHTS_DIGEST_TEXT, "%016llx",
             (unsigned long long)XXH3_64bits(both, sizeof both));
}

static enum status add_piece(void *context, const void *data, size_t size, size_t offset,
                             struct error *err)
{
    (void)offset;
    (void)err;
    XXH3_64bits_update(context, data, size);
    return STATUS_OK;
}

enum status checkpoint_weights_digest(struct checkpoint *c, char out[WEIGHTS_DIGEST_TEXT],
                                      struct error *err)
{
    struct weights_digest d = {0};
    XXH3_state_t state;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const char *name = checkpoint_section(c, i)->name;
        if (strncmp(name, "w:", 2) != 0)
            continue;
        begin(&state, name + 2);
        TRY(checkpoint_read_pieces(c, name, add_piece, &state, err));
        end(&d, &state);
    }
    if (d.count == 0)
        return error_set(err, STATUS_DATA, "%s: holds no weights (no section \"w:...\")",
                         checkpoint_path(c));
    weights_digest_text(&d, out);
    return STATUS_OK;
}
