/* Times calls by pairs of events in the stream.
 *
 * An event is read when the device has passed it, so the seconds of calls are known later than the
 * calls. They are added to the statistics when the host waits for the device anyway, or when all
 * events are in use. An operation of several kernels that are shorter than their launches counts
 * as long as the launches, some microseconds each. */
#include "call_times.h"

#include "queue.h"

#include <new>

enum { PAIRS = 2048 };

struct pair {
    cudaEvent_t begin, end; /* owns */
    enum op_id id;
};

struct call_times {
    struct pair pair[PAIRS];
    int used;
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
    delete t;
    cuda->times = NULL;
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
    }
    t->used = 0;
}

void call_begins(struct backend *be, enum op_id id)
{
    struct call_times *t = cuda_of(be)->times;
    if (t == NULL)
        return;
    if (t->used == PAIRS)
        read_pairs(be);
    t->pair[t->used].id = id;
    cuda_note(be, id, cudaEventRecord(t->pair[t->used].begin, cuda_of(be)->stream));
}

void call_ends(struct backend *be)
{
    struct call_times *t = cuda_of(be)->times;
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
    for (struct pair &p : cuda->times->pair)
        if (cudaEventCreate(&p.begin) != cudaSuccess || cudaEventCreate(&p.end) != cudaSuccess) {
            call_times_close(cuda);
            return error_set(err, STATUS_DEVICE, "cannot make %d CUDA events", 2 * PAIRS);
        }
    return STATUS_OK;
}

const struct device_clock cuda_clock = {time_calls, settle};
