/* The output folder of a tokenisation. */
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

/* Makes the folder, or checks that it may be used: empty, or `force`. Left-over temporary files of
 * a killed run are removed with `force`. STATUS_CANTCREATE otherwise. */
enum status out_folder_prepare(struct out_folder *f, const char *path, bool force,
                               struct error *err);

/* Gives the finished splits (`writers`, NULL entries allowed) and the vocabulary their final
 * names, vocab.txt last, and removes vocab.txt and shards of an earlier run: all of it, or, after a
 * failure, nothing. A process that is killed meanwhile may leave the folder without vocab.txt, and
 * the old files with ".tmp-old" behind their names. */
enum status out_folder_commit(struct out_folder *f, struct shard_writer *const *writers, int count,
                              const struct vocab *vocab, struct error *err);

/* After a failure: removes the folder if out_folder_prepare made it and it is empty. */
void out_folder_abandon(struct out_folder *f);

#endif
