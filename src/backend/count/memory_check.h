/* Whether what a command is about to make fits into the memory of its device, known before anything
 * is allocated or written. */
#ifndef DEQ_BACKEND_COUNT_MEMORY_CHECK_H
#define DEQ_BACKEND_COUNT_MEMORY_CHECK_H

#include "backend/backend.h"

/* Makes everything on `be`, uses it once, so that the largest product is known, and lets go of it.
 */
typedef enum status (*memory_check_fn)(const void *what, struct backend *be, struct error *err);

/* Bytes that `make` would take at most of the backend's memory at its precision, operands that are
 * rounded for products included: it is called on a backend that counts in this one's place. */
enum status memory_check_measure(const struct backend *be, memory_check_fn make, const void *what,
                                 size_t *bytes, struct error *err);

/* What may be planned for: the memory that was left when the device was opened, less a part for
 * scratch of single operations and the gaps between allocations. 0: no memory of its own. */
size_t memory_check_limit(const struct backend *be);

double memory_check_gib(size_t bytes);

#endif
