/* A configuration from the command line: a file or preset, changed by --set. */
#ifndef DEQ_CMD_LOAD_CONFIG_H
#define DEQ_CMD_LOAD_CONFIG_H

#include "model/config.h"
#include "paths.h"

/* Finds, reads, changes and resolves it; its file's name into path. The vocabulary, unless
 * model.vocab_size says it, is that of the data's first shard; 0 if there is none yet. */
enum status load_config(const char *name, char *const *set, int set_count, char path[PATHS_MAX],
                        struct config *config, struct error *err);

#endif
