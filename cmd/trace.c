/* Begins and ends the timeline of --trace. */
#include "cmd/trace.h"

#include <stdio.h>

enum status trace_begin(struct backend *be, const char *path, struct error *err)
{
    enum status status = timeline_open(&be->timeline, path, err);
    if (status != STATUS_OK)
        error_prefix(err, "--trace");
    return status;
}

enum status trace_end(struct backend *be, const char *path, bool quiet, enum status status,
                      struct error *err)
{
    struct timeline *t = be->timeline;
    struct error ignored;
    if (t == NULL)
        return status;
    backend_settle(be);
    be->timeline = NULL;
    bool full = timeline_is_full(t);
    enum status closed = timeline_close(t, status == STATUS_OK ? err : &ignored);
    if (closed == STATUS_OK && !quiet && (status == STATUS_OK || status == STATUS_STOPPED))
        fprintf(stderr, "%s: a timeline for ui.perfetto.dev or chrome://tracing%s\n", path,
                full ? ", of the first two million spans" : "");
    return status != STATUS_OK ? status : closed;
}
