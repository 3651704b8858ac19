/* Copies a checkpoint with a NaN as the first number of one section, under right checksums.
 *
 *   poison FROM TO SECTION
 *
 * No program writes such a file any more, but older ones did. */
#include "base/mem.h"
#include "store/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static enum status copy_section(struct checkpoint *from, struct checkpoint_writer *to,
                                const struct checkpoint_section *s, const char *poisoned,
                                struct error *err)
{
    void *data = NULL;
    TRY(mem_alloc(&data, s->size, 1, err));
    enum status status = checkpoint_read_section(from, s->name, data, s->size, err);
    if (status == STATUS_OK && strcmp(s->name, poisoned) == 0)
        *(float *)data = NAN;
    const struct checkpoint_array array = {s->name, s->type, s->ndim, s->dim, data};
    if (status == STATUS_OK)
        status = checkpoint_write_section(to, &array, err);
    mem_free(data);
    return status;
}

static enum status copy(char **argv, struct error *err)
{
    struct checkpoint *from = NULL;
    struct checkpoint_writer *to = NULL;
    enum status status;
    TRY_OUT(checkpoint_open(&from, argv[1], err));
    TRY_OUT(checkpoint_write_open(&to, argv[2], err));
    for (int64_t i = 0; i < checkpoint_count(from); i++)
        TRY_OUT(copy_section(from, to, checkpoint_section(from, i), argv[3], err));
    TRY_OUT(checkpoint_write_close(&to, err));
out:
    checkpoint_write_abort(&to);
    checkpoint_close(from);
    return status;
}

int main(int argc, char **argv)
{
    struct error err;
    if (argc != 4) {
        fprintf(stderr, "usage: poison FROM TO SECTION\n");
        return 64;
    }
    enum status status = copy(argv, &err);
    if (status != STATUS_OK)
        fprintf(stderr, "poison: %s\n", err.text);
    return (int)status;
}
