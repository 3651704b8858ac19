/* Finds the checkpoint that a command line means. */
#ifndef DEQ_CMD_FIND_CHECKPOINT_H
#define DEQ_CMD_FIND_CHECKPOINT_H

#include "cmd/load_config.h"

/* Writes the path of the checkpoint that `name` means to `out`.
 *   - NULL is the newest run under ./runs.
 *   - A folder is that of a run.
 *   - Any other name is that file. Where DIR/best.bin is missing, DIR/last.bin is taken.
 * Of a run it is best.bin, or last.bin if there is none, as in a training without validation text.
 * A path that differs from `name` is printed on stderr. Returns STATUS_NOINPUT if there is none. A
 * file that is named need not exist. */
enum status find_checkpoint(const char *name, char out[PATHS_MAX], struct error *err);

#endif
