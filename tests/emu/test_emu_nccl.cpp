/* What the calls of the emulated NCCL do between processes, and what it catches. Processes are
 * children here. */
#include "emu/internal.h"
#include "emu/planted.h"

#include <vector>

extern "C" {
#include "cuda/nccl_load.h"
}

enum { RANKS = 3, COUNT = 100000 /* more than travels at once */ };

static ncclUniqueId invitation;
static ncclComm_t comm;

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "wrong: %s\n", what);
    _exit(1);
}

/* A child of that rank runs work(rank). */
static pid_t start(int rank, int ranks, void (*work)(int rank))
{
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child != 0)
        return child;
    signal(SIGABRT, SIG_DFL);
    must(ncclCommInitRank(&comm, ranks, invitation, rank) == ncclSuccess, "join");
    work(rank);
    must(ncclCommDestroy(comm) == ncclSuccess, "leave");
    _exit(0);
}

/* How many of the children that run work(rank) end badly. The invitation is made in a child too,
 * whose environment is the caller's. */
static int run(int ranks, void (*work)(int rank))
{
    pid_t children[RANKS];
    int bad = 0, status = 0;
    assert_int_equal(ncclGetUniqueId(&invitation), ncclSuccess);
    for (int r = 0; r < ranks; r++)
        children[r] = start(r, ranks, work);
    for (int r = 0; r < ranks; r++) {
        waitpid(children[r], &status, 0);
        bad += !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    return bad;
}

/* What rank r sends at place i. Sums of these are exact. */
static float number(int r, size_t i)
{
    return static_cast<float>(i % 1000) + 1000.0f * static_cast<float>(r);
}

static float *filled(int rank, size_t count)
{
    float *p = nullptr;
    std::vector<float> host(count);
    for (size_t i = 0; i < count; i++)
        host[i] = number(rank, i);
    check_cuda(cudaMalloc(&p, count * sizeof *p));
    check_cuda(cudaMemcpy(p, host.data(), count * sizeof *p, cudaMemcpyHostToDevice));
    return p;
}

static std::vector<float> fetched(const float *p, size_t count)
{
    std::vector<float> host(count);
    check_cuda(cudaMemcpy(host.data(), p, count * sizeof *p, cudaMemcpyDeviceToHost));
    return host;
}

static float total(size_t i)
{
    float sum = 0;
    for (int r = 0; r < RANKS; r++)
        sum += number(r, i);
    return sum;
}

/* The own block gets its sum, then all blocks those of their ranks, in place and behind each other
 * on one stream. */
static void scatter_and_gather(int rank)
{
    float *p = filled(rank, RANKS * COUNT), *own = p + static_cast<size_t>(rank) * COUNT;
    ncclReduceScatter(p, own, COUNT, ncclFloat32, ncclSum, comm, nullptr);
    std::vector<float> got = fetched(p, RANKS * COUNT);
    for (size_t i = 0; i < got.size(); i++)
        must(got[i] == (static_cast<int>(i / COUNT) == rank ? total(i) : number(rank, i)), "sum");
    ncclAllGather(own, p, COUNT, ncclFloat32, comm, nullptr);
    got = fetched(p, RANKS * COUNT);
    for (size_t i = 0; i < got.size(); i++)
        must(got[i] == total(i), "all");
}

static void reduce_and_broadcast(int rank)
{
    float *p = filled(rank, COUNT);
    ncclGroupStart();
    ncclReduce(p, rank == 1 ? p : nullptr, COUNT, ncclFloat32, ncclSum, 1, comm, nullptr);
    ncclBroadcast(p, p, COUNT, ncclFloat32, 1, comm, nullptr);
    ncclGroupEnd();
    std::vector<float> got = fetched(p, COUNT);
    for (size_t i = 0; i < got.size(); i++)
        must(got[i] == total(i), "broadcast sum");
}

static void collectives_do_what_they_say(void **)
{
    assert_int_equal(run(RANKS, scatter_and_gather), 0);
    assert_int_equal(run(RANKS, reduce_and_broadcast), 0);
}

/* Nothing has happened until somebody waits, so a rank that reads too early does not see it. */
static void runs_late(int rank)
{
    float *p = filled(rank, 1), x = 0;
    cudaStream_t stream;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ncclReduce(p, p, 1, ncclFloat32, ncclSum, 0, comm, stream);
    check_cuda(cudaMemcpy(&x, p, sizeof x, cudaMemcpyDeviceToHost));
    must(x == number(rank, 0), "it ran early");
    check_cuda(cudaStreamSynchronize(stream));
    x = device_float(p);
    must(x == (rank == 0 ? number(0, 0) + number(1, 0) : number(1, 0)), "it did not run");
}

static void calls_run_late(void **)
{
    assert_int_equal(run(2, runs_late), 0);
}

/* --- what is caught --------------------------------------------------------------------------- */

static void refused(int rank)
{
    float *p = filled(rank, 10), host[10];
    must(ncclReduce(p, p, 11, ncclFloat32, ncclSum, 0, comm, nullptr) == ncclInvalidArgument,
         "too many numbers");
    must(ncclReduce(p, p, 10, ncclFloat32, ncclSum, 2, comm, nullptr) == ncclInvalidArgument,
         "no such root");
    must(ncclAllGather(p, p, 10, ncclFloat32, comm, nullptr) == ncclInvalidArgument,
         "no room for two");
    must(ncclBroadcast(host, host, 10, ncclFloat32, 0, comm, nullptr) == ncclInvalidArgument,
         "the host's memory");
}

static void another_count(int rank)
{
    float *p = filled(rank, 10);
    ncclReduce(p, p, rank == 0 ? 10 : 9, ncclFloat32, ncclSum, 0, comm, nullptr);
    cudaDeviceSynchronize();
}

static void another_call(int rank)
{
    float *p = filled(rank, 10);
    if (rank == 0)
        ncclReduce(p, p, 10, ncclFloat32, ncclSum, 0, comm, nullptr);
    else
        ncclBroadcast(p, p, 10, ncclFloat32, 0, comm, nullptr);
    cudaDeviceSynchronize();
}

static void no_call(int rank)
{
    float *p = filled(rank, 10);
    must(emu_conf().nccl_wait == 300, "the environment's patience");
    emu_conf().nccl_wait = 1; /* here alone: the other ranks may be slow to come */
    if (rank == 0)
        ncclReduce(p, p, 10, ncclFloat32, ncclSum, 0, comm, nullptr);
    cudaDeviceSynchronize();
}

static void overlap(int rank)
{
    float *p = filled(rank, 10);
    ncclBroadcast(p, p + 1, 5, ncclFloat32, 0, comm, nullptr);
}

static void open_group(int)
{
    ncclGroupEnd();
}

static void left_under_way(int rank)
{
    float *p = filled(rank, 10);
    ncclReduce(p, p, 10, ncclFloat32, ncclSum, 0, comm, nullptr);
}

/* Each of these ends with an explanation, on one rank or all. */
static void run_mismatches(void)
{
    setenv("DEQ_EMU_NCCL_WAIT", "300", 1);
    static void (*const work[])(int) = {another_count, another_call, no_call,
                                        overlap,       open_group,   left_under_way};
    for (void (*w)(int) : work)
        if (run(2, w) == 0)
            fputs("not caught\n", stderr);
    abort();
}

static void mistakes_are_caught(void **)
{
    static char said[16384];
    assert_int_equal(run(2, refused), 0);
    assert_true(ends_badly(run_mismatches, said, sizeof said));
    static const char *const texts[] = {
        "ncclReduce of 10, root 0",
        "ncclBroadcast of 10, root 0",
        "rank 0 has waited 1 s in ncclReduce, call 1, for rank 1",
        "ncclBroadcast: what is sent and received overlaps",
        "ncclGroupEnd without a ncclGroupStart",
        "ncclCommDestroy: 1 calls have not run",
    };
    for (const char *text : texts)
        if (strstr(said, text) == nullptr)
            fail_msg("want \"%s\" in: %s", text, said);
    assert_null(strstr(said, "not caught"));
}

static void told_errors(int rank)
{
    float *p = filled(rank, 10);
    ncclResult_t error = ncclSuccess;
    must(ncclReduce(p, p, 10, ncclFloat32, ncclSum, 0, comm, nullptr) == ncclSuccess, "first");
    must(cudaDeviceSynchronize() == cudaSuccess, "wait");
    must(ncclCommGetAsyncError(comm, &error) == ncclSuccess && error == ncclRemoteError, "told");
    must(ncclReduce(p, p, 10, ncclFloat32, ncclSum, 0, comm, nullptr) == ncclSystemError, "fails");
    must(ncclCommAbort(comm) == ncclSuccess, "abort");
    _exit(0);
}

static void run_told_errors(void)
{
    setenv("DEQ_EMU_NCCL_FAIL", "3", 1); /* after joining and one more */
    setenv("DEQ_EMU_NCCL_LOSE", "1", 1);
    _exit(run(2, told_errors));
}

static void errors_come_as_told(void **)
{
    static char said[1024];
    if (ends_badly(run_told_errors, said, sizeof said))
        fail_msg("%s", said);
}

int main(void)
{
    setenv("DEQ_EMU_QUIET", "1", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives_do_what_they_say),
        cmocka_unit_test(calls_run_late),
        cmocka_unit_test(mistakes_are_caught),
        cmocka_unit_test(errors_come_as_told),
    };
    return cmocka_run_group_tests_name("NCCL", tests, nullptr, nullptr);
}
