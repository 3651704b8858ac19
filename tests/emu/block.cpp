/* Runs a kernel: block after block, and in a block every thread as a fiber up to its next barrier.
 *
 * A thread runs alone until it reaches a barrier or returns, so a missing barrier means that one
 * thread sees all of another's work or none of it, depending on the order of threads: hence the
 * three orders. Under ThreadSanitizer the fibers count as threads which only barriers order, so a
 * race is reported whatever the order. */
#include "emu/internal.h"

#include "emu/fiber.h"
#include <map>
#include <stdio.h>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)0)
#endif

EMU_LOCAL uint3 threadIdx, blockIdx;
EMU_LOCAL dim3 blockDim, gridDim;

static const uint32_t WARP = 32, MAX_THREADS = 1024;
static const size_t PAGE = 4096, STATIC_LIMIT = 48 * 1024, STATIC_ARENA = 256 * 1024;
static const size_t DYNAMIC_ARENA = 256 * 1024, RED_ZONE = 128, MAX_VARIABLES = 64;
static const int MARGIN = 0xA5;
/* In the arena's first page: addresses that stand for barriers. */
enum { BLOCK_BARRIER = 0, BLOCK_START = 32, WARP_BARRIERS = 64 };

enum where { READY, AT_BLOCK, AT_WARP, RETURNED };

struct cuda_thread {
    emu_fiber *fiber;
    where state;
    emu_site site; /* of the barrier it waits at */
    unsigned mask;
    uint3 index;
    uint32_t number; /* in the block */
    uint32_t leader; /* first lane of the group it was released with */
    uint32_t phase;  /* __syncwarps passed so far */
};

/* Words are handed in as lanes arrive, and given out in one go when the group is released: a fast
 * lane's next word must not disturb a slow one. `out` has a row for each group's leader. */
struct warp_words {
    uint64_t in[WARP], out[WARP][WARP];
    unsigned present[WARP];
};

struct static_variable {
    const char *site, *name;
    size_t offset, bytes;
};

static struct {
    const emu_kernel *kernel;
    cuda_thread thread[MAX_THREADS];
    warp_words warp[MAX_THREADS / WARP];
    uint32_t count, order[MAX_THREADS];
    uint32_t made; /* fibers made so far */
    emu_fiber *fiber[MAX_THREADS];
    uint32_t phase; /* barriers passed so far */
    cuda_thread *now;
    /* Shared memory: a header with an address per warp and barrier for ThreadSanitizer, static
     * variables with red zones, then the dynamic part against a guard page. */
    char *arena, *fixed, *dynamic_end;
    static_variable variable[MAX_VARIABLES];
    size_t variables, fixed_used;
} block;

/* Addresses that stand for the order of launches, of blocks, of fences. */
static char launch_start, launch_end, fence;

const char *emu_where()
{
    static char text[256];
    if (block.kernel == nullptr)
        return "";
    int n = snprintf(text, sizeof text, "kernel %s, block (%u,%u,%u), ", block.kernel->name,
                     blockIdx.x, blockIdx.y, blockIdx.z);
    if (block.now != nullptr && n < static_cast<int>(sizeof text))
        snprintf(text + n, sizeof text - static_cast<size_t>(n), "thread (%u,%u,%u): ", threadIdx.x,
                 threadIdx.y, threadIdx.z);
    return text;
}

/* ---- Shared memory ----------------------------------------------------------------------------
 */
/* memset would be a write in ThreadSanitizer's eyes, by the fiber that happens to run. */
__attribute__((optimize("no-tree-loop-distribute-patterns"))) static void
set_bytes(char *p, int value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = static_cast<char>(value);
}

static void *dynamic_start()
{
    size_t bytes = (block.kernel->dynamic + 15) / 16 * 16;
    return block.dynamic_end - bytes;
}

static char *map_arena()
{
    size_t bytes = PAGE + STATIC_ARENA + DYNAMIC_ARENA + PAGE;
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(static_cast<char *>(p) + bytes - PAGE, PAGE, PROT_NONE) != 0)
        emu_die("no memory for shared memory");
    return static_cast<char *>(p);
}

/* A fresh shared memory for a block. For ThreadSanitizer it must be new memory: otherwise two
 * blocks that use it one after the other would race. */
static void start_shared()
{
#if defined(EMU_TSAN)
    if (block.arena != nullptr)
        munmap(block.arena, PAGE + STATIC_ARENA + DYNAMIC_ARENA + PAGE);
    block.arena = nullptr;
#endif
    bool fresh = block.arena == nullptr;
    if (fresh)
        block.arena = map_arena();
    block.fixed = block.arena + PAGE;
    block.dynamic_end = block.fixed + STATIC_ARENA + DYNAMIC_ARENA;
    if (fresh) {
        set_bytes(block.fixed, MARGIN, STATIC_ARENA);
        ASAN_POISON_MEMORY_REGION(block.fixed, STATIC_ARENA + DYNAMIC_ARENA);
    }
    for (size_t i = 0; i < block.variables; i++) {
        const static_variable &v = block.variable[i];
        ASAN_UNPOISON_MEMORY_REGION(block.fixed + v.offset, v.bytes);
        set_bytes(block.fixed + v.offset, 0xFF, v.bytes);
    }
    size_t bytes = block.kernel->dynamic;
    char *start = static_cast<char *>(dynamic_start());
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
    set_bytes(start, 0xFF, bytes);
}

/* Static variables are known by the time a block is over. */
static void check_zone(const char *from, const char *to, const char *name)
{
    for (const char *p = from; p < to; p++)
        if (static_cast<unsigned char>(*p) != MARGIN)
            emu_die("wrote out of bounds, %td bytes behind the shared variable %s", p - from, name);
}

static void check_shared()
{
#if !defined(__SANITIZE_ADDRESS__)
    for (size_t i = 0; i < block.variables; i++) {
        const static_variable &v = block.variable[i];
        check_zone(block.fixed + v.offset + v.bytes, block.fixed + v.offset + v.bytes + RED_ZONE,
                   v.name);
    }
    char *start = static_cast<char *>(dynamic_start()), *end = start + block.kernel->dynamic;
    for (const char *p = end; p < block.dynamic_end; p++)
        if (*p != 0)
            emu_die("wrote out of bounds, %td bytes behind the dynamic shared memory", p - end);
#else
    (void)check_zone;
#endif
}

/* The next kernel has other variables. */
static void forget_shared()
{
#if !defined(__SANITIZE_ADDRESS__)
    set_bytes(block.fixed, MARGIN, block.fixed_used + RED_ZONE);
    set_bytes(static_cast<char *>(dynamic_start()), 0, block.kernel->dynamic);
#endif
    ASAN_POISON_MEMORY_REGION(block.fixed, STATIC_ARENA + DYNAMIC_ARENA);
    block.variables = 0;
    block.fixed_used = 0;
}

void *emu_static_shared(const char *site, size_t bytes, const char *name)
{
    size_t total = bytes;
    for (size_t i = 0; i < block.variables; i++) {
        if (block.variable[i].site == site)
            return block.fixed + block.variable[i].offset;
        total += block.variable[i].bytes;
    }
    size_t offset = (block.fixed_used + RED_ZONE - 1) / RED_ZONE * RED_ZONE;
    if (total > STATIC_LIMIT || block.variables == MAX_VARIABLES)
        emu_die("%zu bytes of static shared memory in %zu variables; a block has %zu bytes", total,
                block.variables + 1, STATIC_LIMIT);
    block.variable[block.variables++] = {site, name, offset, bytes};
    block.fixed_used = offset + bytes + RED_ZONE;
    ASAN_UNPOISON_MEMORY_REGION(block.fixed + offset, bytes);
    set_bytes(block.fixed + offset, 0xFF, bytes);
    return block.fixed + offset;
}

void *emu_dynamic_shared()
{
    return dynamic_start();
}

void emu_check_aligned(const void *p, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
        emu_die("%p is not aligned for a vector of %zu bytes", p, bytes);
}

/* ---- Barriers: what a thread calls ------------------------------------------------------------
 */
static void wait_at(where state, emu_site site, unsigned mask)
{
    cuda_thread *me = block.now;
    me->state = state;
    me->site = site;
    me->mask = mask;
    emu_fiber_yield();
}

/* For ThreadSanitizer: what the threads release on arrival and acquire when they go on. Two take
 * turns, so that a thread which goes on late does not acquire what a fast one has done since. */
static char *barrier_address(uint32_t offset, uint32_t phase)
{
    return block.arena + offset + phase % 2 * 8;
}

void emu_block_barrier(emu_site site)
{
    char *order = barrier_address(BLOCK_BARRIER, block.phase);
    emu_release(order);
    wait_at(AT_BLOCK, site, 0);
    emu_acquire(order);
}

static void check_mask(emu_site site, unsigned mask)
{
    unsigned lane = block.now->number % WARP;
    if ((mask >> lane & 1u) == 0)
        emu_die("%s (%s:%d): lane %u is not in its own mask %08x", site.op, site.file, site.line,
                lane, mask);
}

void emu_warp_barrier(emu_site site, unsigned mask)
{
    uint32_t warp = block.now->number / WARP;
    char *order = barrier_address(WARP_BARRIERS + warp * 16, block.now->phase++);
    check_mask(site, mask);
    emu_release(order);
    wait_at(AT_WARP, site, mask);
    emu_acquire(order);
}

/* Orders no memory, as on the device. */
emu_warp emu_warp_exchange(emu_site site, unsigned mask, uint64_t word)
{
    cuda_thread *me = block.now;
    unsigned lane = me->number % WARP;
    warp_words *w = &block.warp[me->number / WARP];
    check_mask(site, mask);
    w->in[lane] = word;
    wait_at(AT_WARP, site, mask);
    return {w->out[me->leader], w->present[me->leader], static_cast<int>(lane)};
}

void emu_fence()
{
    emu_acquire(&fence);
    emu_release(&fence);
}

/* ---- Barriers: what the scheduler does --------------------------------------------------------
 */
static const char *state_text(const cuda_thread &t)
{
    static char text[2][300];
    static int turn;
    char *out = text[turn++ % 2];
    if (t.state == RETURNED)
        snprintf(out, sizeof text[0], "thread (%u,%u,%u) has returned", t.index.x, t.index.y,
                 t.index.z);
    else
        snprintf(out, sizeof text[0], "thread (%u,%u,%u) waits at %s (%s:%d)", t.index.x, t.index.y,
                 t.index.z, t.site.op, t.site.file, t.site.line);
    return out;
}

[[noreturn]] static void diverged(const cuda_thread &a, const cuda_thread &b)
{
    block.now = nullptr;
    emu_die("divergent barrier: %s while %s", state_text(a), state_text(b));
}

/* Literals of one place may have several addresses. */
static bool same_site(const emu_site &a, const emu_site &b)
{
    return a.line == b.line && (a.op == b.op || strcmp(a.op, b.op) == 0) &&
           (a.file == b.file || strcmp(a.file, b.file) == 0);
}

/* The lanes of one mask that all wait at the same operation go on. */
static bool release_group(cuda_thread *warp, uint32_t lanes, uint32_t lane)
{
    cuda_thread &first = warp[lane];
    unsigned group = 0;
    for (uint32_t i = 0; i < lanes; i++) {
        const cuda_thread &t = warp[i];
        if ((first.mask >> i & 1u) == 0 || t.state == RETURNED)
            continue;
        if (t.state != AT_WARP || t.mask != first.mask || !same_site(t.site, first.site))
            return false;
        group |= 1u << i;
    }
    warp_words *w = &block.warp[first.number / WARP];
    for (uint32_t i = 0; i < WARP; i++)
        w->out[lane][i] = (group >> i & 1u) != 0 ? w->in[i] : UINT64_MAX;
    w->present[lane] = group;
    for (uint32_t i = 0; i < lanes; i++) {
        if ((group >> i & 1u) == 0)
            continue;
        warp[i].state = READY;
        warp[i].leader = lane;
    }
    return true;
}

static bool release_warps()
{
    bool any = false;
    for (uint32_t first = 0; first < block.count; first += WARP) {
        uint32_t lanes = block.count - first < WARP ? block.count - first : WARP;
        for (uint32_t i = 0; i < lanes; i++)
            if (block.thread[first + i].state == AT_WARP)
                any |= release_group(&block.thread[first], lanes, i);
    }
    return any;
}

/* Nobody can run: either all wait at one __syncthreads, or the barrier is divergent. */
static void release_block()
{
    const cuda_thread *waiting = nullptr;
    for (uint32_t i = 0; i < block.count; i++)
        if (block.thread[i].state != RETURNED)
            waiting = &block.thread[i];
    for (uint32_t i = 0; i < block.count; i++) {
        const cuda_thread &t = block.thread[i];
        if (t.state != AT_BLOCK || !same_site(t.site, waiting->site))
            diverged(*waiting, t);
    }
    for (uint32_t i = 0; i < block.count; i++)
        block.thread[i].state = READY;
    block.phase++;
}

static void thread_main(void *)
{
    for (;;) {
        emu_acquire(&launch_start);
        emu_acquire(block.arena + BLOCK_START);
        block.kernel->body();
        emu_release(&launch_end);
        block.now->state = RETURNED;
        emu_fiber_yield();
    }
}

static void run_ready()
{
    emu_arrange(block.order, block.count);
    for (uint32_t i = 0; i < block.count; i++) {
        cuda_thread *t = &block.thread[block.order[i]];
        if (t->state != READY)
            continue;
        block.now = t;
        threadIdx = t->index;
        emu_fiber_enter(t->fiber);
    }
    block.now = nullptr;
}

static bool all_returned()
{
    for (uint32_t i = 0; i < block.count; i++)
        if (block.thread[i].state != RETURNED)
            return false;
    return true;
}

static void run_block(uint64_t number)
{
    start_shared();
    emu_release(block.arena + BLOCK_START);
    for (uint32_t i = 0; i < block.count; i++) {
        /* Another fiber in every block: to ThreadSanitizer, thread i of two blocks are two. */
        block.thread[i].fiber = block.fiber[(i + number) % block.count];
        block.thread[i].state = READY;
        block.thread[i].phase = 0;
    }
    for (run_ready(); !all_returned(); run_ready())
        if (!release_warps())
            release_block();
    check_shared();
}

static void place_threads(const emu_kernel &kernel)
{
    dim3 d = kernel.block;
    block.count = d.x * d.y * d.z;
    for (uint32_t i = 0; i < block.count; i++) {
        block.thread[i].index = {i % d.x, i / d.x % d.y, i / d.x / d.y};
        block.thread[i].number = i;
    }
    for (; block.made < block.count; block.made++)
        block.fiber[block.made] = emu_fiber_make(thread_main, nullptr);
}

void emu_run_kernel(const emu_kernel &kernel)
{
    emu_conf().counts.launches++;
    if (emu_conf().lose_at > 0 && --emu_conf().lose_at == 0) {
        emu_lose();
        return;
    }
    block.kernel = &kernel;
    gridDim = kernel.grid;
    blockDim = kernel.block;
    place_threads(kernel);
    emu_release(&launch_start);
    uint64_t blocks = static_cast<uint64_t>(kernel.grid.x) * kernel.grid.y * kernel.grid.z;
    std::vector<uint32_t> order(blocks);
    emu_arrange(order.data(), blocks);
    for (uint64_t i = 0; i < blocks; i++) {
        uint32_t b = order[i];
        blockIdx = {b % kernel.grid.x, b / kernel.grid.x % kernel.grid.y,
                    b / kernel.grid.x / kernel.grid.y};
        run_block(i);
    }
    emu_acquire(&launch_end);
    emu_check_margins();
    forget_shared();
    block.kernel = nullptr;
}

/* ---- Launches ---------------------------------------------------------------------------------
 */
static std::map<const void *, int> opted_in; /* bytes of dynamic shared memory by kernel */

static int shared_limit_of_chip()
{
    const emu_config &c = emu_conf();
    int kib = c.major >= 9 ? 227 : c.major == 8 && c.minor == 0 ? 163 : 99;
    return kib * 1024;
}

size_t emu_shared_limit(const void *entry)
{
    auto it = opted_in.find(entry);
    return static_cast<size_t>(it == opted_in.end() ? STATIC_LIMIT : it->second);
}

static cudaError_t check_shape(const emu_kernel &k)
{
    uint64_t threads = static_cast<uint64_t>(k.block.x) * k.block.y * k.block.z;
    if (threads == 0 || threads > MAX_THREADS || k.block.z > 64)
        return emu_refuse(cudaErrorInvalidConfiguration,
                          "launch of %s: block of %u x %u x %u threads (at most 1024, 64 in z)",
                          k.name, k.block.x, k.block.y, k.block.z);
    if (k.grid.x == 0 || k.grid.y == 0 || k.grid.z == 0 || k.grid.x > 0x7fffffffu ||
        k.grid.y > 65535 || k.grid.z > 65535)
        return emu_refuse(cudaErrorInvalidConfiguration,
                          "launch of %s: grid of %u x %u x %u blocks (1 to 2^31-1, 65535, 65535)",
                          k.name, k.grid.x, k.grid.y, k.grid.z);
    if (k.dynamic > emu_shared_limit(k.entry))
        return emu_refuse(cudaErrorInvalidValue,
                          "launch of %s: %zu bytes of dynamic shared memory, %zu allowed (more by "
                          "cudaFuncSetAttribute)",
                          k.name, k.dynamic, emu_shared_limit(k.entry));
    return cudaSuccess;
}

void emu_launch(emu_kernel kernel, cudaStream_t stream)
{
    if (emu_health() != cudaSuccess || check_shape(kernel) != cudaSuccess)
        return;
    if (emu_conf().major < 8) {
        emu_refuse(cudaErrorNoKernelImageForDevice, "launch of %s: no code for this chip",
                   kernel.name);
        return;
    }
    emu_enqueue(stream, kernel.name, [kernel] { emu_run_kernel(kernel); });
}

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *entry, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > shared_limit_of_chip())
        return emu_refuse(cudaErrorInvalidValue,
                          "cudaFuncSetAttribute: %d bytes of shared memory, the chip has %d", value,
                          shared_limit_of_chip());
    opted_in[entry] = value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *entry)
{
    *attributes = {};
    attributes->maxThreadsPerBlock = MAX_THREADS;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(emu_shared_limit(entry));
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t bytes)
{
    int by_threads = 2048 / (threads > 0 ? threads : 1);
    int by_memory = bytes > 0 ? static_cast<int>(228 * 1024 / bytes) : by_threads;
    *blocks = by_threads < by_memory ? by_threads : by_memory;
    return cudaSuccess;
}
}
