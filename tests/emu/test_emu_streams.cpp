/* Streams run late, events order them and nothing else does. Graphs replay what was captured. Each
 * kind of missing synchronisation must show in at least one order, and right use in none. */
#include "emu/planted.h"

static __global__ void k_set(float *x, float value)
{
    x[0] = value;
}

static __global__ void k_copy(float *out, const float *x)
{
    out[0] = x[0];
}

static __global__ void k_add(float *x, float value)
{
    x[0] += value;
}

static cudaStream_t make_stream()
{
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

static cudaEvent_t make_event()
{
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

/* Runs check() in all orders and tells how often it held. */
static int times_true(bool (*check)(void))
{
    int held = 0;
    for (int order = 0; order < EMU_ORDERS; order++) {
        for (uint64_t seed = 1; seed <= (order == EMU_SHUFFLED ? 8 : 1); seed++) {
            emu_set_order(static_cast<emu_order>(order), seed);
            held += check();
        }
    }
    emu_set_order(EMU_ASCENDING, 1);
    return held;
}

enum { ALL_TIMES = 10 };

/* ---- Between host and device ----------------------------------------------------------------- */
static bool download(bool synchronise)
{
    cudaStream_t s = make_stream();
    float *x = device_floats(1, 0), host = 3;
    LAUNCH(k_set, 1, 1, 0, s, x, 7.0f);
    check_cuda(cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, s));
    if (synchronise)
        check_cuda(cudaStreamSynchronize(s));
    bool good = host == 7;
    bool spoilt = isnan(host);
    assert_true(good || spoilt); /* never the old number, which could pass for a result */
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
    return good;
}

/* The source of an upload is changed before the copy is known to be done. */
static bool upload(bool wait)
{
    cudaStream_t s = make_stream();
    cudaEvent_t copied = make_event();
    float *x = device_floats(1, 0), *staging = nullptr;
    check_cuda(cudaMallocHost(&staging, sizeof *staging));
    *staging = 7;
    check_cuda(cudaMemcpyAsync(x, staging, sizeof *x, cudaMemcpyHostToDevice, s));
    check_cuda(cudaEventRecord(copied, s));
    if (wait)
        check_cuda(cudaEventSynchronize(copied));
    *staging = 8;
    check_cuda(cudaStreamSynchronize(s));
    bool good = device_float(x) == 7;
    check_cuda(cudaFreeHost(staging));
    check_cuda(cudaEventDestroy(copied));
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
    return good;
}

static void host_must_synchronise(void **)
{
    assert_int_equal(times_true([] { return download(true); }), ALL_TIMES);
    assert_int_equal(times_true([] { return download(false); }), 0);
    assert_int_equal(times_true([] { return upload(true); }), ALL_TIMES);
    assert_int_equal(times_true([] { return upload(false); }), 0);
}

/* ---- Between streams ------------------------------------------------------------------------- */
/* b copies what a has written. */
static bool read_after_write(bool wait)
{
    cudaStream_t a = make_stream(), b = make_stream();
    cudaEvent_t written = make_event();
    float *x = device_floats(1, 0), *out = device_floats(1, 0);
    LAUNCH(k_set, 1, 1, 0, a, x, 7.0f);
    check_cuda(cudaEventRecord(written, a));
    if (wait)
        check_cuda(cudaStreamWaitEvent(b, written, 0));
    LAUNCH(k_copy, 1, 1, 0, b, out, x);
    check_cuda(cudaStreamSynchronize(b));
    bool good = device_float(out) == 7;
    check_cuda(cudaDeviceSynchronize());
    check_cuda(cudaEventDestroy(written));
    check_cuda(cudaStreamDestroy(a));
    check_cuda(cudaStreamDestroy(b));
    check_cuda(cudaFree(x));
    check_cuda(cudaFree(out));
    return good;
}

/* a reads, then b writes, which is wrong only if b is too early. */
static bool write_after_read(bool wait)
{
    cudaStream_t a = make_stream(), b = make_stream();
    cudaEvent_t read = make_event();
    float *x = device_floats(1, 7), *out = device_floats(1, 0);
    LAUNCH(k_copy, 1, 1, 0, a, out, x);
    check_cuda(cudaEventRecord(read, a));
    if (wait)
        check_cuda(cudaStreamWaitEvent(b, read, 0));
    LAUNCH(k_set, 1, 1, 0, b, x, 8.0f);
    check_cuda(cudaStreamSynchronize(a));
    bool good = device_float(out) == 7;
    check_cuda(cudaDeviceSynchronize());
    check_cuda(cudaEventDestroy(read));
    check_cuda(cudaStreamDestroy(a));
    check_cuda(cudaStreamDestroy(b));
    check_cuda(cudaFree(x));
    check_cuda(cudaFree(out));
    return good;
}

static void streams_need_events(void **)
{
    assert_int_equal(times_true([] { return read_after_write(true); }), ALL_TIMES);
    assert_true(times_true([] { return read_after_write(false); }) < ALL_TIMES);
    assert_int_equal(times_true([] { return write_after_read(true); }), ALL_TIMES);
    assert_true(times_true([] { return write_after_read(false); }) < ALL_TIMES);
}

/* The default stream waits for ordinary streams, not for independent ones. */
static bool default_stream_follows(unsigned flags)
{
    cudaStream_t s = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&s, flags));
    float *x = device_floats(1, 0);
    LAUNCH(k_set, 1, 1, 0, s, x, 7.0f);
    bool good = device_float(x) == 7; /* copies on the default stream */
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
    return good;
}

static void default_stream_is_ordered_with_blocking_ones(void **)
{
    assert_int_equal(times_true([] { return default_stream_follows(cudaStreamDefault); }),
                     ALL_TIMES);
    assert_true(times_true([] { return default_stream_follows(cudaStreamNonBlocking); }) <
                ALL_TIMES);
}

static void queries_come_to_an_end(void **)
{
    cudaStream_t s = make_stream();
    cudaEvent_t set = make_event();
    float *x = device_floats(1, 0);
    LAUNCH(k_set, 1, 1, 0, s, x, 7.0f);
    check_cuda(cudaEventRecord(set, s));
    assert_int_equal(cudaEventQuery(set), cudaErrorNotReady);
    int asked = 0;
    while (cudaEventQuery(set) == cudaErrorNotReady && asked < 10)
        asked++;
    assert_true(asked < 10);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady); /* it is left behind */
    assert_true(device_float(x) == 7);
    check_cuda(cudaEventDestroy(set));
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
}

/* ---- Graphs ---------------------------------------------------------------------------------- */
/* Captures x = 1 on one branch and y = 2 on another, then out = x and out += 10. */
static cudaGraphExec_t capture(cudaStream_t s, float *x, float *y, float *out, bool join)
{
    cudaStream_t side = make_stream();
    cudaEvent_t fork = make_event(), joined = make_event();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    check_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    check_cuda(cudaEventRecord(fork, s));
    check_cuda(cudaStreamWaitEvent(side, fork, 0));
    LAUNCH(k_set, 1, 1, 0, s, x, 1.0f);
    LAUNCH(k_set, 1, 1, 0, side, y, 2.0f);
    check_cuda(cudaEventRecord(joined, side));
    if (join)
        check_cuda(cudaStreamWaitEvent(s, joined, 0));
    LAUNCH(k_copy, 1, 1, 0, s, out, x);
    LAUNCH(k_add, 1, 1, 0, s, out, 10.0f);
    cudaError_t status = cudaStreamEndCapture(s, &graph);
    assert_int_equal(status, join ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
    if (join) {
        check_cuda(cudaGraphInstantiate(&exec, graph, 0));
        check_cuda(cudaGraphDestroy(graph));
    }
    cudaGetLastError();
    check_cuda(cudaEventDestroy(fork));
    check_cuda(cudaEventDestroy(joined));
    check_cuda(cudaStreamDestroy(side));
    return exec;
}

static bool graph_replays()
{
    cudaStream_t s = make_stream();
    float *x = device_floats(1, 0), *y = device_floats(1, 0), *out = device_floats(1, 0);
    cudaGraphExec_t exec = capture(s, x, y, out, true);
    bool good = device_float(out) == 0; /* captured, not run */
    for (int i = 0; i < 2; i++) {
        LAUNCH(k_set, 1, 1, 0, s, x, -1.0f);
        check_cuda(cudaGraphLaunch(exec, s));
        check_cuda(cudaStreamSynchronize(s));
        good = good && device_float(out) == 11 && device_float(y) == 2;
    }
    check_cuda(cudaGraphExecDestroy(exec));
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
    check_cuda(cudaFree(y));
    check_cuda(cudaFree(out));
    return good;
}

static void graphs_replay_what_was_captured(void **)
{
    assert_int_equal(times_true(graph_replays), ALL_TIMES);
    cudaStream_t s = make_stream();
    float *x = device_floats(1, 0);
    assert_null(capture(s, x, x, x, false));
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
}

static void captures_forbid_synchronisation(void **)
{
    cudaStream_t s = make_stream();
    cudaGraph_t graph = nullptr;
    void *p = nullptr;
    float *x = device_floats(1, 0);
    check_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    float host = 0;
    check_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaMemcpy(&host, x, sizeof host, cudaMemcpyDeviceToHost),
                     cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    check_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaMalloc(&p, 16), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    cudaGetLastError();
    check_cuda(cudaStreamDestroy(s));
    check_cuda(cudaFree(x));
}

/* ---- Faults of the device -------------------------------------------------------------------- */
static void memory_runs_out(void **)
{
    void *p = nullptr;
    emu_fail_malloc(2);
    check_cuda(cudaMalloc(&p, 16));
    check_cuda(cudaFree(p));
    assert_int_equal(cudaMalloc(&p, 16), cudaErrorMemoryAllocation);
    assert_null(p);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    check_cuda(cudaMalloc(&p, 16));
    check_cuda(cudaFree(p));
    assert_int_equal(cudaMalloc(&p, size_t(1) << 50), cudaErrorMemoryAllocation);
    cudaGetLastError();
}

static void device_is_lost(void **)
{
    float *x = device_floats(1, 0);
    emu_lose_device(2);
    LAUNCH(k_set, 1, 1, 0, nullptr, x, 1.0f);
    LAUNCH(k_set, 1, 1, 0, nullptr, x, 2.0f);
    check_cuda(cudaGetLastError()); /* the launch itself is fine */
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaFree(x), cudaErrorLaunchFailure);
    emu_restart();
    check_cuda(cudaFree(device_floats(1, 0)));
}

/* What the environment asks for is read at the first call, so in a child. */
static int count_devices(const char *name, const char *value)
{
    setenv(name, value, 1);
    int count = 0;
    return static_cast<int>(cudaGetDeviceCount(&count));
}

static void old_driver(void)
{
    if (count_devices("DEQ_EMU_DRIVER", "11080") == cudaErrorInsufficientDriver)
        abort();
}

static void no_device(void)
{
    if (count_devices("CUDA_VISIBLE_DEVICES", "") == cudaErrorNoDevice)
        abort();
}

static void old_chip(void)
{
    setenv("DEQ_EMU_CC", "7.5", 1);
    float *x = device_floats(1, 0);
    LAUNCH(k_set, 1, 1, 0, nullptr, x, 1.0f);
    if (cudaGetLastError() == cudaErrorNoKernelImageForDevice)
        abort();
}

/* These come first, before this process has made a call. */
static void environment_is_heard(void **)
{
    char said[256];
    assert_true(ends_badly(old_driver, said, sizeof said));
    assert_true(ends_badly(no_device, said, sizeof said));
    assert_true(ends_badly(old_chip, said, sizeof said));
}

int main(void)
{
    setenv("DEQ_EMU_QUIET", "1", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment_is_heard),
        cmocka_unit_test(host_must_synchronise),
        cmocka_unit_test(streams_need_events),
        cmocka_unit_test(default_stream_is_ordered_with_blocking_ones),
        cmocka_unit_test(queries_come_to_an_end),
        cmocka_unit_test(graphs_replay_what_was_captured),
        cmocka_unit_test(captures_forbid_synchronisation),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(device_is_lost),
    };
    return cmocka_run_group_tests_name("streams, graphs and faults", tests, nullptr, nullptr);
}
