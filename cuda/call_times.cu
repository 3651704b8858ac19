/* Times calls by pairs of events in the stream.
 *
 * An event is read when the device has passed it, so the seconds of calls are known later than the
 * calls. They are added to the statistics when the host waits for the device anyway, or when all
 * events are in use. An operation of several kernels that are shorter than their launches counts
 * as long as the launches, some microseconds each. */
#include "call_times.h"

#include "queue.h"
#include "ranges.h"

extern "C" {
#include "base/clock.h"
}
#include <new>

enum { PAIRS = 2048 };

struct pair {
    cudaEvent_t begin, end; /* owns */
    enum op_id id;
};

struct call_times {
    struct pair pair[PAIRS];
    int used;
    cudaEvent_t origin; /* owns; with a timeline the device passed it before the first pair ... */
    double origin_time; /* ... at this time of the host's clock */
};

void call_times_close(struct cuda *cuda)
{
    struct call_times *t = cuda->times;
    if (t == NULL)
        return;
    for (struct pair &p : t->pair) {
        if (p.begin != NULL)
            cudaEventDestroy(p.begin);
        if (p.end != NULL)
            cudaEventDestroy(p.end);
    }
    if (t->origin != NULL)
        cudaEventDestroy(t->origin);
    delete t;
    cuda->times = NULL;
}

/* Sets both clocks beside each other. The stream is empty, as all pairs so far have been read. */
static void set_origin(struct backend *be, enum op_id id)
{
    struct call_times *t = cuda_of(be)->times;
    cuda_note(be, id, cudaEventRecord(t->origin, cuda_of(be)->stream));
    cuda_note(be, id, cudaEventSynchronize(t->origin));
    t->origin_time = clock_seconds();
}

static void show_pair(struct backend *be, const struct pair *p, double seconds)
{
    struct call_times *t = cuda_of(be)->times;
    float since = 0;
    if (be->timeline == NULL || t->origin_time == 0 ||
        cudaEventElapsedTime(&since, t->origin, p->begin) != cudaSuccess)
        return;
    timeline_add(be->timeline, LANE_DEVICE, op_name(p->id), t->origin_time + 1e-3 * (double)since,
                 seconds, 0, 0);
}

/* Adds the seconds of all pairs to the statistics. */
static void read_pairs(struct backend *be)
{
    struct call_times *t = cuda_of(be)->times;
    if (t->used == 0)
        return;
    cuda_note(be, t->pair[t->used - 1].id, cudaEventSynchronize(t->pair[t->used - 1].end));
    for (int i = 0; i < t->used && be->fault[0] == '\0'; i++) {
        float ms = 0;
        struct pair *p = &t->pair[i];
        cuda_note(be, p->id, cudaEventElapsedTime(&ms, p->begin, p->end));
        be->stat[p->id].seconds += 1e-3 * (double)ms;
        show_pair(be, p, 1e-3 * (double)ms);
    }
    t->used = 0;
}

void call_begins(struct backend *be, enum op_id id)
{
    struct call_times *t = cuda_of(be)->times;
    range_begins(op_name(id));
    if (t == NULL)
        return;
    if (t->used == PAIRS)
        read_pairs(be);
    if (t->used == 0 && be->timeline != NULL)
        set_origin(be, id);
    t->pair[t->used].id = id;
    cuda_note(be, id, cudaEventRecord(t->pair[t->used].begin, cuda_of(be)->stream));
}

void call_ends(struct backend *be)
{
    struct call_times *t = cuda_of(be)->times;
    range_ends();
    if (t == NULL)
        return;
    struct pair *p = &t->pair[t->used++];
    cuda_note(be, p->id, cudaEventRecord(p->end, cuda_of(be)->stream));
}

static void settle(struct backend *be)
{
    queue_run(be);
    read_pairs(be);
}

static enum status time_calls(struct backend *be, bool time, struct error *err)
{
    struct cuda *cuda = cuda_of(be);
    queue_run(be);
    if (!time) {
        read_pairs(be);
        call_times_close(cuda);
        return STATUS_OK;
    }
    cuda->times = new (std::nothrow) struct call_times();
    if (cuda->times == NULL)
        return error_set(err, STATUS_NOMEM, "no memory to time operations");
    bool good = cudaEventCreate(&cuda->times->origin) == cudaSuccess;
    for (struct pair &p : cuda->times->pair)
        good = good && cudaEventCreate(&p.begin) == cudaSuccess &&
               cudaEventCreate(&p.end) == cudaSuccess;
    if (!good) {
        call_times_close(cuda);
        return error_set(err, STATUS_DEVICE, "cannot make %d CUDA events", 2 * PAIRS);
    }
    return STATUS_OK;
}

const struct device_clock cuda_clock = {time_calls, settle};
