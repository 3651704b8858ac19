/* Sums and shares over processes, one with a device each, by NCCL.
 *
 * They run on a stream of their own, behind what the backend's stream has been given before `begin`
 * and beside what it is given later. The host waits for their end and watches for errors of another
 * machine or of the network, which NCCL tells only when asked. The backend's stream never waits for
 * another process, so the host stays in control whatever happens to one of them. */
#include "collectives.h"
#include "queue.h"

extern "C" {
#include "cuda/nccl_load.h"
}

#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static_assert(sizeof(ncclUniqueId) == COLLECTIVES_INVITATION);

/* Nanoseconds between two looks at what is under way. */
static const long PATIENCE = 20000;

struct group {
    ncclComm_t comm; /* owns, NULL once left or given up after an error */
    int rank, size;
    cudaStream_t stream; /* owns */
    cudaEvent_t ready;   /* owns, recorded when the backend's stream has come to `begin` */
    cudaEvent_t done;    /* owns, recorded when our stream has come to `wait` */
    bool active;         /* between the two */
};

/* --- joining ---------------------------------------------------------------------------------- */

static bool available(char *text, size_t size)
{
    char tried[600];
    int version = 0;
    if (!nccl_load(tried, sizeof tried)) {
        snprintf(text, size, "no NCCL: install libnccl2, or name its folder in LD_LIBRARY_PATH; %s",
                 tried);
        return false;
    }
    /* Sums made by switches (NVLS) differ from call to call, says NVIDIA (nccl issue 1497 on
     * GitHub). They are left out unless the user wants them. NCCL reads this later. */
    setenv("NCCL_NVLS_ENABLE", "0", 0);
    if (ncclGetVersion(&version) != ncclSuccess) {
        snprintf(text, size, "no NCCL: the libnccl.so.2 here does not tell its version");
        return false;
    }
    snprintf(text, size, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return true;
}

/* What NCCL says of an error, in general (with its own hint at NCCL_DEBUG) and of this one. */
struct words {
    char text[240];
};

static struct words words_of(ncclResult_t result, ncclComm_t comm)
{
    struct words w;
    const char *last = ncclGetLastError(comm);
    snprintf(w.text, sizeof w.text, "%.110s%s%.120s", ncclGetErrorString(result),
             last[0] != '\0' ? ": " : "", last);
    return w;
}

static enum status invite(unsigned char invitation[COLLECTIVES_INVITATION], struct error *err)
{
    ncclUniqueId id;
    ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess)
        return error_set(err, STATUS_DEVICE, "NCCL cannot start: %s", words_of(result, NULL).text);
    memcpy(invitation, &id, sizeof id);
    return STATUS_OK;
}

static void close_group(struct group *g)
{
    if (g->comm != NULL && g->active)
        ncclCommAbort(g->comm);
    else if (g->comm != NULL)
        ncclCommDestroy(g->comm);
    if (g->ready != NULL)
        cudaEventDestroy(g->ready);
    if (g->done != NULL)
        cudaEventDestroy(g->done);
    if (g->stream != NULL)
        cudaStreamDestroy(g->stream);
    delete g;
}

static enum status open_group(struct group *g, const unsigned char *invitation, struct error *err)
{
    ncclUniqueId id;
    memcpy(&id, invitation, sizeof id);
    if (cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking) != cudaSuccess ||
        cudaEventCreateWithFlags(&g->ready, cudaEventDisableTiming) != cudaSuccess ||
        cudaEventCreateWithFlags(&g->done, cudaEventDisableTiming) != cudaSuccess)
        return error_set(err, STATUS_DEVICE, "cannot make a CUDA stream for NCCL");
    ncclResult_t result = ncclCommInitRank(&g->comm, g->size, id, g->rank);
    cudaGetLastError(); /* what NCCL has tried in vain would be found by the next launch */
    if (result == ncclSuccess)
        return STATUS_OK;
    g->comm = NULL;
    return error_set(err, STATUS_DEVICE, "NCCL cannot connect %d processes: %s", g->size,
                     words_of(result, NULL).text);
}

static void leave(struct backend *be)
{
    struct cuda *cuda = cuda_of(be);
    if (cuda->group != NULL)
        close_group(cuda->group);
    cuda->group = NULL;
}

static enum status join(struct backend *be, const unsigned char invitation[COLLECTIVES_INVITATION],
                        int rank, int size, struct error *err)
{
    struct group *g = cuda_of(be)->group = new (std::nothrow) struct group();
    if (g == NULL)
        return error_set(err, STATUS_NOMEM, "no memory for the state of NCCL");
    g->rank = rank;
    g->size = size;
    enum status status = open_group(g, invitation, err);
    if (status == STATUS_OK)
        status = cuda_ask_memory(be, err);
    if (status != STATUS_OK)
        leave(be);
    return status;
}

/* --- sums ------------------------------------------------------------------------------------- */

/* Latches a fault of NCCL and gives up what is under way, so that the device does not wait for
 * processes that no longer do the same. */
static void note(struct backend *be, enum op_id id, ncclResult_t result)
{
    char text[256];
    struct group *g = cuda_of(be)->group;
    if (result == ncclSuccess || result == ncclInProgress)
        return;
    snprintf(text, sizeof text, "NCCL (checkpoints written before are good): %.200s",
             words_of(result, g->comm).text);
    backend_fault(be, id, text);
    if (g->comm != NULL)
        ncclCommAbort(g->comm);
    g->comm = NULL;
}

/* Whether calls still have a meaning. */
static bool works(struct backend *be)
{
    return be->fault[0] == '\0' && cuda_of(be)->group->comm != NULL;
}

static void begin(struct backend *be)
{
    struct cuda *cuda = cuda_of(be);
    struct group *g = cuda->group;
    queue_run(be);
    cuda_note(be, OP_copy, cudaEventRecord(g->ready, cuda->stream));
    cuda_note(be, OP_copy, cudaStreamWaitEvent(g->stream, g->ready, 0));
    g->active = true;
}

/* ReduceScatter and AllGather want parts of one size. */
static bool are_alike(const struct tensor *parts, int count)
{
    for (int i = 1; i < count; i++)
        if (parts[i].dim[0] != parts[0].dim[0])
            return false;
    return true;
}

static size_t length(const struct tensor *part)
{
    assert(part->dtype == DTYPE_F32 && part->ndim == 1);
    return (size_t)part->dim[0];
}

static ncclResult_t sum_alike(const struct group *g, const struct tensor *parts)
{
    return ncclReduceScatter(parts[0].data, parts[g->rank].data, length(parts), ncclFloat32,
                             ncclSum, g->comm, g->stream);
}

static ncclResult_t share_alike(const struct group *g, const struct tensor *parts)
{
    return ncclAllGather(parts[g->rank].data, parts[0].data, length(parts), ncclFloat32, g->comm,
                         g->stream);
}

static ncclResult_t sum_part(const struct group *g, const struct tensor *part, int root)
{
    return ncclReduce(part->data, g->rank == root ? part->data : NULL, length(part), ncclFloat32,
                      ncclSum, root, g->comm, g->stream);
}

static ncclResult_t share_part(const struct group *g, const struct tensor *part, int root)
{
    return ncclBroadcast(part->data, part->data, length(part), ncclFloat32, root, g->comm,
                         g->stream);
}

/* As one call where the parts are alike, else as a group of one call a part. */
static void start(struct backend *be, const struct tensor *parts,
                  ncclResult_t (*alike)(const struct group *, const struct tensor *),
                  ncclResult_t (*one)(const struct group *, const struct tensor *, int))
{
    struct group *g = cuda_of(be)->group;
    if (!works(be))
        return;
    if (are_alike(parts, g->size)) {
        note(be, OP_copy, alike(g, parts));
        return;
    }
    ncclResult_t result = ncclGroupStart();
    for (int r = 0; r < g->size && result == ncclSuccess; r++)
        if (length(&parts[r]) > 0)
            result = one(g, &parts[r], r);
    ncclResult_t end = ncclGroupEnd();
    note(be, OP_copy, result != ncclSuccess ? result : end);
}

static void sum(struct backend *be, const struct tensor *parts)
{
    start(be, parts, sum_alike, sum_part);
}

static void share(struct backend *be, const struct tensor *parts)
{
    start(be, parts, share_alike, share_part);
}

static void wait(struct backend *be)
{
    struct group *g = cuda_of(be)->group;
    const struct timespec pause = {0, PATIENCE};
    ncclResult_t result = ncclSuccess;
    if (works(be))
        cuda_note(be, OP_copy, cudaEventRecord(g->done, g->stream));
    for (bool done = false; works(be) && !done;) {
        cudaError_t error = cudaEventQuery(g->done);
        done = error != cudaErrorNotReady;
        if (done) {
            cuda_note(be, OP_copy, error);
        } else {
            cudaGetLastError(); /* "not ready" would be found by the next launch */
            nanosleep(&pause, NULL);
        }
        note(be, OP_copy, ncclCommGetAsyncError(g->comm, &result));
        note(be, OP_copy, result);
    }
    if (works(be))
        g->active = false; /* else `leave` gives up what is under way */
}

const struct collectives cuda_collectives = {available, invite, join,  leave,
                                             begin,     sum,    share, wait};
