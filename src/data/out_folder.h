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
};

/* Makes the folder and its parents. A folder that exists must be empty unless `force` is set. With
 * `force`, left-over temporary files of a killed run are removed. Returns STATUS_CANTCREATE if the
 * folder cannot be used, or STATUS_NOMEM. */
enum status out_folder_prepare(struct out_folder *f, const char *path, bool force,
                               struct error *err);

/* Gives the finished splits writers[count], of which entries may be NULL, and the vocabulary their
 * final names, vocab.txt last, and removes vocab.txt and shards of an earlier run. After a failure
 * the folder is as it was before. A process that is killed meanwhile may leave the folder without
 * vocab.txt, and the old files with ".tmp-old" behind their names. Returns STATUS_CANTCREATE,
 * STATUS_IO or STATUS_NOMEM. */
enum status out_folder_commit(struct out_folder *f, struct shard_writer *const *writers, int count,
                              const struct vocab *vocab, struct error *err);

/* Removes, after a failure, the folder if out_folder_prepare made it and it is empty. */
void out_folder_abandon(struct out_folder *f);

#endif
