/* NCCL between processes of this machine, by way of a file that all have mapped. Calls are checked
 * when they are made and run late, as all work of a stream does. Then all processes must be making
 * the same one, or they end with a message in place of waiting for each other for good.
 *
 * Sums are float32 in the order of a ring that begins behind the process which gets them, which is
 * not the order of ranks, and not one order for all. */
#include "emu/stream.h"

extern "C" {
#include "cuda/nccl_load.h"
}

#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MOST_RANKS = 16, PIECE = 1 << 16 /* numbers */, OWN_MEMORY = 8 << 20 };
static const long PATIENCE = 50000; /* nanoseconds */

struct call {
    char name[24];
    size_t count;
    int root; /* -1: none */
};

/* One process at the table. */
struct seat {
    std::atomic<uint64_t> arrived; /* how often it has come to a point where all meet */
    call now;
    float piece[PIECE];
};

/* In the file. */
struct meeting {
    int ranks;
    seat at[MOST_RANKS];
};

struct ncclComm {
    meeting *table;
    int rank, ranks, device;
    uint64_t arrived, calls;
    size_t pending; /* calls that have not run */
    bool aborted;
    bool by_switch;     /* NVLS, on unless it is turned off, which keeps no order of sums */
    ncclResult_t error; /* told when asked */
    void *own;          /* memory of the device that the library takes for itself */
};
typedef std::shared_ptr<ncclComm> comm_ref;

/* A call that waits for the end of its group. */
struct waiting {
    comm_ref comm;
    call what;
    const void *send;
    void *recv;
    cudaStream_t stream;
};

static std::vector<comm_ref> comms;
static std::vector<waiting> group;
static int depth; /* of groups */

/* ---- Meeting --------------------------------------------------------------------------------- */
static double seconds()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/* Until all have come here as often as this process. */
static void meet(ncclComm &c, const call &what)
{
    const struct timespec pause = {0, PATIENCE};
    double start = seconds();
    c.table->at[c.rank].arrived = ++c.arrived;
    for (int r = 0; r < c.ranks; r++)
        while (c.table->at[r].arrived < c.arrived) {
            nanosleep(&pause, nullptr);
            if (seconds() - start > emu_conf().nccl_wait)
                emu_die("rank %d has waited %g s in %s, call %llu, for rank %d, which makes none",
                        c.rank, emu_conf().nccl_wait, what.name,
                        static_cast<unsigned long long>(c.calls), r);
        }
}

/* All must have come for the same. */
static void agree(ncclComm &c, const call &what)
{
    c.table->at[c.rank].now = what;
    meet(c, what);
    for (int r = 0; r < c.ranks; r++) {
        const call &other = c.table->at[r].now;
        if (strcmp(other.name, what.name) != 0 || other.count != what.count ||
            other.root != what.root)
            emu_die("call %llu of NCCL: rank %d makes %s of %zu numbers, root %d, and rank %d %s "
                    "of %zu, root %d",
                    static_cast<unsigned long long>(c.calls), c.rank, what.name, what.count,
                    what.root, r, other.name, other.count, other.root);
    }
    meet(c, what);
}

/* use(offset, n) sees a piece of what every process sends, at table->at[rank].piece. */
template <class Use> static void exchange(ncclComm &c, const call &what, const float *send, Use use)
{
    for (size_t at = 0; at < what.count; at += PIECE) {
        size_t n = std::min(what.count - at, static_cast<size_t>(PIECE));
        if (send != nullptr)
            memcpy(c.table->at[c.rank].piece, send + at, n * sizeof *send);
        meet(c, what);
        use(at, n);
        meet(c, what);
    }
}

static void sum_for(ncclComm &c, const call &what, int root, const float *send, float *recv)
{
    int first = root + 1; /* or another one, now this, now that */
    if (c.by_switch && c.ranks > 1)
        first += 1 + getpid() % (c.ranks - 1);
    exchange(c, what, send, [&](size_t at, size_t n) {
        for (size_t i = 0; i < n && c.rank == root; i++) {
            float sum = c.table->at[first % c.ranks].piece[i];
            for (int k = 1; k < c.ranks; k++)
                sum += c.table->at[(first + k) % c.ranks].piece[i];
            recv[at + i] = sum;
        }
    });
}

static void run(ncclComm &c, const call &what, const float *send, float *recv)
{
    c.pending--;
    if (c.aborted || c.error != ncclSuccess)
        return;
    c.calls++;
    if (emu_conf().nccl_lose > 0 && --emu_conf().nccl_lose == 0) {
        c.error = ncclRemoteError;
        return;
    }
    agree(c, what);
    if (strcmp(what.name, "ncclReduceScatter") == 0) {
        for (int r = 0; r < c.ranks; r++)
            sum_for(c, what, r, send + static_cast<size_t>(r) * what.count, recv);
    } else if (strcmp(what.name, "ncclReduce") == 0) {
        sum_for(c, what, what.root, send, recv);
    } else if (strcmp(what.name, "ncclAllGather") == 0) {
        exchange(c, what, send, [&](size_t at, size_t n) {
            for (size_t r = 0; r < static_cast<size_t>(c.ranks); r++)
                memcpy(recv + r * what.count + at, c.table->at[r].piece, n * sizeof *recv);
        });
    } else {
        exchange(c, what, c.rank == what.root ? send : nullptr, [&](size_t at, size_t n) {
            memcpy(recv + at, c.table->at[what.root].piece, n * sizeof *recv);
        });
    }
}

/* ---- Calls ----------------------------------------------------------------------------------- */
static ncclResult_t refuse(ncclResult_t result, const char *format, const char *name)
{
    emu_refuse(cudaErrorInvalidValue, format, name);
    cudaGetLastError(); /* NCCL's errors are not the runtime's */
    return result;
}

static comm_ref live(ncclComm_t comm, const char *name)
{
    for (const comm_ref &c : comms)
        if (c.get() == comm)
            return c;
    emu_die("%s: no communicator, or one that is destroyed", name);
}

/* One that talks to others, and may have been told to fail. */
static bool told_to_fail()
{
    return emu_conf().nccl_fail > 0 && --emu_conf().nccl_fail == 0;
}

static void enqueue(const waiting &w)
{
    comm_ref comm = w.comm;
    call what = w.what;
    const float *send = static_cast<const float *>(emu_real(w.send));
    float *recv = static_cast<float *>(emu_real(w.recv));
    comm->pending++;
    emu_enqueue(w.stream, what.name, [=] { run(*comm, what, send, recv); });
}

/* `parts` is how many times the count each side is, or -1 if it is not looked at here. */
static ncclResult_t make(const char *name, const void *send, int send_parts, void *recv,
                         int recv_parts, size_t count, int root, ncclDataType_t type,
                         ncclRedOp_t op, ncclComm_t handle, cudaStream_t stream)
{
    comm_ref c = live(handle, name);
    int device = -1;
    if (cudaGetDevice(&device) != cudaSuccess)
        return ncclUnhandledCudaError;
    if (told_to_fail())
        return ncclSystemError;
    if (device != c->device)
        return refuse(ncclInvalidUsage, "%s: the thread's device is not the communicator's", name);
    if (type != ncclFloat32 || op != ncclSum)
        emu_die("%s: sums of float32 are all that is emulated", name);
    if (root < -1 || root >= c->ranks)
        return refuse(ncclInvalidArgument, "%s: there is no such root", name);
    size_t bytes = count * sizeof(float), all = static_cast<size_t>(c->ranks);
    size_t send_bytes = send_parts == 1 ? bytes : all * bytes;
    size_t recv_bytes = recv_parts == 1 ? bytes : all * bytes;
    if (send_parts >= 0 && !emu_on_device(send, send_bytes))
        return refuse(ncclInvalidArgument, "%s: what is sent is not in one allocation", name);
    if (recv_parts >= 0 && !emu_on_device(recv, recv_bytes))
        return refuse(ncclInvalidArgument, "%s: what is received is not in one allocation", name);
    const char *from = static_cast<const char *>(send), *to = static_cast<const char *>(recv);
    size_t own = static_cast<size_t>(c->rank) * bytes;
    bool in_place = from + (send_parts == 1 ? 0 : own) == to + (recv_parts == 1 ? 0 : own);
    if (send_parts >= 0 && recv_parts >= 0 && !in_place && from < to + recv_bytes &&
        to < from + send_bytes)
        emu_die("%s: what is sent and received overlaps, and is not in place", name);
    if (emu_stream(stream)->capture != nullptr)
        emu_die("%s in a captured stream is not emulated", name);
    waiting w = {c, {}, send, recv, stream};
    snprintf(w.what.name, sizeof w.what.name, "%s", name);
    w.what.count = count;
    w.what.root = root;
    if (depth > 0)
        group.push_back(w);
    else
        enqueue(w);
    return ncclSuccess;
}

bool nccl_load(char *tried, size_t size)
{
    snprintf(tried, size, "libnccl.so.2: left out by DEQ_EMU_NCCL");
    return emu_conf().nccl;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = 20000;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclSystemError:
        return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    default:
        return "another error";
    }
}

const char *ncclGetLastError(ncclComm_t)
{
    return "told to";
}

ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t recv_count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    return make("ncclReduceScatter", send, 0, recv, 1, recv_count, -1, type, op, comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t send_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    return make("ncclAllGather", send, 1, recv, 0, send_count, -1, type, ncclSum, comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)
{
    bool receives = live(comm, "ncclReduce")->rank == root;
    return make("ncclReduce", send, 1, recv, receives ? 1 : -1, count, root, type, op, comm,
                stream);
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream)
{
    bool sends = live(comm, "ncclBroadcast")->rank == root;
    return make("ncclBroadcast", send, sends ? 1 : -1, recv, 1, count, root, type, ncclSum, comm,
                stream);
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (depth == 0)
        emu_die("ncclGroupEnd without a ncclGroupStart");
    if (--depth > 0)
        return ncclSuccess;
    std::vector<waiting> calls;
    calls.swap(group);
    for (const waiting &w : calls)
        enqueue(w);
    return ncclSuccess;
}

/* ---- Communicators --------------------------------------------------------------------------- */
/* The first one makes the file, whose name is the invitation. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    const char *folder = getenv("DEQ_EMU_NCCL_DIR");
    memset(id, 0, sizeof *id);
    int length = snprintf(id->internal, sizeof id->internal, "%s/deq-emu-nccl-XXXXXX",
                          folder != nullptr ? folder : "/dev/shm");
    if (length >= static_cast<int>(sizeof id->internal))
        emu_die("DEQ_EMU_NCCL_DIR: too long");
    int file = mkstemp(id->internal);
    if (file < 0 || ftruncate(file, sizeof(meeting)) != 0)
        return ncclSystemError;
    close(file);
    return ncclSuccess;
}

/* The file is in nobody's way any more when all have it. */
ncclResult_t ncclCommInitRank(ncclComm_t *out, int ranks, ncclUniqueId id, int rank)
{
    *out = nullptr;
    int device = -1;
    if (cudaGetDevice(&device) != cudaSuccess)
        return ncclUnhandledCudaError;
    if (told_to_fail())
        return ncclSystemError;
    if (ranks < 1 || ranks > MOST_RANKS || rank < 0 || rank >= ranks)
        return ncclInvalidArgument;
    int file = open(id.internal, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return ncclSystemError;
    void *table = mmap(nullptr, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (table == MAP_FAILED)
        return ncclSystemError;
    auto c = std::make_shared<ncclComm>();
    c->table = static_cast<meeting *>(table);
    c->rank = rank;
    c->ranks = ranks;
    c->device = device;
    const char *nvls = getenv("NCCL_NVLS_ENABLE");
    c->by_switch = nvls == nullptr || strcmp(nvls, "0") != 0;
    call join = {"ncclCommInitRank", static_cast<size_t>(ranks), -1};
    agree(*c, join);
    if (rank == 0)
        unlink(id.internal);
    if (cudaMalloc(&c->own, OWN_MEMORY) != cudaSuccess)
        return ncclUnhandledCudaError;
    comms.push_back(c);
    *out = c.get();
    emu_latch(cudaErrorInvalidValue); /* calls inside that were made in vain */
    return ncclSuccess;
}

static void forget(const comm_ref &c)
{
    cudaFree(c->own);
    munmap(c->table, sizeof(meeting));
    comms.erase(std::find(comms.begin(), comms.end(), c));
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    comm_ref c = live(comm, "ncclCommDestroy");
    if (c->pending > 0)
        emu_die("ncclCommDestroy: %zu calls have not run: only ncclCommAbort ends them",
                c->pending);
    forget(c);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    comm_ref c = live(comm, "ncclCommAbort");
    c->aborted = true;
    forget(c);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = live(comm, "ncclCommGetAsyncError")->error;
    return ncclSuccess;
}
