/* The functions of NCCL that the backend calls. They are passed on to a library that is loaded when
 * several processes train on devices, since most machines have none and need none. */
#include "cuda/nccl_load.h"

#include "base/library.h"

static const char *const libraries[] = {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2",
                                        "/usr/local/cuda/lib/libnccl.so.2", NULL};

bool nccl_load(char *tried, size_t size)
{
    return library_open(libraries, tried, size) != NULL;
}

#define FORWARD(type, name, parameters, arguments, otherwise) \
    LIBRARY_FORWARD(libraries, type, name, parameters, arguments, otherwise)
#define FORWARD_CALL(name, parameters, arguments) \
    FORWARD(ncclResult_t, name, parameters, arguments, ncclSystemError)

FORWARD_CALL(ncclGetVersion, (int *version), (version))
FORWARD_CALL(ncclGetUniqueId, (ncclUniqueId * id), (id))
FORWARD_CALL(ncclCommInitRank, (ncclComm_t * comm, int ranks, ncclUniqueId id, int rank),
             (comm, ranks, id, rank))
FORWARD_CALL(ncclCommDestroy, (ncclComm_t comm), (comm))
FORWARD_CALL(ncclCommAbort, (ncclComm_t comm), (comm))
FORWARD_CALL(ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t *error), (comm, error))
FORWARD(const char *, ncclGetErrorString, (ncclResult_t result), (result), "it lacks a function")
FORWARD(const char *, ncclGetLastError, (ncclComm_t comm), (comm), "") /* since 2.13 */
FORWARD_CALL(ncclGroupStart, (void), ())
FORWARD_CALL(ncclGroupEnd, (void), ())
FORWARD_CALL(ncclReduceScatter,
             (const void *send, void *recv, size_t recv_count, ncclDataType_t type, ncclRedOp_t op,
              ncclComm_t comm, cudaStream_t stream),
             (send, recv, recv_count, type, op, comm, stream))
FORWARD_CALL(ncclAllGather,
             (const void *send, void *recv, size_t send_count, ncclDataType_t type, ncclComm_t comm,
              cudaStream_t stream),
             (send, recv, send_count, type, comm, stream))
FORWARD_CALL(ncclReduce,
             (const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
              int root, ncclComm_t comm, cudaStream_t stream),
             (send, recv, count, type, op, root, comm, stream))
FORWARD_CALL(ncclBroadcast,
             (const void *send, void *recv, size_t count, ncclDataType_t type, int root,
              ncclComm_t comm, cudaStream_t stream),
             (send, recv, count, type, root, comm, stream))
