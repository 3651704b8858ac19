/* A line editor with a history, by libedit where the build found it. Otherwise the terminal's own
 * editing has to do. */
#ifndef DEQ_CMD_SAMPLE_EDITOR_H
#define DEQ_CMD_SAMPLE_EDITOR_H

#include "base/status.h"
#include <stddef.h>

struct editor;

/* Opens an editor for the terminal on stdin. `interrupts` is a signalfd of SIGINT. Ctrl-C empties
 * the line. *out is NULL, with STATUS_OK, where there is no editor. The caller frees it with
 * editor_close. STATUS_IO if libedit does not start. */
enum status editor_open(struct editor **out, int interrupts, struct error *err);
/* NULL is allowed. */
void editor_close(struct editor *e);

/* Reads a line behind `prompt`, which is borrowed until the next call. *line has `size` bytes
 * without the line end, and is valid until the next call. *line is NULL at the end of input, as by
 * Ctrl-D. STATUS_IO. */
enum status editor_read(struct editor *e, const char *prompt, const char **line, size_t *size,
                        struct error *err);

#endif
