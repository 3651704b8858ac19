/* deq bench train and deq bench solve time training steps, or segments of evaluation, beside the
 * machine's own speed. */
#include "base/mem.h"
#include "bench/bench.h"
#include "bench/device_roof.h"
#include "bench/roof.h"
#include "cmd/bench/tools.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/machine.h"
#include "cmd/output.h"
#include "cmd/trace.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WORDS = 10000 }; /* of the vocabulary, unless model.vocab_size names another number */

struct request {
    const char *config, *device, *trace;
    struct option_list set;
    int64_t steps, threads;
    bool json;
};

static const struct option_rule options[] = {
    OPTION_CONFIG(.unset = "width 256, 8 heads, inner width 1024, 64 positions and 64 of memory, 8 "
                           "streams, 10,000 words, and Broyden with the published limits, which "
                           "are 13 evaluations of f and 12 products with its Jacobian"),
    OPTION_SET(""),
    OPTION("steps", INT, steps, .value = "N", .min = 1, .max = OPTION_STEPS_MAX,
           .help = "Steps that are timed.", .initial = "20"),
    OPTION_DEVICE("cpu"),
    OPTION_THREADS,
    OPTION_TRACE(""),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"bench", "train or solve."},
    {"device", "The name of the device that computes, cpu for the processor."},
    {"tokens_per_s", "Tokens per second, of the median step."},
    {"sgemm_gflops", "The machine's SGEMM, in GFLOP/s."},
    {"bandwidth_gbytes_per_s", "The machine's copy, in GB/s."},
    {"tokens_per_s_per_gflops", "Tokens per second over the GFLOP/s of SGEMM."},
    {"gemm_gflops", "Our products, in GFLOP/s."},
    {"gemm_fraction",
     "The same as a share of SGEMM, which other routines may exceed, or null for a "
     "GPU."},
    {"product_gflops",
     "The fastest product routine of the device that computes, in GFLOP/s. For a GPU it is in "
     "train.precision."},
    {"product_routine", "The name of that routine."},
    {"product_fraction", "Our products as a share of it, at most 1."},
    {"cache_gbytes_per_s",
     "The machine's fastest loop over data in its first cache, in GB/s, or null for a GPU."},
    {"copy_gbytes_per_s",
     "A copy within the memory of the device that computes, in GB/s. It counts the bytes read and "
     "those written."},
    {"peak_bytes",
     "The peak of memory above the program's start, or of a GPU's memory that the run held."},
    {"steps", "Steps that were timed, over which ops[] adds up."},
    {"step_seconds", "Seconds of the median step."},
    {"step_seconds_fastest", "Seconds of the fastest step."},
    {"limit_step_seconds",
     "The bound of a step, which is its seconds if every operation ran at the "
     "rates of the fastest product routine and of the first cache, or of a GPU's copy."},
    {"ops_timed_by",
     "clock if the operations' seconds are those of the host's clock, or events if a GPU timed "
     "each of them. It did so in as many further steps, which start operation by operation."},
    {"busy_seconds", "The seconds of all operations of a step. A GPU idles for the rest."},
    {"parameters", "Parameters of the model."},
    {"forward_evaluations", "Evaluations of f in the forward solve of a step."},
    {"backward_evaluations", "Products with f's Jacobian in the backward solve."},
    {"ops[]",
     "For each operation name, calls, seconds, share, flops, bytes, gflops, "
     "gbytes_per_s, the fractions sgemm_fraction, bandwidth_fraction, product_fraction, "
     "cache_fraction and copy_fraction, and limit_seconds. On a GPU the fractions of SGEMM, of the "
     "machine's copy and of its cache are null."},
    {"phases[]", "For each phase of a step name, seconds, share and product_flops."},
    {"setting", "The resolved configuration."},
    {0},
};

/* --- the result ------------------------------------------------------------------------------- */

struct report {
    const char *what; /* "train" or "solve" */
    const struct config *config;
    const struct bench_step_result *result;
    double sgemm, bandwidth; /* of the machine, in GFLOP/s and GB/s */
    struct roof roof;        /* of what computes. A GPU's `memory` is its copy */
    bool gpu;
    char device[128]; /* its name */
    double peak;      /* bytes above the program's start */
};

/* A share of what the processor does, NaN where it does not compute. */
static double beside_processor(const struct report *r, double x)
{
    return r->gpu ? NAN : x;
}

struct figures {
    double tokens_per_s, gemm_rate, limit, busy; /* the last two are in seconds of a step */
    double steps;
    enum op_id order[OP_COUNT]; /* operations by falling time */
};

/* The bound of all calls of an operation. */
static double limit_of(const struct report *r, const struct op_stat *s)
{
    return roof_seconds(&r->roof, s->flops, s->bytes);
}

static void derive(const struct report *r, struct figures *f)
{
    static const enum op_id products[] = {OP_gemm, OP_ffn_up, OP_ffn_up_vjp};
    const struct op_stat *stat = r->result->stat;
    double flops = 0, seconds = 0;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        flops += stat[products[i]].flops;
        seconds += stat[products[i]].seconds;
    }
    f->tokens_per_s = (double)r->result->tokens / r->result->seconds;
    f->gemm_rate = seconds > 0 ? flops / seconds / 1e9 : 0;
    f->steps = (double)r->result->steps;
    f->limit = f->busy = 0;
    for (int i = 0; i < OP_COUNT; i++) {
        f->limit += limit_of(r, &stat[i]) / f->steps;
        f->busy += stat[i].seconds / f->steps;
    }
    bench_order(stat, f->order);
}

/* Bytes/s of a copy within the memory of what computes. */
static double copy_rate(const struct report *r)
{
    return r->gpu ? r->roof.memory : 1e9 * r->bandwidth;
}

static void write_op(struct json_writer *w, const struct report *r, enum op_id id)
{
    const struct op_stat *s = &r->result->stat[id];
    json_write_object(w, NULL);
    json_write_string(w, "name", op_name(id));
    json_write_int(w, "calls", s->calls);
    json_write_real(w, "seconds", s->seconds);
    json_write_real(w, "share", s->seconds / r->result->total_seconds);
    json_write_real(w, "flops", s->flops);
    json_write_real(w, "bytes", s->bytes);
    json_write_real(w, "gflops", s->flops / s->seconds / 1e9);
    json_write_real(w, "gbytes_per_s", s->bytes / s->seconds / 1e9);
    double flops = s->flops / s->seconds, bytes = s->bytes / s->seconds;
    json_write_real(w, "sgemm_fraction", beside_processor(r, flops / 1e9 / r->sgemm));
    json_write_real(w, "bandwidth_fraction", beside_processor(r, bytes / 1e9 / r->bandwidth));
    json_write_real(w, "product_fraction", flops / r->roof.product);
    json_write_real(w, "cache_fraction", beside_processor(r, bytes / r->roof.memory));
    json_write_real(w, "copy_fraction", bytes / copy_rate(r));
    json_write_real(w, "limit_seconds", limit_of(r, s));
    json_write_end(w);
}

/* What a phase took of all timed steps: the seconds and floating-point operations. */
static struct op_stat sum_of_phase(const struct report *r, int phase)
{
    struct op_stat sum = {0};
    for (int i = 0; i < OP_COUNT; i++) {
        sum.seconds += r->result->phase[phase][i].seconds;
        sum.flops += r->result->phase[phase][i].flops;
    }
    return sum;
}

static void write_phases(struct json_writer *w, const struct report *r, const struct figures *f)
{
    json_write_array(w, "phases");
    for (int i = 0; i < BENCH_COUNT; i++) {
        struct op_stat sum = sum_of_phase(r, i);
        json_write_object(w, NULL);
        json_write_string(w, "name", bench_phase_text((enum bench_phase)i));
        json_write_real(w, "seconds", sum.seconds / f->steps);
        json_write_real(w, "share", sum.seconds / r->result->total_seconds);
        json_write_real(w, "product_flops", sum.flops / f->steps);
        json_write_end(w);
    }
    json_write_end(w);
}

static void print_phases(const struct report *r, const struct figures *f)
{
    printf("%-27s %9s %7s %9s\n", "a step: phase", "ms", "share", "GFLOP");
    for (int i = 0; i < BENCH_COUNT; i++) {
        struct op_stat sum = sum_of_phase(r, i);
        if (sum.seconds > 0)
            printf("%-27s %9.3f %6.1f%% %9.3f\n", bench_phase_text((enum bench_phase)i),
                   1e3 * sum.seconds / f->steps, 100 * sum.seconds / r->result->total_seconds,
                   sum.flops / f->steps / 1e9);
    }
}

static enum status print_json(const struct report *r, const struct figures *f, struct error *err)
{
    struct json_writer w;
    char *setting = NULL;
    const struct bench_step_result *b = r->result;
    TRY(config_to_json(r->config, false, &setting, err));
    output_json_begin(&w);
    json_write_string(&w, "bench", r->what);
    json_write_string(&w, "device", r->device);
    json_write_real(&w, "tokens_per_s", f->tokens_per_s);
    json_write_real(&w, "sgemm_gflops", r->sgemm);
    json_write_real(&w, "bandwidth_gbytes_per_s", r->bandwidth);
    json_write_real(&w, "tokens_per_s_per_gflops", f->tokens_per_s / r->sgemm);
    json_write_real(&w, "gemm_gflops", f->gemm_rate);
    json_write_real(&w, "gemm_fraction", beside_processor(r, f->gemm_rate / r->sgemm));
    json_write_real(&w, "product_gflops", r->roof.product / 1e9);
    json_write_string(&w, "product_routine", r->roof.routine);
    json_write_real(&w, "product_fraction", 1e9 * f->gemm_rate / r->roof.product);
    json_write_real(&w, "cache_gbytes_per_s", beside_processor(r, r->roof.memory / 1e9));
    json_write_real(&w, "copy_gbytes_per_s", copy_rate(r) / 1e9);
    json_write_real(&w, "peak_bytes", r->peak);
    json_write_int(&w, "steps", b->steps);
    json_write_real(&w, "step_seconds", b->seconds);
    json_write_real(&w, "step_seconds_fastest", b->fastest);
    json_write_real(&w, "limit_step_seconds", f->limit);
    json_write_string(&w, "ops_timed_by", b->device_times ? "events" : "clock");
    json_write_real(&w, "busy_seconds", f->busy);
    json_write_int(&w, "parameters", b->parameters);
    json_write_real(&w, "forward_evaluations", b->forward_evals);
    json_write_real(&w, "backward_evaluations", b->backward_evals);
    json_write_array(&w, "ops");
    for (int i = 0; i < OP_COUNT; i++)
        if (b->stat[f->order[i]].calls > 0)
            write_op(&w, r, f->order[i]);
    json_write_end(&w);
    write_phases(&w, r, f);
    json_write_raw(&w, "setting", setting);
    mem_free(setting);
    return output_json_print(&w, err);
}

/* A fraction of a roof, or "-" where there is none. */
static void fraction_text(double x, char out[16])
{
    snprintf(out, 16, isfinite(x) ? "%.3f" : "-", x);
}

static void print_op(const struct report *r, const struct figures *f, enum op_id id)
{
    const struct op_stat *s = &r->result->stat[id];
    double rate = s->flops / s->seconds, bytes = s->bytes / s->seconds;
    double limit = 1e3 * limit_of(r, s) / f->steps;
    char product[16], cache[16], bound[16];
    fraction_text(rate / r->roof.product, product);
    fraction_text(bytes / r->roof.memory, cache);
    snprintf(bound, sizeof bound, isfinite(limit) ? "%.3f" : "-", limit);
    printf("%-18s %8.1f %9.3f %6.1f%% %9.3f %8.2f %9.1f %6s %8.1f %6s %9s\n", op_name(id),
           (double)s->calls / f->steps, 1e3 * s->seconds / f->steps,
           100 * s->seconds / r->result->total_seconds, s->flops / f->steps / 1e9,
           s->bytes / f->steps / 1e6, rate / 1e9, product, bytes / 1e9, cache, bound);
}

static void print_bound(const struct report *r, const struct figures *f)
{
    const struct bench_step_result *b = r->result;
    printf("fastest product routine %.1f GFLOP/s (%s, %lld x %lld x %lld); %s %.0f GB/s\n",
           r->roof.product / 1e9, r->roof.routine, (long long)r->roof.m, (long long)r->roof.n,
           (long long)r->roof.k, r->gpu ? "copy" : "first cache", r->roof.memory / 1e9);
    printf("bound: every operation at those rates takes %.1f ms a step, %.2f of the time it took; "
           "products reach %.2f\n",
           1e3 * f->limit, f->limit / b->seconds, 1e9 * f->gemm_rate / r->roof.product);
}

static void print_table(const struct report *r, const struct figures *f)
{
    const struct bench_step_result *b = r->result;
    printf("%lld parameters, %lld tokens a step, %.0f evaluations of f and %.0f products with its "
           "Jacobian in the solves\n",
           (long long)b->parameters, (long long)b->tokens, b->forward_evals, b->backward_evals);
    printf("%.0f tokens/s (step %.1f ms, fastest %.1f ms); peak memory %.1f MiB%s\n",
           f->tokens_per_s, 1e3 * b->seconds, 1e3 * b->fastest, r->peak / (1 << 20),
           r->gpu ? " of the device" : " above the start");
    if (r->gpu)
        printf("products %.1f GFLOP/s on %s, as events around each operation tell in %.0f further "
               "steps\n",
               f->gemm_rate, r->device, f->steps);
    else
        printf("products %.1f GFLOP/s; OpenBLAS's sgemm %.1f (%s), %.2f tokens/s per GFLOP/s of "
               "it; copy %.1f GB/s\n",
               f->gemm_rate, r->sgemm, machine_core(), f->tokens_per_s / r->sgemm, r->bandwidth);
    print_bound(r, f);
    printf("%-18s %8s %9s %7s %9s %8s %9s %6s %8s %6s %9s\n", "a step: operation", "calls", "ms",
           "share", "GFLOP", "MB", "GFLOP/s", "of it", "GB/s", "of it", "bound ms");
    for (int i = 0; i < OP_COUNT; i++) {
        if (b->stat[f->order[i]].calls == 0)
            continue;
        print_op(r, f, f->order[i]);
    }
    double rest = b->total_seconds / f->steps - f->busy;
    printf("%-18s %8s %9.3f %6.1f%%\n", r->gpu ? "(idle)" : "(outside)", "", 1e3 * rest,
           100 * rest * f->steps / b->total_seconds);
    print_phases(r, f);
}

/* --- the command ------------------------------------------------------------------------------ */

static enum status print(const struct report *r, bool json, struct error *err)
{
    struct figures f;
    derive(r, &f);
    if (json)
        return print_json(r, &f, err);
    print_table(r, &f);
    return STATUS_OK;
}

/* Measures the roofs of a GPU. */
static enum status measure_gpu(struct roof *r, struct backend *be, struct error *err)
{
    static const char *const routines[PRECISION_COUNT] = {"cuBLAS in fp32", "cuBLAS in tf32",
                                                          "cuBLAS in bf16"};
    struct device_roof d;
    TRY(backend_time_calls(be, true, err));
    enum status status = device_roof_measure(&d, be, err);
    TRY(backend_time_calls(be, false, err));
    *r = (struct roof){.product = d.product,
                       .memory = d.copy,
                       .routine = routines[be->precision],
                       .m = d.size,
                       .n = d.size,
                       .k = d.size};
    return status;
}

/* Measures the roofs of what computes, and keeps the higher ones. It is called before the steps and
 * after them, so that a device whose clock has changed in between is not below its own roof. */
static enum status measure_roof(struct backend *be, struct report *report, struct error *err)
{
    struct roof now, *r = &report->roof;
    if (report->gpu)
        TRY(measure_gpu(&now, be, err));
    else
        TRY(roof_measure(&now, be->threads, report->config->train.precision, err));
    double memory = fmax(now.memory, r->memory);
    if (now.product > r->product)
        *r = now;
    r->memory = memory;
    return STATUS_OK;
}

/* Measures steps of training, or of evaluation. Memory comes first, without the peer, whose buffers
 * are not ours. */
static enum status measure(const struct request *r, bool train, struct report *report,
                           struct error *err)
{
    enum status status = STATUS_OK;
    struct backend be = {0};
    struct machine *machine = NULL;
    struct bench_step_result result;
    double start_bytes = machine_memory_line("VmRSS:");
    const struct bench_options first = {.train = train, .steps = 1};
    struct bench_options timed = {.train = train, .steps = r->steps, .between = machine_measure};
    report->result = &result;
    TRY(device_open(&be, r->device, (int)r->threads, err));
    report->gpu = be.ops->clock != NULL;
    const char *name = be.device_name[0] != '\0' ? be.device_name : be.ops->name;
    snprintf(report->device, sizeof report->device, "%.*s", (int)strcspn(name, ","), name);
    TRY_OUT(bench_run(&be, report->config, &first, &result, err));
    report->peak =
        report->gpu ? (double)be.peak_bytes : machine_memory_line("VmHWM:") - start_bytes;
    TRY_OUT(measure_roof(&be, report, err));
    TRY_OUT(machine_create(&machine, be.threads, err));
    timed.ctx = machine;
    if (r->trace != NULL)
        TRY_OUT(trace_begin(&be, r->trace, err));
    status = bench_run(&be, report->config, &timed, &result, err);
    TRY_OUT(trace_end(&be, r->trace, r->json, status, err));
    report->sgemm = machine_sgemm(machine);
    report->bandwidth = machine_bandwidth(machine);
    TRY_OUT(measure_roof(&be, report, err));
    TRY_OUT(print(report, r->json, err));
out:
    machine_free(machine);
    backend_close(&be);
    return status;
}

static enum status run_tool(const struct command *tool, bool train, int argc, char **argv,
                            struct error *err)
{
    struct request r = {0};
    struct config config;
    struct report report = {.what = tool->name, .config = &config};
    TRY(command_read(tool, &r, argc, argv, NULL, err));
    TRY(load_config_or(r.config, bench_train_setting, &config, err));
    TRY(load_config_set(&config, &r.set, err));
    TRY(load_config_resolve(&config, WORDS, err));
    TRY(machine_restart_if_unfair(err));
    return measure(&r, train, &report, err);
}

static enum status run_train(int argc, char **argv, struct error *err)
{
    return run_tool(&bench_tool_train, true, argc, argv, err);
}

static enum status run_solve(int argc, char **argv, struct error *err)
{
    return run_tool(&bench_tool_solve, false, argc, argv, err);
}

#define BESIDE_THE_MACHINE                                                                        \
    "on random tokens and sets them beside the machine's own speed, which is measured in the "    \
    "same "                                                                                       \
    "run. That is OpenBLAS's cblas_sgemm, 1024 x 2048 x 512 on all threads, a copy from memory "  \
    "to "                                                                                         \
    "memory, and the two roofs. One is the fastest product routine of oneDNN and OpenBLAS, at "   \
    "the "                                                                                        \
    "sizes that suit it best. The other is a loop over data in the first cache.\n"                \
    "Prints tokens/s and, for each operation, its calls, time, floating-point operations and "    \
    "bytes, the fractions of the two roofs, and the bound, which is the time at the roofs. Also " \
    "prints the peak of memory above the program's start.\n"                                      \
    "Where the steps run on a GPU, the roofs are its own, measured by its clock. They are its "   \
    "fastest product in train.precision and its copy. Each operation is timed by events of the "  \
    "GPU, in as many further steps. Operations that are shorter than their launch count as long " \
    "as that, which is some microseconds."

const struct command bench_tool_train = {
    .name = "train",
    .parent = "bench",
    .summary = "training steps, operation by operation, beside the machine's speed",
    .stray = "a configuration is named by --config",
    .description = "Times training steps " BESIDE_THE_MACHINE,
    .options = options,
    .json = fields,
    .examples = (const char *const[]){"deq bench train --set train.batch=16 --steps 5",
                                      "deq bench train --steps 3 --trace steps.json", NULL},
    .run = run_train,
};

const struct command bench_tool_solve = {
    .name = "solve",
    .parent = "bench",
    .summary = "segments of evaluation, in the same way",
    .stray = "a configuration is named by --config",
    .description = "Times segments of evaluation " BESIDE_THE_MACHINE,
    .options = options,
    .json = fields,
    .examples = (const char *const[]){"deq bench solve --set solver.forward.max_iter=30", NULL},
    .run = run_solve,
};
