/* deq bench: how fast, and how near to what the machine can do. */
#include "cmd/bench/bench_gradient.h"
#include "cmd/bench/bench_growth.h"
#include "cmd/bench/bench_memory.h"
#include "cmd/bench/bench_runtime.h"
#include "cmd/bench/bench_step.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/machine.h"
#include "cmd/options.h"

#include <string.h>

static const char usage[] =
    "usage: deq bench train|solve [OPTION]...\n"
    "       deq bench memory [OPTION]...\n"
    "       deq bench runtime [--config FILE | --checkpoint FILE...] [OPTION]...\n"
    "       deq bench growth [OPTION]...\n"
    "       deq bench gradient --checkpoint FILE [OPTION]...\n"
    "\n"
    "Times training steps (train) or segments of evaluation (solve) on random tokens and sets\n"
    "them beside the machine's own speed, measured between the steps of the same run:\n"
    "OpenBLAS's cblas_sgemm, 1024 x 2048 x 512 on all threads, and a copy from memory to\n"
    "memory. Prints tokens/s; per operation calls, time, floating-point operations, bytes, the\n"
    "fractions of the machine's two rates, and the time at these rates; and the peak of memory\n"
    "above the program's start.\n"
    "\n"
    "      --config FILE    default: width 256, 8 heads, inner width 1024, 64 positions and 64\n"
    "                       of memory, 8 streams, 10,000 words, Broyden with the published\n"
    "                       limits 12 and 12 (13 evaluations of f, 12 products with its\n"
    "                       Jacobian)\n"
    "      --set KEY=VALUE  change a key of it\n"
    "      --steps N        timed steps (default: 20)\n"
    "      --threads N      processor threads (default: all)\n"
    "      --device NAME    cpu (default), cuda or auto; SGEMM is the processor's all the same\n"
    "                       (on a GPU operations start together: their seconds are download's)\n"
    "      --json           one JSON object: tokens_per_s, sgemm_gflops, gemm_fraction,\n"
    "                       peak_bytes, ops[], ...\n"
    "  -h, --help           this help\n"
    "\n" BENCH_MEMORY_USAGE "\n" BENCH_RUNTIME_USAGE "\n" BENCH_GROWTH_USAGE
    "\n" BENCH_GRADIENT_USAGE;

static const struct {
    const char *name;
    enum status (*run)(int argc, char **argv, struct error *err);
} others[] = {
    {"memory", bench_memory},
    {"runtime", bench_runtime},
    {"growth", bench_growth},
    {"gradient", bench_gradient},
};
enum { OTHERS = sizeof others / sizeof *others };

struct request {
    const char *what, *config, *device;
    struct option_list set;
    int64_t steps, threads, vocab;
    bool json;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const struct option_rule rules[] = {
        OPTION("config", TEXT, &r->config),
        OPTION("set", LIST, &r->set),
        OPTION("steps", INT, &r->steps, .min = 1, .max = OPTION_STEPS_MAX),
        OPTION("device", TEXT, &r->device),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    int operand;
    TRY(options_read(rules, argc, argv, &operand, err));
    r->what = operand < argc ? argv[operand] : "";
    for (int i = 0; i < OTHERS; i++)
        if (strcmp(r->what, others[i].name) == 0)
            return error_set(err, STATUS_USAGE, "%s goes before its options: deq bench %s ...",
                             r->what, r->what);
    if (operand + 1 != argc || (strcmp(r->what, "train") != 0 && strcmp(r->what, "solve") != 0))
        return error_set(err, STATUS_USAGE,
                         "want what to measure: deq bench train, solve, memory, runtime, growth "
                         "or gradient");
    return STATUS_OK;
}

static enum status load(const struct request *r, struct config *config, struct error *err)
{
    enum { WORDS = 10000 };
    TRY(load_config_or(r->config, bench_train_setting, config, err));
    TRY(load_config_set(config, &r->set, err));
    return load_config_resolve(config, WORDS, err);
}

static enum status bench(const struct request *r, const struct config *config, double start_bytes,
                         struct error *err)
{
    enum status status = STATUS_OK;
    struct backend be = {0};
    struct machine *machine = NULL;
    struct bench_step_result result;
    struct bench_report report = {.what = r->what, .config = config, .result = &result};
    bench_fn *run = strcmp(r->what, "solve") == 0 ? bench_solve : bench_train;
    TRY(device_open(&be, r->device, (int)r->threads, err));
    /* first without the peer, whose buffers are not ours: the peak of memory */
    TRY_OUT(run(&be, config, 1, NULL, NULL, &result, err));
    report.peak = machine_memory_line("VmHWM:") - start_bytes;
    TRY_OUT(machine_create(&machine, be.threads, err));
    TRY_OUT(run(&be, config, r->steps, machine_measure, machine, &result, err));
    report.sgemm = machine_sgemm(machine);
    report.bandwidth = machine_bandwidth(machine);
    TRY_OUT(bench_report_print(&report, r->json, err));
out:
    machine_free(machine);
    backend_close(&be);
    return status;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    for (int i = 0; argc > 1 && i < OTHERS; i++)
        if (strcmp(argv[1], others[i].name) == 0)
            return others[i].run(argc - 1, argv + 1, err);
    struct request r = {.device = "cpu", .steps = 20};
    struct config config;
    TRY(parse(&r, argc, argv, err));
    TRY(load(&r, &config, err));
    TRY(machine_restart_if_unfair(err));
    return bench(&r, &config, machine_memory_line("VmRSS:"), err);
}

const struct command command_bench = {
    .name = "bench",
    .summary = "how fast steps are beside the machine's limits; gradients compared",
    .usage = usage,
    .run = run_command,
};
