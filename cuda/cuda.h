/* The CUDA backend for one GPU of compute capability 8.0 or later. It computes in float32 with
 * kernels of its own, and products with cuBLAS in fp32, tf32 or bf16 (see
 * backend_set_precision). */
#ifndef DEQ_CUDA_CUDA_H
#define DEQ_CUDA_CUDA_H

#include "backend/backend.h"

/* Whether the program was built with it (otherwise cuda_open always refuses). */
bool cuda_built(void);

/* Opens the first device that CUDA_VISIBLE_DEVICES leaves visible. be->device_name and
 * be->device_free (bytes) then describe it. Returns STATUS_DEVICE, with the remedy, if there is no
 * driver, an old one, no device, or one that is too old, and STATUS_NOMEM without host memory. */
enum status cuda_open(struct backend *be, struct error *err);
/* The same for device `nth` of these, from 0. Beyond the last it counts on from the first. All
 * calls must come from the thread that opened it. */
enum status cuda_open_nth(struct backend *be, int nth, struct error *err);

/* Bytes of scratch memory that single operations have asked for so far, at most. */
size_t cuda_scratch(const struct backend *be);

/* Says whether operations that come again are launched as graphs, as they are at first. Without
 * graphs every operation starts by itself, as a profiler wants to see it, with the same bits as
 * result. */
void cuda_use_graphs(struct backend *be, bool use);
/* If CUDA refuses a graph, its operations start by themselves, with the same results. `warn` is
 * then told why, once. It is also told where a product of the library with an epilogue is so slow
 * that another way is taken. With NULL, as at first, nobody is told. */
void cuda_on_refusal(struct backend *be, void (*warn)(const char *text));

#endif
