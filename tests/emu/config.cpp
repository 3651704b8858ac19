/* The emulator's settings, its random numbers and its last words. */
#include "emu/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <utility>

static const char *const order_names[EMU_ORDERS] = {"ascending", "descending", "shuffled"};

/* A number from the environment. Anything else is a fault of the caller. */
static long long number(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    if (text == nullptr || *text == 0)
        return otherwise;
    char *end;
    long long x = strtoll(text, &end, 10);
    if (*end != 0)
        emu_die("%s: want a number, got \"%s\"", name, text);
    return x;
}

static emu_order order_from_environment()
{
    const char *text = getenv("DEQ_EMU_ORDER");
    if (text == nullptr || *text == 0)
        return EMU_ASCENDING;
    for (int i = 0; i < EMU_ORDERS; i++)
        if (strcmp(text, order_names[i]) == 0)
            return static_cast<emu_order>(i);
    emu_die("DEQ_EMU_ORDER: want ascending, descending or shuffled, got \"%s\"", text);
}

/* Reads numbers, as CUDA does with its own variable, until one that there is not. Consecutive ones
 * are enough for us. */
static void see_devices(emu_config &c)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible == nullptr || *visible == 'G')
        return;
    int all = c.devices;
    char *end;
    c.visible = strtoll(visible, &end, 10);
    c.devices = end != visible && c.visible < all ? 1 : 0;
    while (c.devices > 0 && *end == ',' && strtoll(end + 1, &end, 10) == c.visible + c.devices &&
           c.visible + c.devices < all)
        c.devices++;
}

static emu_config read_environment()
{
    emu_config c = {};
    c.order = order_from_environment();
    c.random = static_cast<uint64_t>(number("DEQ_EMU_SEED", 1));
    c.fail_malloc = number("DEQ_EMU_FAIL_MALLOC", 0);
    c.lose_at = number("DEQ_EMU_LOSE_AT", 0);
    c.fail_capture = number("DEQ_EMU_FAIL_CAPTURE", 0);
    c.driver = static_cast<int>(number("DEQ_EMU_DRIVER", CUDART_VERSION));
    c.memory = static_cast<size_t>(number("DEQ_EMU_MEMORY", 16LL << 30));
    c.lt_slow = number("DEQ_EMU_LT_SLOW", 0) != 0;
    c.lt_refuses = number("DEQ_EMU_NO_LT", 0) != 0;
    c.quiet = number("DEQ_EMU_QUIET", 0) != 0;
    c.cublas = number("DEQ_EMU_CUBLAS", 1) != 0;
    c.nccl = number("DEQ_EMU_NCCL", 1) != 0;
    c.nccl_fail = number("DEQ_EMU_NCCL_FAIL", 0);
    c.nccl_lose = number("DEQ_EMU_NCCL_LOSE", 0);
    c.nccl_wait = static_cast<double>(number("DEQ_EMU_NCCL_WAIT", 60));
    c.devices = static_cast<int>(number("DEQ_EMU_DEVICES", 1));
    see_devices(c);
    const char *capability = getenv("DEQ_EMU_CC");
    if (sscanf(capability != nullptr ? capability : "9.0", "%d.%d", &c.major, &c.minor) != 2)
        emu_die("DEQ_EMU_CC: want a compute capability such as 9.0, got \"%s\"", capability);
    return c;
}

emu_config &emu_conf()
{
    static emu_config config = read_environment();
    return config;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t emu_below(uint64_t n)
{
    uint64_t z = emu_conf().random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return n <= UINT32_MAX ? (z >> 32) * n >> 32 : z % n;
}

void emu_arrange(uint32_t *at, size_t n)
{
    emu_order order = emu_conf().order;
    for (size_t i = 0; i < n; i++)
        at[i] = static_cast<uint32_t>(order == EMU_DESCENDING ? n - 1 - i : i);
    for (size_t i = n; order == EMU_SHUFFLED && i > 1; i--)
        std::swap(at[i - 1], at[emu_below(i)]);
}

void emu_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fprintf(stderr, "emulator: %s", emu_where());
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

const char *emu_order_name(emu_order order)
{
    return order_names[order];
}

static int range_depth;

void emu_range_begins(const char *name)
{
    if (name == nullptr || *name == 0 || ++range_depth > 8)
        emu_die("a range without a name, or one that never ends");
}

void emu_range_ends(void)
{
    if (--range_depth < 0)
        emu_die("a range ends that has not begun");
    emu_conf().counts.ranges++;
}

void emu_slow_lt(bool slow)
{
    emu_conf().lt_slow = slow;
}

void emu_refuse_lt(bool refuses)
{
    emu_conf().lt_refuses = refuses;
}

void emu_set_tf32(emu_tf32 rounding)
{
    emu_conf().tf32 = rounding;
}

void emu_set_order(emu_order order, uint64_t seed)
{
    emu_conf().order = order;
    emu_conf().random = seed;
}

void emu_fail_malloc(long nth)
{
    emu_conf().fail_malloc = nth;
}

void emu_fail_capture(long every)
{
    emu_conf().fail_capture = every;
    emu_conf().capture_calls = 0;
}

void emu_lose_device(long nth_kernel)
{
    emu_conf().lose_at = nth_kernel;
}

struct emu_counts emu_count(void)
{
    return emu_conf().counts;
}
