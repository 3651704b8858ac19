/* Device memory. An address that cudaMalloc gives out is one of a large region that nobody may ever
 * touch, so that host code that does faults. The memory itself lies in a second region, at a fixed
 * distance. Copies, products and the arguments of kernels are translated to it. There every
 * allocation is framed by guard pages, and starts as NaN. No range is given out twice, so that a
 * stale pointer faults.
 *
 * Memory that holds device pointers, such as the tables of batched products, is not translated. A
 * kernel that follows such a pointer ends with a message. */
#include "emu/internal.h"

#include "emu/fiber.h"
#include <map>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)0)
#endif

static const size_t PAGE = 4096, ALIGN = 256, REGION = size_t(64) << 30;
static const int MARGIN = 0xA5;

/* Real addresses. A guard page, `first` with a margin, `base` with the bytes, a margin of less than
 * ALIGN, and at `last` a guard page. */
struct device_range {
    char *first, *last, *base;
    size_t bytes;
};

/* By their first byte, guard page included. */
typedef std::map<const char *, device_range> range_map;
static range_map ranges, freed;
static std::map<const char *, size_t> pinned;
static size_t used;
static char *seen, *real;       /* the regions that the program sees and that there is */
static size_t given;            /* bytes of the regions given out */
static struct sigaction before; /* whoever handled faults before us */

static bool within(const void *p, const char *region)
{
    const char *at = static_cast<const char *>(p);
    return region != nullptr && at >= region && at < region + REGION;
}

/* The range around a real address, its guard pages included. */
static const device_range *find(const range_map &in, const void *p)
{
    const char *at = static_cast<const char *>(p);
    auto next = in.upper_bound(at);
    if (next == in.begin())
        return nullptr;
    const device_range &r = std::prev(next)->second;
    return at < r.last + PAGE ? &r : nullptr;
}

static const char *to_real(const void *p)
{
    return real + (static_cast<const char *>(p) - seen);
}

/* ---- Faults ---------------------------------------------------------------------------------- */
/* Says what a fault was about, if it is about the device's memory. */
static void on_fault(int, siginfo_t *info, void *)
{
    const void *p = info->si_addr;
    bool in_kernel = *emu_where() != 0;
    if (emu_fiber_overflow(p))
        emu_die("its stack overflowed: too many local variables");
    if (within(p, seen) && in_kernel)
        emu_die(
            "access by the device pointer %p, which is freed, outside of its allocation, or was "
            "read from memory (only the arguments of kernels are translated)",
            p);
    if (within(p, seen))
        emu_die("host code touched device memory at %p: copy it with cudaMemcpyAsync and "
                "synchronise",
                p);
    const device_range *r = find(ranges, p), *old = find(freed, p);
    if (old != nullptr)
        emu_die("access to an allocation of %zu bytes that has been freed", old->bytes);
    if (r != nullptr)
        emu_die("access out of bounds: %td bytes from the start of an allocation of %zu",
                static_cast<const char *>(p) - r->base, r->bytes);
    if (in_kernel)
        emu_die("access to %p, which is no memory of the device", p);
    sigaction(SIGSEGV, &before, nullptr); /* The fault is not ours, so it will happen again. */
}

/* Test frameworks set their own handlers at the start of a test, so ours is renewed now and
 * then. */
void emu_watch_faults()
{
    struct sigaction now, ours = {};
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_fault)
        return;
    before = now;
    sigaction(SIGSEGV, &ours, nullptr);
    static char stack[64 * 1024];
    stack_t own = {}, old;
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    if (sigaltstack(nullptr, &old) == 0 && (old.ss_flags & SS_DISABLE) != 0)
        sigaltstack(&own, nullptr);
}

/* ---- Pointers -------------------------------------------------------------------------------- */
bool emu_on_device(const void *p, size_t bytes)
{
    if (!within(p, seen))
        return false;
    const char *at = to_real(p);
    const device_range *r = find(ranges, at);
    return r != nullptr && at >= r->base && at <= r->base + r->bytes &&
           bytes <= static_cast<size_t>(r->base + r->bytes - at);
}

bool emu_near_device(const void *p)
{
    return within(p, seen);
}

void *emu_real(const void *p)
{
    return const_cast<char *>(within(p, seen) ? to_real(p) : static_cast<const char *>(p));
}

static bool is_pinned(const void *p)
{
    auto next = pinned.upper_bound(static_cast<const char *>(p));
    return next != pinned.begin() &&
           static_cast<const char *>(p) <= std::prev(next)->first + std::prev(next)->second;
}

void *emu_pointer_argument(const void *p)
{
    if (p != nullptr && !emu_on_device(p, 0) && !is_pinned(p))
        emu_die("a kernel was given %p, which is %s", p,
                emu_near_device(p) ? "freed or outside of its allocation" : "no device memory");
    return emu_real(p);
}

/* Pointers in a structure are found by their value. What points to no live allocation is left as it
 * is (it may be padding) and faults if the kernel follows it. */
void emu_translate(void *object, size_t bytes)
{
    for (size_t at = 0; at + sizeof(void *) <= bytes; at += sizeof(void *)) {
        void *p;
        memcpy(&p, static_cast<char *>(object) + at, sizeof p);
        if (!emu_on_device(p, 0))
            continue;
        p = emu_real(p);
        memcpy(static_cast<char *>(object) + at, &p, sizeof p);
    }
}

/* ---- Margins --------------------------------------------------------------------------------- */
static void check_margin(const device_range &r, const char *from, const char *to)
{
#if defined(__SANITIZE_ADDRESS__)
    return;
#endif
    static const std::string clean(PAGE, static_cast<char>(MARGIN));
    if (memcmp(from, clean.data(), static_cast<size_t>(to - from)) == 0)
        return;
    while (static_cast<unsigned char>(*from) == MARGIN)
        from++;
    emu_die("a byte %td from the start of an allocation of %zu was overwritten", from - r.base,
            r.bytes);
}

/* AddressSanitizer guards the margins itself, and would object to our reading them. */
static void check_margins(const device_range &r)
{
    check_margin(r, r.first, r.base);
    check_margin(r, r.base + r.bytes, r.last);
}

void emu_check_margins()
{
    for (auto &entry : ranges)
        check_margins(entry.second);
}

/* ---- The runtime's allocation functions ------------------------------------------------------ */
static void protect(const device_range &r, int how)
{
    if (mprotect(r.first, static_cast<size_t>(r.last - r.first), how) != 0)
        emu_die("mprotect failed");
}

static char *map_region()
{
    void *p = mmap(nullptr, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        emu_die("no address space for the device's memory");
    return static_cast<char *>(p);
}

/* Address space for `bytes` bytes, readable and filled. */
static device_range make_range(size_t bytes)
{
    if (seen == nullptr) {
        seen = map_region();
        real = map_region();
        /* The lower half of our pointers starts here, so that no two 32-bit numbers of a structure
         * that are small, or small floats, look like one of them. */
        given = (0x60000000u - reinterpret_cast<uintptr_t>(seen)) & 0xfffff000u;
    }
    size_t whole = (bytes + ALIGN - 1) / ALIGN * ALIGN, pages = (whole + PAGE - 1) / PAGE * PAGE;
    if (pages + 2 * PAGE > REGION - given)
        emu_die("all of the device's address space has been given out once");
    device_range r = {};
    r.first = real + given + PAGE;
    r.last = r.first + pages;
    r.base = r.last - whole;
    r.bytes = bytes;
    given += pages + PAGE; /* the guard page behind is the one before the next range */
    protect(r, PROT_READ | PROT_WRITE);
    memset(r.first, MARGIN, static_cast<size_t>(r.base - r.first));
    memset(r.base + bytes, MARGIN, whole - bytes);
    memset(r.base, 0xFF, bytes);
    ASAN_POISON_MEMORY_REGION(r.first, static_cast<size_t>(r.base - r.first));
    ASAN_POISON_MEMORY_REGION(r.base + bytes, whole - bytes);
    return r;
}

static cudaError_t allocate(void **out, size_t bytes)
{
    emu_config &conf = emu_conf();
    *out = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    conf.counts.mallocs++;
    if ((conf.fail_malloc > 0 && --conf.fail_malloc == 0) || bytes > conf.memory - used)
        return emu_refuse(cudaErrorMemoryAllocation, "cudaMalloc: no %zu bytes left", bytes);
    device_range r = make_range(bytes);
    emu_watch_faults();
    ranges[r.first - PAGE] = r;
    used += bytes;
    *out = seen + (r.base - real);
    return cudaSuccess;
}

/* The latest that were freed are kept in mind, for the message. */
static void retire(range_map::iterator entry)
{
    device_range r = entry->second;
    size_t pages = static_cast<size_t>(r.last - r.first);
    ASAN_UNPOISON_MEMORY_REGION(r.first, pages);
    madvise(r.first, pages, MADV_DONTNEED);
    protect(r, PROT_NONE);
    used -= r.bytes;
    freed.emplace(r.first, r);
    if (freed.size() > 1000)
        freed.erase(freed.begin());
    ranges.erase(entry);
}

static cudaError_t release(void *p)
{
    if (p == nullptr)
        return cudaSuccess;
    if (!emu_on_device(p, 0) || find(ranges, emu_real(p))->base != emu_real(p))
        return emu_refuse(cudaErrorInvalidValue, "cudaFree: %p was not allocated, or is freed", p);
    auto entry = ranges.find(find(ranges, emu_real(p))->first - PAGE);
    check_margins(entry->second);
    retire(entry);
    return cudaSuccess;
}

void emu_memory_reset()
{
    while (!ranges.empty())
        retire(ranges.begin());
}

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    if (emu_capture_forbids())
        return emu_refuse(cudaErrorStreamCaptureUnsupported, "cudaMalloc during a capture");
    return allocate(p, bytes);
}

cudaError_t cudaFree(void *p)
{
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    if (emu_capture_forbids())
        return emu_refuse(cudaErrorStreamCaptureUnsupported, "cudaFree during a capture");
    emu_drain();
    return release(p);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    *total = emu_conf().memory;
    *free_bytes = *total - used;
    return cudaSuccess;
}

/* ---- Pinned memory, which is the host's own -------------------------------------------------- */
#undef cudaMallocHost
cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    *p = aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
    if (*p == nullptr)
        return emu_refuse(cudaErrorMemoryAllocation, "cudaMallocHost: no %zu bytes", bytes);
    memset(*p, 0xFF, bytes);
    pinned[static_cast<char *>(*p)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    if (p == nullptr)
        return cudaSuccess;
    if (pinned.erase(static_cast<char *>(p)) == 0)
        return emu_refuse(cudaErrorInvalidValue, "cudaFreeHost: %p is not pinned", p);
    emu_drain();
    free(p);
    return cudaSuccess;
}
}
