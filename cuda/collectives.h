/* NCCL behind backend/collectives.h. */
#ifndef DEQ_CUDA_COLLECTIVES_H
#define DEQ_CUDA_COLLECTIVES_H

#include "cuda_impl.h"

extern "C" {
#include "backend/collectives.h"
}

extern const struct collectives cuda_collectives;

#endif
