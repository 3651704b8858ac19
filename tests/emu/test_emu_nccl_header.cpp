/* The declarations of cuda/nccl_load.h beside those of an installed NCCL. A function that is
 * declared otherwise, or a constant that has another value, does not compile. */
#if __has_include(<nccl.h>) && __has_include(<cuda_runtime.h>)
#include <nccl.h>
extern "C" {
#include "cuda/nccl_load.h"
}

static_assert(NCCL_MAJOR == 2);
static_assert(sizeof(ncclUniqueId) == NCCL_ID_BYTES && NCCL_ID_BYTES == NCCL_UNIQUE_ID_BYTES);
static_assert(sizeof(ncclResult_t) == sizeof(int) && sizeof(ncclRedOp_t) == sizeof(int) &&
              sizeof(ncclDataType_t) == sizeof(int));
static_assert(static_cast<int>(ncclSuccess) == NCCL_SUCCESS);
static_assert(static_cast<int>(ncclUnhandledCudaError) == NCCL_UNHANDLED_CUDA_ERROR);
static_assert(static_cast<int>(ncclSystemError) == NCCL_SYSTEM_ERROR);
static_assert(static_cast<int>(ncclInvalidArgument) == NCCL_INVALID_ARGUMENT);
static_assert(static_cast<int>(ncclInvalidUsage) == NCCL_INVALID_USAGE);
static_assert(static_cast<int>(ncclRemoteError) == NCCL_REMOTE_ERROR);
static_assert(static_cast<int>(ncclInProgress) == NCCL_IN_PROGRESS);
static_assert(static_cast<int>(ncclSum) == NCCL_SUM);
static_assert(static_cast<int>(ncclFloat32) == NCCL_FLOAT32);
#define FOUND NCCL_VERSION_CODE
#else
#define FOUND 0
#endif

#include <stdio.h>

int main(void)
{
    if (FOUND == 0) {
        puts("1..0 # SKIP no nccl.h with the CUDA Toolkit's headers: libnccl-dev has it");
        return 77;
    }
    printf("1..1\nok 1 - cuda/nccl_load.h declares what NCCL %d does\n", FOUND);
    return 0;
}
