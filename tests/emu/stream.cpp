/* Streams, which are queues of work that runs as late as it may. Nothing happens at the call. A
 * synchronisation runs the stream it names, and of the others only what events demand. What else
 * runs is at the emulator's discretion, so that a program which relies on an order it did not ask
 * for fails in one of these.
 *
 *   ascending    nothing that is not demanded, and with all streams the oldest stream first
 *   descending   everything that can run, the newest stream first
 *   shuffled     pieces of work of all streams in random turns
 *
 * The legacy default stream (0) waits for all streams created without cudaStreamNonBlocking and
 * they for it. */
#include "emu/stream.h"

#include <algorithm>
#include <stdlib.h>

static std::vector<CUstream_st *> streams; /* as they were created, the default's first */
static bool draining;

static CUstream_st *default_stream()
{
    static CUstream_st legacy = {};
    if (streams.empty())
        streams.push_back(&legacy);
    return streams[0];
}

CUstream_st *emu_stream(cudaStream_t stream)
{
    CUstream_st *s = default_stream();
    if (stream == nullptr || stream == cudaStreamLegacy)
        return s;
    if (std::find(streams.begin() + 1, streams.end(), stream) == streams.end())
        emu_die("%p is no stream, or is destroyed", static_cast<void *>(stream));
    return stream;
}

/* ---- Running --------------------------------------------------------------------------------- */
static bool can_run(const emu_work &work)
{
    return std::all_of(work.before.begin(), work.before.end(),
                       [](const emu_work_ref &w) { return w->done; });
}

static void run_front(CUstream_st *s)
{
    emu_work_ref work = s->queue.front();
    s->queue.pop_front();
    if (emu_health() == cudaSuccess)
        work->run();
    work->run = nullptr;
    work->before.clear();
    work->done = true;
}

/* Runs `work` and what must come before it. It is a copy, since the queue that held it lets go of
 * it. */
static void run_until(const emu_work_ref work)
{
    while (!work->done) {
        CUstream_st *s = work->stream;
        std::vector<emu_work_ref> before = s->queue.front()->before;
        for (const emu_work_ref &w : before)
            run_until(w);
        run_front(s);
    }
}

/* Runs one piece of work of a stream that can go on, at random. False if none can. */
static bool run_any()
{
    std::vector<CUstream_st *> ready;
    for (CUstream_st *s : streams)
        if (!s->queue.empty() && can_run(*s->queue.front()))
            ready.push_back(s);
    if (ready.empty())
        return false;
    run_front(ready[emu_below(ready.size())]);
    return true;
}

static void run_all()
{
    if (emu_conf().order == EMU_SHUFFLED) {
        while (run_any())
            continue;
        return;
    }
    std::vector<CUstream_st *> order = streams;
    if (emu_conf().order == EMU_DESCENDING)
        std::reverse(order.begin(), order.end());
    for (CUstream_st *s : order)
        while (!s->queue.empty())
            run_until(s->queue.back());
}

/* Brings about that `work` is done, or everything if it is NULL. */
static void advance(const emu_work_ref work)
{
    if (draining || (work != nullptr && work->done))
        return;
    draining = true;
    emu_watch_faults();
    if (work == nullptr || emu_conf().order == EMU_DESCENDING)
        run_all();
    while (work != nullptr && emu_conf().order == EMU_SHUFFLED && !work->done && run_any())
        continue;
    if (work != nullptr)
        run_until(work);
    draining = false;
}

void emu_drain()
{
    advance(nullptr);
}

/* ---- Queueing -------------------------------------------------------------------------------- */
static emu_work_ref push(CUstream_st *s, std::function<void()> run)
{
    auto work = std::make_shared<emu_work>();
    work->run = std::move(run);
    work->stream = s;
    auto follow = [&work](const CUstream_st *other) {
        if (!other->queue.empty())
            work->before.push_back(other->queue.back());
    };
    if (s == streams[0]) {
        for (const CUstream_st *other : streams)
            if (other != s && !other->independent)
                follow(other);
    } else if (!s->independent) {
        follow(streams[0]);
    }
    s->queue.push_back(work);
    return work;
}

/* A capture sees everything that could involve its stream through the default stream. */
static bool implicit_in_capture(const CUstream_st *s)
{
    return s == streams[0] && std::any_of(streams.begin() + 1, streams.end(), [](CUstream_st *o) {
               return o->capture != nullptr && !o->independent;
           });
}

cudaError_t emu_enqueue(cudaStream_t stream, const char *what, std::function<void()> run,
                        const void *read, size_t bytes)
{
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    CUstream_st *s = emu_stream(stream);
    if (implicit_in_capture(s))
        return emu_refuse(cudaErrorStreamCaptureImplicit,
                          "%s on the default stream while another stream is captured", what);
    if (s->capture != nullptr)
        return emu_capture_add(s, what, std::move(run));
    emu_work_ref work = push(s, std::move(run));
    work->read = static_cast<const char *>(read);
    work->read_bytes = bytes;
    return cudaSuccess;
}

bool emu_pending_read(const void *p, size_t bytes)
{
    const char *from = static_cast<const char *>(p);
    for (const CUstream_st *s : streams)
        for (const emu_work_ref &w : s->queue)
            if (w->read != nullptr && w->read < from + bytes && from < w->read + w->read_bytes)
                return true;
    return false;
}

bool emu_capture_forbids()
{
    for (CUstream_st *s : streams)
        if (s->capture != nullptr) {
            s->capture->invalid = true;
            return true;
        }
    return false;
}

void emu_streams_reset()
{
    for (CUstream_st *s : streams) {
        s->queue.clear();
        s->capture = nullptr;
    }
}

/* ---- The runtime's functions ----------------------------------------------------------------- */
#define CHECK_HEALTH()                      \
    do {                                    \
        cudaError_t health_ = emu_health(); \
        if (health_ != cudaSuccess)         \
            return health_;                 \
    } while (0)

/* Waits for `work`, or for everything if it is NULL. The device may be lost on the way. */
static cudaError_t synchronise(const char *what, const emu_work_ref &work)
{
    CHECK_HEALTH();
    if (emu_capture_forbids())
        return emu_refuse(cudaErrorStreamCaptureUnsupported, "%s during a capture", what);
    emu_conf().counts.syncs++;
    advance(work);
    return emu_health();
}

extern "C" {

cudaError_t cudaDeviceSynchronize(void)
{
    return synchronise("cudaDeviceSynchronize", nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    CHECK_HEALTH();
    default_stream();
    *out = new CUstream_st{};
    (*out)->independent = (flags & cudaStreamNonBlocking) != 0;
    streams.push_back(*out);
    return cudaSuccess;
}

/* Work that is queued is still done. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    CUstream_st *s = emu_stream(stream);
    if (s == streams[0])
        return emu_refuse(cudaErrorInvalidResourceHandle, "the default stream was destroyed");
    if (!s->queue.empty())
        advance(s->queue.back());
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return emu_health();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    CHECK_HEALTH();
    CUstream_st *s = emu_stream(stream);
    if (s == streams[0]) /* An empty piece of work waits for all that block the stream. */
        push(s, [] {});
    return synchronise("cudaStreamSynchronize",
                       s->queue.empty() ? std::make_shared<emu_work>(emu_work::finished())
                                        : s->queue.back());
}

/* ---- Events ---------------------------------------------------------------------------------- */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    CHECK_HEALTH();
    *event = new CUevent_st{};
    (*event)->timed = (flags & cudaEventDisableTiming) == 0;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

/* Work that waits for it keeps what it needs. */
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    CHECK_HEALTH();
    CUstream_st *s = emu_stream(stream);
    if (s->capture != nullptr) {
        event->work = nullptr;
        event->capture = s->capture;
        event->nodes = s->last;
        return cudaSuccess;
    }
    event->capture = nullptr;
    auto when = std::make_shared<double>(0);
    event->when = when;
    event->work = push(s, [when] { *when = emu_conf().counts.device_ms; });
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    CHECK_HEALTH();
    CUstream_st *s = emu_stream(stream);
    if (event->capture != nullptr)
        return emu_capture_join(s, event);
    if (s->capture != nullptr && event->work != nullptr) {
        s->capture->invalid = true;
        return emu_refuse(cudaErrorStreamCaptureIsolation,
                          "a captured stream waits for an event outside of the capture");
    }
    if (event->work != nullptr && !event->work->done)
        push(s, [] {})->before.push_back(event->work);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    CHECK_HEALTH();
    if (event->capture != nullptr)
        return emu_refuse(cudaErrorCapturedEvent, "cudaEventSynchronize on a captured event");
    if (event->work == nullptr)
        return cudaSuccess;
    return synchronise("cudaEventSynchronize", event->work);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    CHECK_HEALTH();
    if (event->capture != nullptr)
        return emu_refuse(cudaErrorCapturedEvent, "cudaEventQuery on a captured event");
    if (event->work == nullptr || event->work->done)
        return cudaSuccess;
    advance(event->work->stream->queue.front());
    return emu_latch(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    CHECK_HEALTH();
    if (!start->timed || !end->timed || start->work == nullptr || end->work == nullptr)
        return emu_refuse(cudaErrorInvalidResourceHandle,
                          "cudaEventElapsedTime: an event is not recorded, or without timing");
    if (!start->work->done || !end->work->done)
        return cudaErrorNotReady;
    *ms = static_cast<float>(*end->when - *start->when);
    return cudaSuccess;
}
}
