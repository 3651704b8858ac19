/* The part of NCCL that the backend uses. It is declared here so that NCCL is not needed for a
 * build. Names and values are those of its public interface, nccl.h, the same in all versions 2.
 * tests/emu/test_emu_nccl_header.cpp compares them with those of an installed one, which it
 * includes before this file. */
#ifndef DEQ_CUDA_NCCL_LOAD_H
#define DEQ_CUDA_NCCL_LOAD_H

#include <stdbool.h>
#include <stddef.h>

/* Finds it, or says in `tried` what was looked for and what the loader answered. */
bool nccl_load(char *tried, size_t size);

enum {
    NCCL_ID_BYTES = 128,
    NCCL_SUCCESS = 0,
    NCCL_UNHANDLED_CUDA_ERROR = 1,
    NCCL_SYSTEM_ERROR = 2,
    NCCL_INVALID_ARGUMENT = 4,
    NCCL_INVALID_USAGE = 5,
    NCCL_REMOTE_ERROR = 6,
    NCCL_IN_PROGRESS = 7,
    NCCL_SUM = 0,
    NCCL_FLOAT32 = 7
};

typedef struct CUstream_st *cudaStream_t;
typedef struct ncclComm *ncclComm_t;
#ifndef NCCL_H_
typedef struct {
    char internal[NCCL_ID_BYTES];
} ncclUniqueId;
typedef enum {
    ncclSuccess = NCCL_SUCCESS,
    ncclUnhandledCudaError = NCCL_UNHANDLED_CUDA_ERROR,
    ncclSystemError = NCCL_SYSTEM_ERROR,
    ncclInvalidArgument = NCCL_INVALID_ARGUMENT,
    ncclInvalidUsage = NCCL_INVALID_USAGE,
    ncclRemoteError = NCCL_REMOTE_ERROR,
    ncclInProgress = NCCL_IN_PROGRESS
} ncclResult_t;
typedef enum { ncclSum = NCCL_SUM } ncclRedOp_t;
typedef enum { ncclFloat32 = NCCL_FLOAT32 } ncclDataType_t;
#endif

ncclResult_t ncclGetVersion(int *version); /* 22809 for 2.28.9 */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error);
const char *ncclGetErrorString(ncclResult_t result);
const char *ncclGetLastError(ncclComm_t comm); /* the library's own words, maybe empty */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t recv_count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclAllGather(const void *send, void *recv, size_t send_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream);

#endif
