/* The suite over the CUDA backend on the host emulator, in each of its orders of threads. Under
 * AddressSanitizer in one: what it looks for does not depend on them. */
#include "backend/suite_run.h"

#include "cuda/cuda.h"
#include "emu/emu.h"

static enum status open_without_lt(struct backend *be, struct error *err)
{
    emu_refuse_lt(true);
    return cuda_open(be, err);
}

/* Where cuBLASLt has no kernel for a shape, its work is done in passes of our own. */
static int suite_without_lt(void)
{
    struct suite_job jobs[] = {{open_without_lt, case_ffn_up},
                               {open_without_lt, case_ffn_up_rounded},
                               {open_without_lt, case_ffn_up_masks}};
    const struct CMUnitTest tests[] = {
        {"ops_ffn_up", suite_test, NULL, NULL, &jobs[0]},
        {"ops_ffn_up_rounded", suite_test, NULL, NULL, &jobs[1]},
        {"ops_ffn_up_masks", suite_test, NULL, NULL, &jobs[2]},
    };
    return cmocka_run_group_tests_name("ops on emulated cuda, no cuBLASLt", tests, NULL, NULL);
}

/* Which rounding a device has for TF32 is not told, so that the suite must hold for each. Its
 * memory is the same for all. */
#if !defined(__SANITIZE_ADDRESS__)
static int suite_tf32(void)
{
    int failed = 0;
    for (int rounding = EMU_TF32_EVEN; rounding < EMU_TF32_ROUNDINGS; rounding++) {
        struct suite_job jobs[] = {{cuda_open, case_gemm_rounded},
                                   {cuda_open, case_ffn_up_rounded}};
        const struct CMUnitTest tests[] = {
            {"ops_gemm_rounded", suite_test, NULL, NULL, &jobs[0]},
            {"ops_ffn_up_rounded", suite_test, NULL, NULL, &jobs[1]},
        };
        emu_set_tf32((enum emu_tf32)rounding);
        failed += cmocka_run_group_tests_name(rounding == EMU_TF32_EVEN ? "TF32 with ties to even"
                                                                        : "TF32 cut off",
                                              tests, NULL, NULL);
    }
    emu_set_tf32(EMU_TF32_AWAY);
    return failed;
}
#endif

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
#if !defined(__SANITIZE_ADDRESS__)
    failed += suite_tf32();
#endif
    return failed + suite_without_lt();
}
