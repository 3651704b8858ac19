/* The reference backend, plain loops in float64 on one thread. It is slow and meant for tests, `deq
 * verify --device ref` and gradients by finite differences. */
#ifndef DEQ_BACKEND_REF_REF_H
#define DEQ_BACKEND_REF_REF_H

#include "backend/backend.h"

enum status ref_open(struct backend *be, struct error *err);

#endif
