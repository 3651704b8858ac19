/* Runs a kernel block after block, and in a block every thread as a fiber up to its next barrier.
 *
 * A thread runs alone until it reaches a barrier or returns, so a missing barrier means that one
 * thread sees all of another's work or none of it, depending on the order of threads. That is why
 * there are three orders. Under ThreadSanitizer the fibers count as threads which only barriers
 * order, so a race is reported whatever the order. */
#include "emu/internal.h"

#include "emu/fiber.h"
#include <stdio.h>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

static const uint32_t WARP = 32, MAX_THREADS = EMU_BLOCK_THREADS;
/* Addresses that stand for barriers, from that of emu_shared_start on. */
enum { BLOCK_BARRIER = 0, BLOCK_START = 32, WARP_BARRIERS = 64 };

enum where { READY, AT_BLOCK, AT_WARP, RETURNED };

struct cuda_thread {
    emu_fiber *fiber;
    where state;
    emu_site site; /* of the barrier it waits at */
    unsigned mask;
    uint3 index;
    uint32_t number;              /* in the block */
    uint32_t leader;              /* first lane of the group it was released with */
    uint32_t phase;               /* __syncwarps passed so far */
    std::vector<emu_copy> copies; /* asked for in this block, in their order */
    std::vector<size_t> groups;   /* copies before the end of each group */
    size_t copied;                /* of them, made */
};

/* Words are handed in as lanes arrive, and given out in one go when the group is released, since a
 * fast lane's next word must not disturb a slow one. `out` has a row for each group's leader. */
struct warp_words {
    uint64_t in[EMU_WORDS][WARP], out[WARP][EMU_WORDS][WARP];
    unsigned present[WARP];
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
    char *barriers; /* addresses that stand for the order of this block's threads */
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

void emu_check_aligned(const void *p, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
        emu_die("%p is not aligned for a vector of %zu bytes", p, bytes);
}

/* ---- Barriers, as a thread calls them -------------------------------------------------------- */
static void wait_at(where state, emu_site site, unsigned mask)
{
    cuda_thread *me = block.now;
    me->state = state;
    me->site = site;
    me->mask = mask;
    emu_fiber_yield();
}

/* For ThreadSanitizer, what the threads release on arrival and acquire when they go on. Two take
 * turns, so that a thread which goes on late does not acquire what a fast one has done since. */
static char *barrier_address(uint32_t offset, uint32_t phase)
{
    return block.barriers + offset + phase % 2 * 8;
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
emu_warp emu_warp_exchange(emu_site site, unsigned mask, const uint64_t *words, int count)
{
    cuda_thread *me = block.now;
    unsigned lane = me->number % WARP;
    warp_words *w = &block.warp[me->number / WARP];
    check_mask(site, mask);
    for (int k = 0; k < count; k++)
        w->in[k][lane] = words[k];
    wait_at(AT_WARP, site, mask);
    return {w->out[me->leader][0], w->present[me->leader], static_cast<int>(lane)};
}

void emu_count_matrix_product()
{
    if (block.now->number % WARP == 0)
        emu_conf().counts.matrix_products++;
}

/* ---- Copies under way ------------------------------------------------------------------------ */
/* Whether a copy is made when it is asked for. On a device it may be made at any time up to the
 * wait for it, so that one order of threads has the earliest moment, one the latest, and one
 * both. */
static bool copies_at_once()
{
    emu_order order = emu_conf().order;
    return order == EMU_DESCENDING || (order == EMU_SHUFFLED && emu_below(2) == 0);
}

bool emu_copy_later(const emu_copy &copy)
{
    if (copies_at_once())
        return false;
    block.now->copies.push_back(copy);
    return true;
}

void emu_copy_commit()
{
    block.now->groups.push_back(block.now->copies.size());
}

bool emu_copy_due(int most_groups, emu_copy *copy)
{
    cuda_thread *me = block.now;
    if (static_cast<int>(me->groups.size()) <= most_groups)
        return false;
    size_t due = me->groups[me->groups.size() - 1 - static_cast<size_t>(most_groups)];
    if (me->copied < due) {
        *copy = me->copies[me->copied++];
        return true;
    }
    return false;
}

static void check_copies()
{
    cuda_thread *me = block.now;
    if (me->copied < me->copies.size())
        emu_die("returned while %zu of its copies into shared memory were not waited for",
                me->copies.size() - me->copied);
    me->copies.clear();
    me->groups.clear();
    me->copied = 0;
}

void emu_fence()
{
    emu_acquire(&fence);
    emu_release(&fence);
}

/* ---- Barriers, as the scheduler serves them -------------------------------------------------- */
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
    for (int k = 0; k < EMU_WORDS; k++)
        for (uint32_t i = 0; i < WARP; i++)
            w->out[lane][k][i] = (group >> i & 1u) != 0 ? w->in[k][i] : UINT64_MAX;
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

/* Nobody can run. Either all wait at one __syncthreads, or the barrier is divergent. */
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
        emu_acquire(block.barriers + BLOCK_START);
        block.kernel->body();
        check_copies();
        emu_release(&launch_end);
        block.now->state = RETURNED;
        emu_fiber_yield();
    }
}

static void run_ready()
{
    if (emu_conf().order == EMU_SHUFFLED)
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
    block.barriers = emu_shared_start(*block.kernel);
    emu_release(block.barriers + BLOCK_START);
    for (uint32_t i = 0; i < block.count; i++) {
        /* Another fiber in every block, so that thread i of two blocks are two to
         * ThreadSanitizer. */
        block.thread[i].fiber = block.fiber[(i + number) % block.count];
        block.thread[i].state = READY;
        block.thread[i].phase = 0;
    }
    for (run_ready(); !all_returned(); run_ready())
        if (!release_warps())
            release_block();
    emu_shared_check();
}

static void place_threads(const emu_kernel &kernel)
{
    dim3 d = kernel.block;
    block.count = d.x * d.y * d.z;
    for (uint32_t i = 0; i < block.count; i++) {
        block.thread[i].index = {i % d.x, i / d.x % d.y, i / d.x / d.y};
        block.thread[i].number = i;
    }
    emu_arrange(block.order, block.count);
    for (; block.made < block.count; block.made++)
        block.fiber[block.made] = emu_fiber_make(thread_main, nullptr);
}

void emu_run_kernel(const emu_kernel &kernel)
{
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
    emu_shared_forget();
    block.kernel = nullptr;
}
