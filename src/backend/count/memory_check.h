/* Tells whether what a command is about to make fits into the memory of its device, before anything
 * is allocated or written. */
#ifndef DEQ_BACKEND_COUNT_MEMORY_CHECK_H
#define DEQ_BACKEND_COUNT_MEMORY_CHECK_H

#include "backend/backend.h"

/* Makes everything on `be`, uses it once, so that the largest product is known, and releases it.
 * Returns what that returns. */
typedef enum status (*memory_check_fn)(const void *what, struct backend *be, struct error *err);

/* Measures the bytes that `make` would take at most of the backend's memory at its precision,
 * the scratch of its operations included. `make` is called on a backend that counts, in place of
 * this one. STATUS_NOMEM, or what `make` returns. */
enum status memory_check_measure(const struct backend *be, memory_check_fn make, const void *what,
                                 size_t *bytes, struct error *err);

/* Returns the memory that may be planned for. That is what was left when the device was opened,
 * less 1/32 and at least 512 MiB, for graphs and the gaps between allocations. Where less than 4
 * GiB were left it is 1/32 alone. 0 means that the device has no memory of its own. */
size_t memory_check_limit(const struct backend *be);

double memory_check_gib(size_t bytes);

#endif
