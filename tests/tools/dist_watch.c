/* Ranks under watch that are slow, hang, or close their group at different times, run by mpirun.
 *
 *   dist_watch SILENCE STALL BEFORE[/AFTER]...     seconds for each rank, -1 for ever
 *
 * Each rank works alone and then meets the others. After that it works alone again, as long if not
 * told otherwise, and closes. Rank 0 prints the transport. With DEQ_TEST_SERIALIZED set the MPI
 * library says that it is for one thread at a time. Exits with 69 if the watch ends the group. */
#include "dist/dist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* In place of the library's own. Levels are numbered so in Open MPI and in MPICH. */
int MPI_Query_thread(int *level);
int MPI_Query_thread(int *level)
{
    enum { SERIALIZED = 2, MULTIPLE = 3 };
    *level = getenv("DEQ_TEST_SERIALIZED") != NULL ? SERIALIZED : MULTIPLE;
    return 0;
}

static void end_all(void *ctx, struct dist *d, const char *text)
{
    (void)ctx;
    fprintf(stderr, "dist_watch: by process %d: %s\n", dist_rank(d), text);
    dist_abort(d, STATUS_DEVICE);
}

static void work(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    if (seconds < 0)
        pause();
    nanosleep(&t, NULL);
}

int main(int argc, char **argv)
{
    struct dist *d = NULL;
    struct error err;
    if (argc < 4)
        return STATUS_USAGE;
    enum status status = dist_open(&d, -1, &err);
    if (status == STATUS_OK)
        status = dist_watch(d, atof(argv[1]), atof(argv[2]), end_all, NULL, &err);
    if (status != STATUS_OK) {
        fprintf(stderr, "dist_watch: %s\n", err.text);
        dist_abort(d, status);
    }
    const char *own = argv[3 + dist_rank(d) % (argc - 3)], *slash = strchr(own, '/');
    work(atof(own));
    int64_t most = dist_max(d, dist_rank(d));
    work(atof(slash != NULL ? slash + 1 : own));
    if (dist_rank(d) == 0)
        printf("%s: ranks to %lld have met\n", dist_transport(d), (long long)most);
    dist_close(d);
    return 0;
}
