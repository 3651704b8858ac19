/* Fibers by switching stacks, which sanitizers are told of. */
#include "emu/fiber.h"

#include "emu/internal.h"
#include <sys/mman.h>
#include <vector>

/* Which sanitizer is linked in. The emulator itself is never compiled with ThreadSanitizer (its own
 * books would look like races), so the Makefile says EMU_TSAN. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

#if defined(EMU_TSAN)
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void *__tsan_get_current_fiber(void);
void __tsan_acquire(void *at);
void __tsan_release(void *at);
}
enum { NO_SYNC = 1 };
#endif

static const size_t PAGE = 4096, STACK = (EMU_ASAN ? 512 : 256) * 1024;

struct emu_fiber {
    void *top;   /* saved stack pointer */
    char *stack; /* owns, a guard page and then the stack */
    void *fake;  /* AddressSanitizer's second stack */
    void *tsan;
    void (*entry)(void *);
    void *arg;
};

static std::vector<emu_fiber *> fibers;
static emu_fiber *running;
static void *host_top;

#if EMU_ASAN
static void *host_fake;
static const void *host_stack;
static size_t host_size;
#endif
#if defined(EMU_TSAN)
static void *host_tsan;
#endif

static void begin()
{
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_size);
#endif
    running->entry(running->arg);
    abort();
}

#if defined(__x86_64__)

/* Saves the registers that a call preserves, then takes another stack and its registers. */
extern "C" void emu_switch(void **save, void *to);
asm(".text\n"
    ".globl emu_switch\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
    "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n"
    "    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");

static void *first_top(char *end)
{
    void **top = reinterpret_cast<void **>(end);
    *--top = nullptr; /* begin() is entered as if called, 8 off a multiple of 16 */
    *--top = reinterpret_cast<void *>(&begin);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    return top;
}

#else

#include <ucontext.h>

/* Slower, with two system calls a switch. */
static void emu_switch(void **save, void *to)
{
    ucontext_t here;
    *save = &here;
    swapcontext(&here, static_cast<ucontext_t *>(to));
}

static void *first_top(char *end)
{
    auto *context = new ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = end - STACK;
    context->uc_stack.ss_size = STACK;
    context->uc_link = nullptr;
    makecontext(context, begin, 0);
    return context;
}

#endif

emu_fiber *emu_fiber_make(void (*entry)(void *), void *arg)
{
    void *p = mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, PAGE, PROT_NONE) != 0)
        emu_die("no memory for the stack of a fiber");
    auto *fiber = new emu_fiber{};
    fiber->stack = static_cast<char *>(p);
    fiber->top = first_top(fiber->stack + PAGE + STACK);
    fiber->entry = entry;
    fiber->arg = arg;
#if defined(EMU_TSAN)
    fiber->tsan = __tsan_create_fiber(0);
#endif
    fibers.push_back(fiber);
    return fiber;
}

void emu_fiber_enter(emu_fiber *fiber)
{
    running = fiber;
#if EMU_ASAN
    __sanitizer_start_switch_fiber(&host_fake, fiber->stack + PAGE, STACK);
#endif
#if defined(EMU_TSAN)
    host_tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan, NO_SYNC);
#endif
    emu_switch(&host_top, fiber->top);
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(host_fake, nullptr, nullptr);
#endif
    running = nullptr;
}

void emu_fiber_yield()
{
    emu_fiber *fiber = running;
#if EMU_ASAN
    __sanitizer_start_switch_fiber(&fiber->fake, host_stack, host_size);
#endif
#if defined(EMU_TSAN)
    __tsan_switch_to_fiber(host_tsan, NO_SYNC);
#endif
    emu_switch(&fiber->top, host_top);
#if EMU_ASAN
    __sanitizer_finish_switch_fiber(fiber->fake, &host_stack, &host_size);
#endif
}

bool emu_fiber_overflow(const void *p)
{
    for (const emu_fiber *fiber : fibers)
        if (p >= fiber->stack && p < fiber->stack + PAGE)
            return true;
    return false;
}

#if defined(EMU_TSAN)
void emu_release(void *at)
{
    __tsan_release(at);
}
void emu_acquire(void *at)
{
    __tsan_acquire(at);
}
#else
void emu_release(void *) {}
void emu_acquire(void *) {}
#endif
