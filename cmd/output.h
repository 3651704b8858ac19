/* What commands do with their results. */
#ifndef DEQ_CMD_OUTPUT_H
#define DEQ_CMD_OUTPUT_H

#include "base/json.h"
#include <stdbool.h>

/* The share of <unk> among tokens above which figures say little, so that a warning is due. */
#define OUTPUT_UNKNOWN_MAX 0.05

/* Warns if more than that are <unk>, among the tokens that `which` names, as in "training". */
void output_warn_unknown(const char *command, double share, const char *which, const char *dir);

/* Begins the object that --json prints, to be filled by json_write_*. */
void output_json_begin(struct json_writer *w);
/* Ends the object, prints it as one line on standard output and frees it. STATUS_NOMEM. */
enum status output_json_print(struct json_writer *w, struct error *err);

/* Whether `fd` is a pipe that nobody reads any more. A terminal that is gone is none. */
bool output_reader_gone(int fd);

/* Refuses to write a file where something is already, unless `force`. STATUS_CANTCREATE. */
enum status output_check_new(const char *path, bool force, struct error *err);

/* Refuses a name for an output that promises another format than the one with the ending `ours`
 * (".bin" or ".safetensors"). The message has a name that would do. STATUS_USAGE. */
enum status output_check_ending(const char *path, const char *ours, struct error *err);

#endif
