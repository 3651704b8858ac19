/* Shared memory of the block that runs. Static variables lie between red zones, and are known when
 * a thread first comes to them. The dynamic part ends at a guard page. All of it is NaN when a
 * block starts. */
#include "emu/internal.h"

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)0)
#endif
/* Red zones are looked at where no sanitizer is. */
#if defined(__SANITIZE_ADDRESS__) || defined(EMU_TSAN)
#define CHECK_ZONES 0
#else
#define CHECK_ZONES 1
#endif

static const size_t PAGE = 4096, STATIC_ARENA = 256 * 1024, DYNAMIC_ARENA = 256 * 1024;
static const size_t RED_ZONE = 128, MAX_VARIABLES = 64;
static const int MARGIN = 0xA5;

struct static_variable {
    const char *site, *name;
    size_t offset, bytes;
};

/* The arena has a page that the caller may use for addresses, static variables, dynamic memory, and
 * a guard page. */
static struct {
    char *arena, *fixed, *dynamic_end;
    static_variable variable[MAX_VARIABLES];
    size_t variables, fixed_used;
    size_t dynamic, limit; /* bytes of the launch, bytes of a block */
} shared;

#if defined(EMU_TSAN)
/* memset would be a write in ThreadSanitizer's eyes, by the fiber that happens to run. */
__attribute__((optimize("no-tree-loop-distribute-patterns"))) static void
set_bytes(char *p, int value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = static_cast<char>(value);
}
#else
#define set_bytes memset
#endif

static void *dynamic_start()
{
    size_t bytes = (shared.dynamic + 15) / 16 * 16;
    return shared.dynamic_end - bytes;
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

/* For ThreadSanitizer it must be new memory, since otherwise two blocks that use it one after the
 * other would race. */
char *emu_shared_start(const emu_kernel &kernel)
{
    shared.dynamic = kernel.dynamic;
    shared.limit = emu_shared_limit(kernel.entry);
#if defined(EMU_TSAN)
    if (shared.arena != nullptr)
        munmap(shared.arena, PAGE + STATIC_ARENA + DYNAMIC_ARENA + PAGE);
    shared.arena = nullptr;
#endif
    bool fresh = shared.arena == nullptr;
    if (fresh)
        shared.arena = map_arena();
    shared.fixed = shared.arena + PAGE;
    shared.dynamic_end = shared.fixed + STATIC_ARENA + DYNAMIC_ARENA;
    if (fresh) {
#if CHECK_ZONES
        set_bytes(shared.fixed, MARGIN, STATIC_ARENA);
#endif
        ASAN_POISON_MEMORY_REGION(shared.fixed, STATIC_ARENA + DYNAMIC_ARENA);
    }
    for (size_t i = 0; i < shared.variables; i++) {
        const static_variable &v = shared.variable[i];
        ASAN_UNPOISON_MEMORY_REGION(shared.fixed + v.offset, v.bytes);
        set_bytes(shared.fixed + v.offset, 0xFF, v.bytes);
    }
    size_t bytes = shared.dynamic;
    char *start = static_cast<char *>(dynamic_start());
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
    set_bytes(start, 0xFF, bytes);
    return shared.arena;
}

static void check_zone(const char *from, const char *to, const char *name)
{
    for (const char *p = from; p < to; p++)
        if (static_cast<unsigned char>(*p) != MARGIN)
            emu_die("wrote out of bounds, %td bytes behind the shared variable %s", p - from, name);
}

void emu_shared_check()
{
#if CHECK_ZONES
    for (size_t i = 0; i < shared.variables; i++) {
        const static_variable &v = shared.variable[i];
        check_zone(shared.fixed + v.offset + v.bytes, shared.fixed + v.offset + v.bytes + RED_ZONE,
                   v.name);
    }
    char *start = static_cast<char *>(dynamic_start()), *end = start + shared.dynamic;
    for (const char *p = end; p < shared.dynamic_end; p++)
        if (*p != 0)
            emu_die("wrote out of bounds, %td bytes behind the dynamic shared memory", p - end);
#else
    (void)check_zone;
#endif
}

void emu_shared_forget()
{
#if CHECK_ZONES
    set_bytes(shared.fixed, MARGIN, shared.fixed_used + RED_ZONE);
    set_bytes(static_cast<char *>(dynamic_start()), 0, shared.dynamic);
#endif
    ASAN_POISON_MEMORY_REGION(shared.fixed, STATIC_ARENA + DYNAMIC_ARENA);
    shared.variables = 0;
    shared.fixed_used = 0;
}

void *emu_static_shared(const char *site, size_t bytes, const char *name)
{
    size_t total = bytes;
    for (size_t i = 0; i < shared.variables; i++) {
        if (shared.variable[i].site == site)
            return shared.fixed + shared.variable[i].offset;
        total += shared.variable[i].bytes;
    }
    size_t offset = (shared.fixed_used + RED_ZONE - 1) / RED_ZONE * RED_ZONE;
    if (total > EMU_SHARED_BYTES || total + shared.dynamic > shared.limit ||
        shared.variables == MAX_VARIABLES)
        emu_die("%zu bytes of static shared memory in %zu variables, %zu dynamic; a block has %zu "
                "and %zu with the dynamic ones",
                total, shared.variables + 1, shared.dynamic, EMU_SHARED_BYTES, shared.limit);
    shared.variable[shared.variables++] = {site, name, offset, bytes};
    shared.fixed_used = offset + bytes + RED_ZONE;
    ASAN_UNPOISON_MEMORY_REGION(shared.fixed + offset, bytes);
    set_bytes(shared.fixed + offset, 0xFF, bytes);
    return shared.fixed + offset;
}

void *emu_dynamic_shared()
{
    return dynamic_start();
}
