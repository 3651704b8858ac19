#include "cmd/group.h"

#include <stdio.h>
#include <stdlib.h>

/* How many processes a launcher started, as dist_open wants it. */
static int launched(void)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *text = getenv(sizes[i]);
        if (text != NULL && atoi(text) > 0)
            return atoi(text);
    }
    /* srun --mpi=pmix says who one is, not how many there are */
    return getenv("PMIX_RANK") != NULL ? -1 : 0;
}

enum status group_open(struct dist **out, struct error *err)
{
    struct error why;
    enum status status = dist_open(out, launched(), &why);
    if (status == STATUS_OK)
        return STATUS_OK;
    if (*out != NULL)
        return group_close(*out, "train", status, &why);
    *err = why;
    return status;
}

enum status group_close(struct dist *d, const char *command, enum status status, struct error *err)
{
    if (d == NULL)
        return status;
    bool failed = status != STATUS_OK && status != STATUS_STOPPED;
    if (failed && err->text[0] != '\0') {
        fprintf(stderr, "deq %s: process %d of %d: %s\n", command, dist_rank(d), dist_size(d),
                err->text);
        dist_abort(d, status);
    }
    bool first = dist_rank(d) == 0;
    dist_close(d);
    return first ? status : STATUS_OK;
}
