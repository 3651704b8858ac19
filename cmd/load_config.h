/* A configuration from the command line: a file or preset, changed by --set. */
#ifndef DEQ_CMD_LOAD_CONFIG_H
#define DEQ_CMD_LOAD_CONFIG_H

#include "cmd/options.h"
#include "cmd/paths.h"
#include "config/config.h"

/* Assigns all KEY=VALUE of --set. */
enum status load_config_set(struct config *config, const struct option_list *set,
                            struct error *err);
/* Finds, reads and changes it; its file's name into path. Not resolved. */
enum status load_config(const char *name, const struct option_list *set, char path[PATHS_MAX],
                        struct config *config, struct error *err);
/* The configuration of that name, or what `otherwise` makes where name is NULL. No --set yet. */
enum status load_config_or(const char *name,
                           enum status (*otherwise)(struct config *config, struct error *err),
                           struct config *config, struct error *err);
/* Puts the folder of --data, unless it is NULL, in place of data.dir. Not resolved. STATUS_USAGE if
 * it is too long. */
enum status load_config_data(struct config *config, const char *dir, struct error *err);
/* Resolves a configuration without data: the vocabulary, unless model.vocab_size says it, is one of
 * `words`. */
enum status load_config_resolve(struct config *config, int64_t words, struct error *err);
/* As load_config, resolved. The vocabulary, unless model.vocab_size says it, is that of the data's
 * first shard; 0 if there is none yet. */
enum status load_config_resolved(const char *name, const struct option_list *set,
                                 char path[PATHS_MAX], struct config *config, struct error *err);

#endif
