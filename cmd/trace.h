/* The timeline that --trace writes. */
#ifndef DEQ_CMD_TRACE_H
#define DEQ_CMD_TRACE_H

#include "backend/backend.h"

#define OPTION_TRACE(more_)                                                                 \
    OPTION("trace", TEXT, trace, .value = "FILE",                                           \
           .help = "Writes a timeline of steps, phases and operations in Chrome's trace "   \
                   "format, for ui.perfetto.dev or chrome://tracing. It holds at most two " \
                   "million spans, some 250 MB." more_)

/* Shows what runs on the backend from now on in a file. STATUS_CANTCREATE, STATUS_NOMEM. */
enum status trace_begin(struct backend *be, const char *path, struct error *err);
/* Completes the file, if one was begun, and says on stderr unless `quiet` what it is for. Returns
 * `status`, with which the work ended, or STATUS_IO if the file could not be written. */
enum status trace_end(struct backend *be, const char *path, bool quiet, enum status status,
                      struct error *err);

#endif
