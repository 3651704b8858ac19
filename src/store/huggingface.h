/* A checkpoint as a folder that transformers, the Python library, loads.
 *
 *   config.json            auto_map, and under "deq" the resolved configuration
 *   model.safetensors      the weights, named as PyTorch's modules name them
 *   generation_config.json, tokenizer_config.json, vocab.txt (the vocabulary's text form), and
 *   tokenizer.model where tokens are subwords
 *   *_deq.py               the model, its solvers and its tokenizer in PyTorch
 *   README.md              the model card
 */
#ifndef DEQ_STORE_HUGGINGFACE_H
#define DEQ_STORE_HUGGINGFACE_H

#include "store/weight_export.h"

enum { HUGGINGFACE_PATH_MAX = 4096 + 64 };

/* Writes the folder, and makes it and its parents if they are not there. It must be empty unless
 * `force`, which replaces the files of these names and leaves others. config.json comes last.
 * Returns STATUS_DATA for a damaged checkpoint and for weights that are not finite,
 * STATUS_CANTCREATE, STATUS_IO or STATUS_NOMEM. */
enum status huggingface_export(struct snapshot *from, const char *folder, bool force,
                               struct weight_export_report *report, struct error *err);

/* Whether `path` is a folder, as an import of this form names it. */
bool huggingface_is_folder(const char *path);

/* Writes the name of the folder's weights into `path`. Returns STATUS_NOINPUT if there are none
 * that can be read, with what to do about it, or STATUS_USAGE for a name that is too long. */
enum status huggingface_weights(const char *folder, char path[HUGGINGFACE_PATH_MAX],
                                struct error *err);

/* Reads the configuration under "deq" in config.json, resolved for its vocabulary. Its data.dir is
 * what it was, and the vocabulary stands in the folder. Returns STATUS_NOINPUT, STATUS_USAGE for a
 * name that is too long, STATUS_DATA or STATUS_NOMEM. */
enum status huggingface_config(const char *folder, struct config *config, struct error *err);

#endif
