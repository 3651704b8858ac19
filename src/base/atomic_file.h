/* Files that appear whole or not at all.
 *
 * The content goes to a temporary file in the same folder ("NAME.tmp-PID-N"), is forced to disk and
 * then renamed to its final name. A reader of that name sees the old file or the new one, never a
 * part. A process that is killed leaves at most the temporary file behind.
 *
 * After an error the caller calls atomic_file_abort. STATUS_IO for a full disk, a used-up quota or
 * a file size limit has a message of its own. An object serves one thread at a time.
 */
#ifndef DEQ_BASE_ATOMIC_FILE_H
#define DEQ_BASE_ATOMIC_FILE_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct atomic_file;

/* Separates the final name from the rest of a temporary file's name. */
#define ATOMIC_FILE_MARK ".tmp-"

/* Creates the temporary file that will become `path`. The folder of `path` must exist. The caller
 * owns *out until atomic_file_commit or atomic_file_abort. *out is NULL on error.
 * Returns STATUS_CANTCREATE if the file cannot be made or `path` is a pipe or a device, or
 * STATUS_NOMEM. */
enum status atomic_file_create(struct atomic_file **out, const char *path, struct error *err);

/* Prepares for large content, before the first byte is written. What is appended from now on is
 * collected into blocks of 1 MiB and, where the file system allows it, written past the page cache.
 * This takes a tenth of the processor time and leaves the cache to files that are read. Any call
 * other than atomic_file_write ends this mode. Returns STATUS_NOMEM on failure. */
enum status atomic_file_stream(struct atomic_file *f, struct error *err);

/* Appends `size` bytes. Returns STATUS_IO on failure. */
enum status atomic_file_write(struct atomic_file *f, const void *data, size_t size,
                              struct error *err);

/* Overwrites `size` bytes at `offset`, all of which were written before. A header can thus be
 * completed when its numbers are known. The next atomic_file_write still appends at the end.
 * Returns STATUS_IO on failure. */
enum status atomic_file_rewrite(struct atomic_file *f, const void *data, size_t size,
                                int64_t offset, struct error *err);

/* Closes the descriptor and keeps the temporary file. The next call that needs the descriptor opens
 * it again. A writer can thus have more pending files than a process may hold open.
 * Returns STATUS_IO on failure. */
enum status atomic_file_suspend(struct atomic_file *f, struct error *err);

/* Forces the bytes to disk under the temporary name. A writer of several files meets a full disk
 * here, before any of them has its final name. Returns STATUS_IO on failure. */
enum status atomic_file_sync(struct atomic_file *f, struct error *err);

/* Forces the bytes to disk, renames the file to its final name and forces the folder to disk. On
 * success *f is freed and set to NULL. On error *f is left for atomic_file_abort. If only the last
 * step failed, the file has its final name already and abort leaves it there.
 * Returns STATUS_CANTCREATE if the file cannot be renamed, STATUS_IO or STATUS_NOMEM. */
enum status atomic_file_commit(struct atomic_file **f, struct error *err);

/* Removes the temporary file, frees *f and sets it to NULL. A NULL *f is allowed. */
void atomic_file_abort(struct atomic_file **f);

/* The final name, borrowed from `f`. */
const char *atomic_file_path(const struct atomic_file *f);
/* The number of bytes appended so far. */
int64_t atomic_file_size(const struct atomic_file *f);

/* Creates, writes and commits a file whose content lies in memory.
 * Returns STATUS_CANTCREATE, STATUS_IO or STATUS_NOMEM on failure. */
enum status atomic_file_put(const char *path, const void *data, size_t size, struct error *err);

/* Forces a folder's entries to disk, which makes renames and removals in it last.
 * Returns STATUS_IO on failure. */
enum status atomic_folder_sync(const char *folder, struct error *err);

#endif
