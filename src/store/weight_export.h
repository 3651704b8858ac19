/* Weights in safetensors files, for programs in Python and back: tensors under the names and in the
 * layouts of the published code (params.h), float32. The metadata has "format" ("pt", which loaders
 * of PyTorch ask for), "step", and the resolved configuration as JSON under "deq_config". */
#ifndef DEQ_STORE_WEIGHT_EXPORT_H
#define DEQ_STORE_WEIGHT_EXPORT_H

#include "store/safetensors.h"
#include "store/snapshot.h"

/* How much was copied. */
struct weight_export_report {
    int64_t tensors, numbers; /* those that share their storage counted again */
    int64_t unused; /* import: tensors of the file that the configuration has no use for */
    char first_unused[PARAM_NAME_MAX]; /* the name of the first one, cut if longer */
};

/* Writes the weights of a checkpoint to `path`, whole or not at all. STATUS_DATA for a damaged
 * checkpoint; errors of st_write. */
enum status weight_export(struct snapshot *from, const char *path,
                          struct weight_export_report *report, struct error *err);

/* Copies the configuration that an export left in `file` to *config, resolved for its vocabulary;
 * *found is false if there is none. STATUS_DATA for one that is wrong. */
enum status weight_import_config(const struct st_file *file, const char *name,
                                 struct config *config, bool *found, struct error *err);

/* Writes a checkpoint of step 0 to `path`, whole or not at all, with the tensors of `file` (called
 * `name` in messages) as weights: every parameter of the resolved configuration must be there, as
 * NAME or as w:NAME, with as many numbers, of any type; one that shares another's storage is that
 * one's. STATUS_DATA if one is missing, has another count, or is not finite. */
enum status weight_import(const struct st_file *file, const char *name, const struct config *config,
                          const struct vocab *vocab, const char *path,
                          struct weight_export_report *report, struct error *err);

#endif
