/* What stream.cpp, which runs streams and events, and graph.cpp, which captures and replays,
 * share. */
#ifndef DEQ_TESTS_EMU_STREAM_H
#define DEQ_TESTS_EMU_STREAM_H

#include "emu/internal.h"
#include <deque>
#include <memory>
#include <string>
#include <vector>

struct emu_work;
typedef std::shared_ptr<emu_work> emu_work_ref;

/* A piece of work in a stream. It comes after the one before it there, and after `before`. */
struct emu_work {
    std::function<void()> run;
    std::vector<emu_work_ref> before;
    CUstream_st *stream;
    const char *read; /* host memory it will read, or NULL */
    size_t read_bytes;
    bool done;

    static emu_work finished()
    {
        emu_work w = {};
        w.done = true;
        return w;
    }
};

/* A piece of work in a graph. It comes after the nodes `after`. */
struct emu_node {
    std::function<void()> run;
    std::string what;
    std::vector<size_t> after;
};

struct emu_capture {
    CUstream_st *origin;
    std::vector<CUstream_st *> joined; /* the origin too */
    std::vector<emu_node> nodes;
    bool invalid;
};
typedef std::shared_ptr<emu_capture> emu_capture_ref;

struct CUstream_st {
    std::deque<emu_work_ref> queue;
    bool independent; /* of the default stream */
    emu_capture_ref capture;
    std::vector<size_t> last; /* while captured, the nodes that the next one comes after */
};

struct CUevent_st {
    bool timed;
    emu_work_ref work; /* the last record of it, or NULL */
    std::shared_ptr<double> when;
    emu_capture_ref capture; /* the capture that it was recorded in, if any */
    std::vector<size_t> nodes;
};

/* The stream behind a handle. */
CUstream_st *emu_stream(cudaStream_t stream);
cudaError_t emu_capture_add(CUstream_st *s, const char *what, std::function<void()> run);
/* Stream s, captured from now on, waits for an event of the capture. */
cudaError_t emu_capture_join(CUstream_st *s, const CUevent_st *event);
/* Work is queued that will read some of these bytes of the host. */
bool emu_pending_read(const void *p, size_t bytes);

#endif
