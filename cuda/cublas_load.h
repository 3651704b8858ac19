/* cuBLAS is loaded when a device is opened. */
#ifndef DEQ_CUDA_CUBLAS_LOAD_H
#define DEQ_CUDA_CUBLAS_LOAD_H

#include <stdbool.h>
#include <stddef.h>

/* Finds it, or says in `tried` what was looked for and what the loader answered. */
bool cublas_load(char *tried, size_t size);

#endif
