/* Prints an epoch of the stream that trainings read, with inputs and targets of a sequence on a
 * line "SEGMENT: ID ... | ID ...".
 *
 *   batches DIR SPLIT BATCH LENGTH */
#include "data/stream.h"

#include <stdio.h>
#include <stdlib.h>

static enum status print_epoch(struct stream *s, struct error *err)
{
    struct batch batch;
    for (int64_t k = 0; k < stream_segments(s); k++) {
        TRY(stream_next(s, &batch, err));
        for (int64_t b = 0; b < batch.B; b++) {
            printf("%lld:", (long long)batch.segment);
            for (int64_t i = 0; i < batch.L; i++)
                printf(" %d", batch.input[b * batch.L + i]);
            printf(" |");
            for (int64_t i = 0; i < batch.L; i++)
                printf(" %d", batch.target[b * batch.L + i]);
            printf("\n");
        }
    }
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    struct error err;
    struct stream *s = NULL;
    if (argc != 5) {
        fprintf(stderr, "usage: batches DIR SPLIT BATCH LENGTH\n");
        return 64;
    }
    struct stream_config config = {
        .dir = argv[1], .split = argv[2], .batch = atoll(argv[3]), .length = atoll(argv[4])};
    enum status status = stream_open(&s, &config, &err);
    if (status == STATUS_OK)
        status = print_epoch(s, &err);
    stream_close(s);
    if (status != STATUS_OK)
        fprintf(stderr, "batches: %s\n", err.text);
    return status;
}
