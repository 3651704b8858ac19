/* Regular files that are read at places of the caller's choice. */
#ifndef DEQ_BASE_READ_FILE_H
#define DEQ_BASE_READ_FILE_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* *fd is closed by the caller, or -1 on error; *bytes is the file's length. STATUS_NOINPUT if it
 * cannot be opened or is no file, with what to name instead of a folder ("a checkpoint");
 * STATUS_IO. */
enum status read_file_open(int *fd, int64_t *bytes, const char *path, const char *wanted,
                           struct error *err);

/* Reads exactly `size` bytes at `offset`. `path` is for messages: STATUS_DATA if the file ends
 * before, STATUS_IO. */
enum status read_file_at(int fd, const char *path, void *to, size_t size, int64_t offset,
                         struct error *err);

#endif
