/* Regular files that are read at offsets of the caller's choice. */
#ifndef DEQ_BASE_READ_FILE_H
#define DEQ_BASE_READ_FILE_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* Opens a file and sets *bytes to its length. The caller closes *fd, which is -1 on error. `wanted`
 * ("a checkpoint") says in the message what to name instead if `path` is a folder. Returns
 * STATUS_NOINPUT if `path` cannot be opened or is no regular file, or STATUS_IO. */
enum status read_file_open(int *fd, int64_t *bytes, const char *path, const char *wanted,
                           struct error *err);

/* Reads exactly `size` bytes at `offset` into `to`. `path` is for messages only. Returns
 * STATUS_DATA if the file ends before, or STATUS_IO. */
enum status read_file_at(int fd, const char *path, void *to, size_t size, int64_t offset,
                         struct error *err);

#endif
