/* Slots of the table that allocate. cuda_alloc returns STATUS_DEVICE if there is no memory. */
#ifndef DEQ_CUDA_MEMORY_H
#define DEQ_CUDA_MEMORY_H

#include "cuda_impl.h"

enum status cuda_alloc(struct backend *be, void **out, size_t bytes, struct error *err);
void cuda_release(struct backend *be, void *ptr);

#endif
