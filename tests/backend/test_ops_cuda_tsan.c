/* The cases of the suite over the emulated CUDA backend, with ThreadSanitizer on its kernels: every
 * CUDA thread is a thread of its own, which only barriers order, so that a race is reported in any
 * order of threads. Results are compared elsewhere too, so every case runs but once. */
#include "backend/suite_run.h"

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
    const struct suite_job *job = *state;
    struct error err;
    struct backend test, ref;
    if (job->open(&test, &err) != STATUS_OK || ref_open(&ref, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    struct suite s = {.be = {&test, &ref}, .key = {SUITE_SEED, 1}, .eps = FLT_EPSILON};
    job->run(&s);
    backend_close(&test);
    backend_close(&ref);
    if (s.failures > 0)
        fail_msg("%s", s.first);
}

int main(void)
{
    emu_set_order(EMU_SHUFFLED, SUITE_SEED);
    return suite_main_by(run_once, "races of ops on emulated cuda", cuda_open);
}
