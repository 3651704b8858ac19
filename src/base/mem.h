/* Host memory. Every allocation of the program goes through here, so that one place reports a
 * failure and tests can make the n-th allocation fail. */
#ifndef DEQ_BASE_MEM_H
#define DEQ_BASE_MEM_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

/* Allocates `count` zeroed objects of `size` bytes, aligned to 64 bytes for vector loads, into
 * *out. The caller frees them with mem_free. A request for zero bytes gives a pointer too. Returns
 * STATUS_NOMEM, and sets *out to NULL, if the size overflows or memory runs out. */
enum status mem_alloc(void **out, size_t count, size_t size, struct error *err);

/* Replaces *ptr by a block of `new_count` zeroed objects that begins with the first `old_count`
 * objects of the old block, which is freed. On STATUS_NOMEM *ptr is unchanged and still owned by
 * the caller. */
enum status mem_grow(void **ptr, size_t old_count, size_t new_count, size_t size,
                     struct error *err);

/* Copies a string. The caller frees *out with mem_free. On STATUS_NOMEM *out is unchanged. */
enum status mem_strdup(char **out, const char *text, struct error *err);

/* Whether a limit on the address space (ulimit -v) leaves so many bytes. Libraries that end a
 * program where memory is refused are not called without it. */
bool mem_has_room(size_t bytes);

/* Frees what a function above gave. NULL is allowed. */
void mem_free(void *ptr);

#endif
