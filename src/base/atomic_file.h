/* Files that appear whole or not at all. The content is written to a temporary file in the same
 * folder ("NAME.tmp-PID-N"), forced to disk and renamed to its final name; a reader of that name
 * sees the old file or the new one, never a part. A process that is killed leaves at most the
 * temporary file behind.
 *
 * Errors: STATUS_CANTCREATE when a file cannot be made or renamed; STATUS_IO when writing or
 * forcing to disk fails, with a message of its own for a full disk. After an error the caller
 * calls atomic_file_abort. An object serves one thread at a time.
 */
#ifndef DEQ_BASE_ATOMIC_FILE_H
#define DEQ_BASE_ATOMIC_FILE_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct atomic_file;

/* What stands between the final name and the rest of a temporary file's name. */
#define ATOMIC_FILE_MARK ".tmp-"

/* Creates the temporary file that will become `path` (which need not exist; its folder must).
 * *out is owned by the caller until atomic_file_commit or atomic_file_abort; NULL on error. */
enum status atomic_file_create(struct atomic_file **out, const char *path, struct error *err);

/* For large content, before the first byte: what is appended goes to the disk in large blocks and,
 * where the file system can do that, past the system's cache, which takes a tenth of the processor
 * time and leaves the cache to files that are read. Ends with the next call that is no
 * atomic_file_write. STATUS_NOMEM. */
enum status atomic_file_stream(struct atomic_file *f, struct error *err);

/* Appends `size` bytes. */
enum status atomic_file_write(struct atomic_file *f, const void *data, size_t size,
                              struct error *err);

/* Writes `size` bytes at `offset`, over bytes written before: for a header whose numbers are known
 * only at the end. Does not move the place of the next atomic_file_write. */
enum status atomic_file_rewrite(struct atomic_file *f, const void *data, size_t size,
                                int64_t offset, struct error *err);

/* Closes the descriptor but keeps the temporary file; the next call that needs the descriptor opens
 * it again. For writers with more pending files than a process may hold open. */
enum status atomic_file_suspend(struct atomic_file *f, struct error *err);

/* Forces the bytes to disk, under the temporary name. Lets a writer of several files meet a full
 * disk before any of them gets its final name. */
enum status atomic_file_sync(struct atomic_file *f, struct error *err);

/* Forces to disk what is not there yet, renames to the final name and forces the folder to disk.
 * On success *f is freed and NULL; on error it is left for atomic_file_abort (which cannot take
 * the final name back if only the last step, the folder, failed). */
enum status atomic_file_commit(struct atomic_file **f, struct error *err);

/* Removes the temporary file and frees *f; *f becomes NULL. A NULL *f is allowed. */
void atomic_file_abort(struct atomic_file **f);

/* The final name, and the number of bytes appended so far. */
const char *atomic_file_path(const struct atomic_file *f);
int64_t atomic_file_size(const struct atomic_file *f);

/* create + write + commit for content that lies in memory. */
enum status atomic_file_put(const char *path, const void *data, size_t size, struct error *err);

/* Forces a folder's entries to disk: after renames and removals in it. */
enum status atomic_folder_sync(const char *folder, struct error *err);

#endif
