/* Times what is started on the backend's stream. */
#ifndef DEQ_CUDA_STOPWATCH_H
#define DEQ_CUDA_STOPWATCH_H

#include "cuda_impl.h"

/* The least milliseconds of some runs of `start`, negative if the device does not tell. It waits
 * for the device, and must not be called while a graph is recorded. */
template <class F> static float time_best(struct backend *be, F start)
{
    enum { RUNS = 3 };
    cudaStream_t stream = cuda_of(be)->stream;
    cudaEvent_t begin = NULL, end = NULL;
    float best = -1;
    bool good = cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess;
    for (int i = 0; good && i <= RUNS; i++) {
        float ms = 0;
        good = cudaEventRecord(begin, stream) == cudaSuccess;
        start();
        good = good && cudaEventRecord(end, stream) == cudaSuccess &&
               cudaEventSynchronize(end) == cudaSuccess &&
               cudaEventElapsedTime(&ms, begin, end) == cudaSuccess;
        if (i > 0 && good && (best < 0 || ms < best)) /* the first may load a kernel */
            best = ms;
    }
    if (begin != NULL)
        cudaEventDestroy(begin);
    if (end != NULL)
        cudaEventDestroy(end);
    return good ? best : -1;
}

#endif
