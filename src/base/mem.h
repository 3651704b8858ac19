/* Host memory. Every allocation of the program goes through here, so that one place reports a
 * failure and tests can make the n-th allocation fail. */
#ifndef DEQ_BASE_MEM_H
#define DEQ_BASE_MEM_H

#include "base/status.h"
#include <stddef.h>

/* Allocates `count` zeroed objects of `size` bytes, aligned for vector loads (64 bytes), into *out.
 * The caller owns them and frees them with mem_free. STATUS_NOMEM on overflow or failure; *out is
 * then NULL. A zero-sized request gives a pointer that may be freed. */
enum status mem_alloc(void **out, size_t count, size_t size, struct error *err);

/* As mem_alloc, but keeps the first `old_count` objects of *ptr and frees the old block. On
 * failure *ptr is unchanged and still owned by the caller. */
enum status mem_grow(void **ptr, size_t old_count, size_t new_count, size_t size,
                     struct error *err);

/* A copy of the string, owned by the caller. */
enum status mem_strdup(char **out, const char *text, struct error *err);

/* Frees what mem_alloc gave; NULL is allowed. */
void mem_free(void *ptr);

#endif
