/* A configuration from the command line, which is a file or a preset changed by --set. */
#ifndef DEQ_CMD_LOAD_CONFIG_H
#define DEQ_CMD_LOAD_CONFIG_H

#include "cmd/options.h"
#include "config/config.h"

/* Where presets are to be installed. The build says it. */
#ifndef DEQ_CONFIG_DIR
#define DEQ_CONFIG_DIR "configs"
#endif

/* Bytes of a path, with its end. */
enum { PATHS_MAX = 4096 };

/* Writes the bare name of a configuration, for runs/<name>, without folder and ".json", into `out`
 * of `size` bytes. A longer name is cut. */
void load_config_name(const char *path, char *out, size_t size);

/* Assigns all KEY=VALUE of --set. STATUS_CONFIG for an unknown key or a bad value. */
enum status load_config_set(struct config *config, const struct option_list *set,
                            struct error *err);
/* Calls `each` with the names of all presets that --config finds. */
void load_config_presets(void (*each)(void *ctx, const char *name), void *ctx);
/* Finds the file of a configuration, reads it and applies --set. `name` is a file, or, if it has no
 * folder, NAME.json here, or NAME or NAME.json in ./configs or among the installed presets. The
 * file's name goes into `path`. The configuration is not resolved. STATUS_NOINPUT lists the places
 * that were looked at, STATUS_CONFIG is a fault of the content. */
enum status load_config(const char *name, const struct option_list *set, char path[PATHS_MAX],
                        struct config *config, struct error *err);
/* Reads the configuration of that name, or takes what `otherwise` makes where name is NULL. --set
 * is left to the caller. Statuses as for load_config. */
enum status load_config_or(const char *name,
                           enum status (*otherwise)(struct config *config, struct error *err),
                           struct config *config, struct error *err);

/* Where a command line may take its configuration from. What was not given is NULL. */
struct config_source {
    const char *config; /* of --config */
    const char *preset; /* of --preset: auto, small, medium or large */
    const char *data;   /* of --data */
    const struct option_list *set;
};

enum { CONFIG_WHY = 256 };
/* As load_config for --config, whose data.dir becomes --data. Otherwise takes a preset and fits it
 * to the text in --data, "auto" unless --preset names one. `why` then says in one line which preset
 * it is and why, and is empty for --config. STATUS_USAGE for options that do not go together or are
 * missing, STATUS_NOINPUT for a folder without a text, with what makes it, and what load_config
 * returns. */
enum status load_config_source(const struct config_source *source, char path[PATHS_MAX],
                               char why[CONFIG_WHY], struct config *config, struct error *err);
/* Puts the folder of --data in place of data.dir, unless it is NULL. The configuration is not
 * resolved. STATUS_USAGE if the folder's name is too long. */
enum status load_config_data(struct config *config, const char *dir, struct error *err);
/* Resolves a configuration for a command that reads no data. The vocabulary has `words` words,
 * unless model.vocab_size names another number. STATUS_CONFIG. */
enum status load_config_resolve(struct config *config, int64_t words, struct error *err);
/* Resolves a configuration with the vocabulary of its data. `path` stands before messages. Unless
 * model.vocab_size names the size of the vocabulary, it is that of the data's first shard, or 0 if
 * there is none yet. STATUS_CONFIG. */
enum status load_config_from_data(struct config *config, const char *path, struct error *err);
/* As load_config, and resolves as load_config_from_data. */
enum status load_config_resolved(const char *name, const struct option_list *set,
                                 char path[PATHS_MAX], struct config *config, struct error *err);

#endif
