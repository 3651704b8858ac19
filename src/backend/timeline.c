/* Writes spans as events of Chrome's trace format, one a line. */
#include "backend/timeline.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct timeline {
    FILE *file; /* owns */
    char *path; /* owns */
    double begin;
    int64_t spans;
    const char *phase; /* borrows, NULL between phases */
    double phase_begin;
};

static const char *const lane_texts[LANE_COUNT] = {"steps", "phases", "operations, host",
                                                   "operations, device"};

enum status timeline_open(struct timeline **out, const char *path, struct error *err)
{
    struct timeline *t;
    size_t len = strlen(path) + 1;
    *out = NULL;
    TRY(mem_alloc((void **)&t, 1, sizeof *t, err));
    enum status status = mem_alloc((void **)&t->path, len, 1, err);
    if (status != STATUS_OK) {
        mem_free(t);
        return status;
    }
    memcpy(t->path, path, len);
    t->file = fopen(path, "w");
    if (t->file == NULL) {
        status = error_set(err, STATUS_CANTCREATE, "%s: cannot create the timeline: %s", path,
                           strerror(errno));
        mem_free(t->path);
        mem_free(t);
        return status;
    }
    t->begin = clock_seconds();
    fprintf(t->file, "[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":"
                     "\"deq\"}}");
    for (int lane = 0; lane < LANE_COUNT; lane++)
        fprintf(t->file,
                ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":"
                "\"%s\"}}",
                lane, lane_texts[lane]);
    *out = t;
    return STATUS_OK;
}

enum status timeline_close(struct timeline *t, struct error *err)
{
    enum status status = STATUS_OK;
    if (t == NULL)
        return STATUS_OK;
    timeline_phase(t, NULL);
    fputs("\n]\n", t->file);
    bool failed = ferror(t->file) != 0;
    if (fclose(t->file) != 0 || failed)
        status = error_set(err, STATUS_IO, "%s: cannot write the timeline: %s", t->path,
                           errno != 0 ? strerror(errno) : "the file is incomplete");
    mem_free(t->path);
    mem_free(t);
    return status;
}

void timeline_add(struct timeline *t, enum timeline_lane lane, const char *name, double start,
                  double seconds, double flops, double bytes)
{
    if (t->spans++ >= TIMELINE_MOST)
        return;
    fprintf(t->file,
            ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f", name,
            (int)lane, 1e6 * (start - t->begin), 1e6 * seconds);
    if (flops > 0 || bytes > 0)
        fprintf(t->file, ",\"args\":{\"flops\":%.0f,\"bytes\":%.0f}", flops, bytes);
    fputs("}", t->file);
}

void timeline_phase(struct timeline *t, const char *name)
{
    double now = clock_seconds();
    if (t->phase != NULL)
        timeline_add(t, LANE_PHASES, t->phase, t->phase_begin, now - t->phase_begin, 0, 0);
    t->phase = name;
    t->phase_begin = now;
}

void timeline_step(struct timeline *t, double start, double seconds)
{
    timeline_phase(t, NULL);
    timeline_add(t, LANE_STEPS, "step", start, seconds, 0, 0);
}

bool timeline_is_full(const struct timeline *t)
{
    return t->spans > TIMELINE_MOST;
}
