/* The cases of the suite over the emulated CUDA backend, with ThreadSanitizer on its kernels: every
 * CUDA thread is a thread of its own, which only barriers order, so that a race is reported in any
 * order of threads. Results are compared elsewhere too, so every case runs but once. */
#include "ops/suite_run.h"

#include "cuda/cuda.h"
#include "emu/emu.h"

/* A report ends the program, as a failed test. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "halt_on_error=1:report_signal_unsafe=0";
}

static void run_once(void **state)
{
    case_fn *run = *(case_fn **)*state;
    struct error err;
    struct backend test, ref;
    if (cuda_open(&test, &err) != STATUS_OK || ref_open(&ref, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    struct suite s = {.be = {&test, &ref}, .key = {SUITE_SEED, 1}, .eps = FLT_EPSILON};
    run(&s);
    backend_close(&test);
    backend_close(&ref);
    if (s.failures > 0)
        fail_msg("%s", s.first);
}

int main(void)
{
    case_fn *cases[] = {
#define X(c) case_##c,
        SUITE_CASES(X)
#undef X
    };
    struct CMUnitTest tests[] = {
#define X(c) {"races_" #c, run_once, NULL, NULL, NULL},
        SUITE_CASES(X)
#undef X
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        tests[k].initial_state = &cases[k];
    emu_set_order(EMU_SHUFFLED, SUITE_SEED);
    return cmocka_run_group_tests_name("races of ops on emulated cuda", tests, NULL, NULL);
}
