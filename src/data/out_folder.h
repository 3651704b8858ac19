/* The folder that a tokenisation writes, which is replaced as a whole or not at all. */
#ifndef DEQ_DATA_OUT_FOLDER_H
#define DEQ_DATA_OUT_FOLDER_H

#include "base/status.h"
#include "data/shard.h"
#include "data/vocab.h"
#include <stdbool.h>

struct out_folder {
    const char *path; /* borrows */
    bool created;     /* by out_folder_prepare */
    int lock;         /* owns, a descriptor of the folder that holds a lock on it, or -1 */
};

/* Makes the folder and its parents, and locks it against other tokenisations where the file system
 * can do that. Temporary files of a process that has ended are removed, and with `force` all
 * left-over ones. What then is in the folder is an error unless `force` is set. The caller ends
 * with out_folder_close, also after an error. Returns STATUS_CANTCREATE if the folder cannot be
 * used or another process fills it, or STATUS_NOMEM. */
enum status out_folder_prepare(struct out_folder *f, const char *path, bool force,
                               struct error *err);

/* Gives the finished splits writers[count], of which entries may be NULL, and the vocabulary their
 * final names, vocab.txt last, and removes vocab.txt and shards of an earlier run. After a failure
 * the folder is as it was before. A process that is killed meanwhile may leave the folder without
 * vocab.txt, and the old files with ".tmp-old" behind their names. Returns STATUS_CANTCREATE,
 * STATUS_IO or STATUS_NOMEM. */
enum status out_folder_commit(struct out_folder *f, struct shard_writer *const *writers, int count,
                              const struct vocab *vocab, struct error *err);

/* Gives the lock back. After a failure it removes the folder if out_folder_prepare made it and it
 * is empty. */
void out_folder_close(struct out_folder *f, bool failed);

#endif
