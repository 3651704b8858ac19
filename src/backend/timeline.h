/* A timeline of operations, in the trace format that Chrome's chrome://tracing, Perfetto and
 * speedscope show: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 *
 * A span has a name, a lane, a beginning and a duration. Spans of a lane lie side by side or inside
 * one another. The file is written as spans come, and what is there when a program is killed can be
 * shown too, since the format allows its last bracket to be missing. */
#ifndef DEQ_BACKEND_TIMELINE_H
#define DEQ_BACKEND_TIMELINE_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum timeline_lane {
    LANE_STEPS,  /* steps of a training */
    LANE_PHASES, /* what a step is about, see enum phase (workspace.h) */
    LANE_CALLS,  /* operations on the host: all they do, or their start on a device */
    LANE_DEVICE, /* operations on a device that works beside the host */
    LANE_COUNT
};

/* After so many spans the file is complete, and no more are taken. */
enum { TIMELINE_MOST = 2000000 };

struct timeline;

/* Begins a file. Times count from this call on. STATUS_CANTCREATE, STATUS_NOMEM. */
enum status timeline_open(struct timeline **out, const char *path, struct error *err);
/* Completes the file and frees the timeline. NULL is allowed. STATUS_IO if any of it could not be
 * written. */
enum status timeline_close(struct timeline *t, struct error *err);

/* Adds a span that began at `start` (clock_seconds) and lasted so many seconds. flops and bytes are
 * shown beside it unless both are 0. The name is a word of this program and is not quoted. */
void timeline_add(struct timeline *t, enum timeline_lane lane, const char *name, double start,
                  double seconds, double flops, double bytes);
/* Phases follow one another. Each ends where the next begins, or with a NULL in its place. The name
 * is borrowed until then. */
void timeline_phase(struct timeline *t, const char *name);
/* A step ends now, and its last phase with it. */
void timeline_step(struct timeline *t, double start, double seconds);
/* Whether spans were left out, since there were more than TIMELINE_MOST. */
bool timeline_is_full(const struct timeline *t);

#endif
