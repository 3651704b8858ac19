/* The suite over the CUDA backend on the host emulator, in each of its orders of threads. Under
 * AddressSanitizer in one: what it looks for does not depend on them. */
#include "ops/suite_run.h"

#include "cuda/cuda.h"
#include "emu/emu.h"

int main(void)
{
    int failed = 0, first = 0;
#if defined(__SANITIZE_ADDRESS__)
    first = EMU_SHUFFLED;
#endif
    for (int order = first; order < EMU_ORDERS; order++) {
        char name[64];
        emu_set_order((enum emu_order)order, SUITE_SEED);
        snprintf(name, sizeof name, "ops on emulated cuda, %s", emu_order_name(order));
        failed += suite_main(name, cuda_open);
    }
    return failed;
}
