/* Export of weights to safetensors files, for programs in Python, and import from them.
 *
 * Tensors are float32, under the names and in the layouts of the published code (params.h). The
 * metadata has "format" ("pt", which loaders of PyTorch ask for), "step", and the resolved
 * configuration as JSON under "deq_config". */
#ifndef DEQ_STORE_WEIGHT_EXPORT_H
#define DEQ_STORE_WEIGHT_EXPORT_H

#include "store/safetensors.h"
#include "store/snapshot.h"

/* How much was copied. */
struct weight_export_report {
    int64_t tensors, numbers; /* tensors that share their storage are counted each */
    int64_t unused;           /* tensors of an imported file that the configuration does not use */
    char first_unused[PARAM_NAME_MAX]; /* the name of the first one, cut if longer */
};

/* How weights are named. */
enum weight_names {
    WEIGHT_NAMES_PUBLISHED, /* as the published code names them */
    /* as PyTorch's modules of today do (weight_name_torch). A weight that shares another's storage
     * is left out, since it is that weight there. */
    WEIGHT_NAMES_TORCH
};

/* Writes the weights of a checkpoint to `path`, whole or not at all. Returns STATUS_DATA for a
 * damaged checkpoint and for weights that are not finite, STATUS_CANTCREATE, STATUS_IO or
 * STATUS_NOMEM. */
enum status weight_export(struct snapshot *from, const char *path, enum weight_names names,
                          struct weight_export_report *report, struct error *err);

/* Copies the configuration that an export left in `file` to *config, resolved for its vocabulary.
 * *found says whether there was one. Returns STATUS_DATA if it is wrong, or STATUS_NOMEM. */
enum status weight_import_config(const struct st_file *file, struct config *config, bool *found,
                                 struct error *err);

/* Writes a checkpoint of step 0 to `path`, whole or not at all, with the tensors of `file` as
 * weights. `config` is resolved. The file must hold every parameter in the shape of the published
 * code, sizes of 1 at the end aside, as floating-point numbers. Names may have what wrappers of a
 * training add (weight_name.h). A parameter that shares another's storage gets that parameter's
 * values, from which the file's, if it has them, must not differ. Other tensors may be of any type.
 * Returns STATUS_DATA if a tensor is missing, could be either of two, has another shape or type or
 * is not finite in float32, STATUS_CANTCREATE, STATUS_IO, STATUS_NOMEM, or STATUS_INTERNAL if zlib
 * does not start.
 */
enum status weight_import(const struct st_file *file, const struct config *config,
                          const struct vocab *vocab, const char *path,
                          struct weight_export_report *report, struct error *err);

#endif
