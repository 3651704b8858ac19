/* The suite over the CUDA backend on the host emulator, in each of its orders of threads. */
#include "ops/suite_run.h"

#include "cuda/cuda.h"
#include "emu/emu.h"

int main(void)
{
    int failed = 0;
    for (int order = 0; order < EMU_ORDERS; order++) {
        char name[64];
        emu_set_order((enum emu_order)order, SUITE_SEED);
        snprintf(name, sizeof name, "ops on emulated cuda, %s", emu_order_name(order));
        failed += suite_main(name, cuda_open);
    }
    return failed;
}
