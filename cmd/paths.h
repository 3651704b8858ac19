/* Finding the file behind a name on the command line. */
#ifndef DEQ_CMD_PATHS_H
#define DEQ_CMD_PATHS_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { PATHS_MAX = 4096 };

/* The file of a configuration into out[PATHS_MAX]: `name` itself if it is a file; if it has no
 * folder, also NAME.json here, and NAME and NAME.json in ./configs and in the installed presets.
 * STATUS_NOINPUT lists the places that were looked at. */
enum status paths_find_config(const char *name, char out[PATHS_MAX], struct error *err);

/* The bare name of a configuration, for runs/<name>: no folder, no ".json". `size` bytes at `out`,
 * cut if longer. */
void paths_config_name(const char *path, char *out, size_t size);

/* Refuses (STATUS_CANTCREATE) to write a file where something is, unless `force`. */
enum status paths_check_new(const char *path, bool force, struct error *err);

#endif
