/* Stream capture and graphs. The nodes of a graph run in any order that its edges allow. Ascending
 * takes the oldest node that can run, descending the newest, shuffled any. */
#include "emu/stream.h"

#include <algorithm>
#include <string>

struct CUgraph_st {
    std::vector<emu_node> nodes;
};

struct CUgraphExec_st {
    std::shared_ptr<const std::vector<emu_node>> nodes;
};

/* Whether this call, which records or launches a graph, is one of those to be refused. */
static bool told_to_refuse()
{
    emu_config &c = emu_conf();
    return c.fail_capture > 0 && ++c.capture_calls % c.fail_capture == 0;
}

cudaError_t emu_capture_add(CUstream_st *s, const char *what, std::function<void()> run)
{
    if (told_to_refuse()) {
        s->capture->invalid = true;
        return emu_refuse(cudaErrorStreamCaptureUnsupported, "%s: told to", what);
    }
    if (s->capture->invalid)
        return emu_refuse(cudaErrorStreamCaptureInvalidated, "%s: the capture is invalid", what);
    s->capture->nodes.push_back({std::move(run), what, s->last});
    s->last = {s->capture->nodes.size() - 1};
    return cudaSuccess;
}

cudaError_t emu_capture_join(CUstream_st *s, const CUevent_st *event)
{
    if (s->capture != nullptr && s->capture != event->capture)
        return emu_refuse(cudaErrorStreamCaptureMerge, "two captures would become one");
    if (s->capture == nullptr) {
        s->capture = event->capture;
        s->last.clear();
        event->capture->joined.push_back(s);
    }
    s->last.insert(s->last.end(), event->nodes.begin(), event->nodes.end());
    return cudaSuccess;
}

static void run_nodes(const std::vector<emu_node> &nodes)
{
    std::vector<bool> done(nodes.size());
    for (size_t left = nodes.size(); left > 0; left--) {
        std::vector<size_t> ready;
        for (size_t i = 0; i < nodes.size(); i++)
            if (!done[i] && std::all_of(nodes[i].after.begin(), nodes[i].after.end(),
                                        [&done](size_t k) { return done[k]; }))
                ready.push_back(i);
        uint32_t pick = 0;
        if (emu_conf().order == EMU_DESCENDING)
            pick = static_cast<uint32_t>(ready.size() - 1);
        else if (emu_conf().order == EMU_SHUFFLED)
            pick = static_cast<uint32_t>(emu_below(ready.size()));
        if (emu_health() == cudaSuccess)
            nodes[ready[pick]].run();
        done[ready[pick]] = true;
    }
}

/* Marks the nodes that `from` come after, themselves included. It is not recursive, because a chain
 * of calls may be longer than a stack is deep. */
static void mark(const std::vector<emu_node> &nodes, std::vector<size_t> from,
                 std::vector<bool> &seen)
{
    while (!from.empty()) {
        size_t i = from.back();
        from.pop_back();
        if (seen[i])
            continue;
        seen[i] = true;
        from.insert(from.end(), nodes[i].after.begin(), nodes[i].after.end());
    }
}

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    if (told_to_refuse())
        return emu_refuse(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture: told to");
    CUstream_st *s = emu_stream(stream);
    if (s == emu_stream(nullptr) || s->capture != nullptr)
        return emu_refuse(cudaErrorStreamCaptureUnsupported,
                          "cudaStreamBeginCapture on the default stream, or twice");
    s->capture = std::make_shared<emu_capture>();
    s->capture->origin = s;
    s->capture->joined = {s};
    s->last.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    CUstream_st *s = emu_stream(stream);
    emu_capture_ref capture = s->capture;
    *graph = nullptr;
    if (capture == nullptr || capture->origin != s)
        return emu_refuse(cudaErrorStreamCaptureUnmatched, "cudaStreamEndCapture: not begun here");
    std::vector<bool> seen(capture->nodes.size());
    mark(capture->nodes, s->last, seen);
    for (CUstream_st *joined : capture->joined) {
        joined->capture = nullptr;
        joined->last.clear();
    }
    if (told_to_refuse())
        capture->invalid = true;
    if (capture->invalid)
        return emu_refuse(cudaErrorStreamCaptureInvalidated,
                          "cudaStreamEndCapture: a forbidden call invalidated it");
    auto loose = std::find(seen.begin(), seen.end(), false);
    if (loose != seen.end())
        return emu_refuse(cudaErrorStreamCaptureUnjoined,
                          "cudaStreamEndCapture: nobody waits for %s on another stream",
                          capture->nodes[static_cast<size_t>(loose - seen.begin())].what.c_str());
    *graph = new CUgraph_st{capture->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = nullptr;
    if (told_to_refuse())
        return emu_refuse(cudaErrorMemoryAllocation, "cudaGraphInstantiate: told to");
    emu_conf().counts.instantiated++;
    *exec = new CUgraphExec_st{std::make_shared<const std::vector<emu_node>>(graph->nodes)};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (told_to_refuse())
        return emu_refuse(cudaErrorMemoryAllocation, "cudaGraphLaunch: told to");
    auto nodes = exec->nodes;
    return emu_enqueue(stream, "cudaGraphLaunch", [nodes] {
        struct emu_counts &counts = emu_conf().counts;
        int64_t before = counts.launches;
        counts.graphs++;
        run_nodes(*nodes);
        counts.graph_launches += counts.launches - before;
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

/* A launch that is queued keeps its nodes. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
}
