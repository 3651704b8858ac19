/* deq bench: how fast, and how near to what the machine can do. */
#include "train/bench.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "commands.h"
#include "device.h"
#include "options.h"
#include "paths.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: deq bench train [--config FILE] [--set KEY=VALUE]... [--steps N] [--threads N] "
    "[--json]\n"
    "\n"
    "Times training steps on random tokens and sets them beside the machine's own speed: "
    "OpenBLAS's\n"
    "cblas_sgemm, 1024 x 2048 x 512 on all threads, measured between the steps of the same run.\n"
    "Prints tokens/s, the share of time of each operation, and the peak of memory above the\n"
    "program's start.\n"
    "\n"
    "      --config FILE    default: width 256, 8 heads, inner width 1024, 64 positions and 64 of\n"
    "                       memory, 8 streams, 10,000 words, Broyden with the published limits 12\n"
    "                       and 12 (13 evaluations of f, 12 products with its Jacobian)\n"
    "      --set KEY=VALUE  change a key of it\n"
    "      --steps N        timed steps (default: 20)\n"
    "      --threads N      processor threads (default: all)\n"
    "      --json           one JSON object: tokens_per_s, sgemm_gflops, gemm_fraction, "
    "peak_bytes,\n"
    "                       ops[], ...\n"
    "  -h, --help           this help\n";

enum {
    OPT_CONFIG = 256,
    OPT_SET,
    OPT_STEPS,
    OPT_THREADS,
    OPT_JSON,
    MAX_SET = 64,
    MAX_THREADS = 4096,
    MAX_STEPS = 100000
};

enum { SGEMM_M = 1024, SGEMM_N = 2048, SGEMM_K = 512, SGEMM_BEST_OF = 3 };

static const struct option known_options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"set", required_argument, NULL, OPT_SET},
    {"steps", required_argument, NULL, OPT_STEPS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct request {
    const char *config;
    const char *set[MAX_SET];
    int set_count;
    int64_t steps, threads, vocab;
    bool json;
};

/* The peer: best rates seen between the steps, and their median. */
struct sgemm {
    float *a, *b, *c; /* owns */
    double rate[MAX_STEPS + 1];
    int64_t count;
};

/* OpenBLAS takes a processor it does not know for one of 2004. Then it is told, for a fair
 * comparison, and since it listens only when it is loaded, the program starts itself again. */
static void make_peer_fair(char **argv)
{
    const char *core = NULL;
    if (getenv("OPENBLAS_CORETYPE") != NULL)
        return;
    const char *now = openblas_get_corename();
    bool old = strcmp(now, "Prescott") == 0 || strcmp(now, "Core2") == 0 ||
               strcmp(now, "Nehalem") == 0 || strcmp(now, "Katmai") == 0;
#if defined(__x86_64__)
    if (old && __builtin_cpu_supports("avx512vl"))
        core = "SkylakeX";
    else if (old && __builtin_cpu_supports("avx2"))
        core = "Haswell";
#else
    (void)old;
#endif
    if (core == NULL)
        return;
    fprintf(stderr, "OpenBLAS takes this processor for a %s; measuring it as %s\n", now, core);
    setenv("OPENBLAS_CORETYPE", core, 1);
    execv("/proc/self/exe", argv); /* if that fails, the comparison is merely too kind to us */
}

static enum status sgemm_create(struct sgemm *s, struct error *err)
{
    TRY(mem_alloc((void **)&s->a, (size_t)SGEMM_M * SGEMM_K, sizeof(float), err));
    TRY(mem_alloc((void **)&s->b, (size_t)SGEMM_K * SGEMM_N, sizeof(float), err));
    TRY(mem_alloc((void **)&s->c, (size_t)SGEMM_M * SGEMM_N, sizeof(float), err));
    for (int i = 0; i < SGEMM_M * SGEMM_K; i++)
        s->a[i] = (float)(i % 7) - 3;
    for (int i = 0; i < SGEMM_K * SGEMM_N; i++)
        s->b[i] = (float)(i % 5) - 2;
    return STATUS_OK;
}

static void sgemm_free(struct sgemm *s)
{
    mem_free(s->a);
    mem_free(s->b);
    mem_free(s->c);
}

static void sgemm_measure(void *ctx)
{
    struct sgemm *s = ctx;
    double best = INFINITY;
    for (int i = 0; i < SGEMM_BEST_OF; i++) {
        double start = clock_seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SGEMM_M, SGEMM_N, SGEMM_K, 1, s->a,
                    SGEMM_K, s->b, SGEMM_N, 0, s->c, SGEMM_N);
        best = fmin(best, clock_seconds() - start);
    }
    s->rate[s->count++] = 2.0 * SGEMM_M * SGEMM_N * SGEMM_K / best / 1e9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sgemm_rate(struct sgemm *s)
{
    qsort(s->rate, (size_t)s->count, sizeof *s->rate, compare);
    return s->rate[s->count / 2];
}

/* A line of /proc/self/status in bytes, 0 if there is none. */
static double memory_line(const char *key)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtod(line + strlen(key), NULL);
    if (f != NULL)
        fclose(f);
    return kib * 1024;
}

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    int option;
    options_start();
    while ((option = getopt_long(argc, argv, ":h", known_options, NULL)) != -1) {
        switch (option) {
        case OPT_CONFIG:
            r->config = optarg;
            break;
        case OPT_SET:
            if (r->set_count == MAX_SET)
                return error_set(err, STATUS_USAGE, "--set: at most %d times", MAX_SET);
            r->set[r->set_count++] = optarg;
            break;
        case OPT_STEPS:
            TRY(options_int("--steps", optarg, 1, MAX_STEPS, &r->steps, err));
            break;
        case OPT_THREADS:
            TRY(options_int("--threads", optarg, 1, MAX_THREADS, &r->threads, err));
            break;
        case OPT_JSON:
            r->json = true;
            break;
        default:
            return options_refuse(option, argv, known_options, err);
        }
    }
    if (optind + 1 != argc || strcmp(argv[optind], "train") != 0)
        return error_set(err, STATUS_USAGE, "want what to measure: deq bench train");
    return STATUS_OK;
}

static enum status load(const struct request *r, struct config *config, struct error *err)
{
    enum { WORDS = 10000 };
    char path[PATHS_MAX];
    TRY(bench_train_setting(config, err));
    if (r->config != NULL) {
        config_defaults(config);
        TRY(paths_find_config(r->config, path, err));
        TRY(config_load(config, path, err));
    }
    for (int i = 0; i < r->set_count; i++)
        TRY(config_set(config, r->set[i], err));
    return config_resolve(config, config->model.vocab_size > 0 ? config->model.vocab_size : WORDS,
                          err);
}

struct figures {
    const struct bench_step_result *r;
    double sgemm, tokens_per_s, gemm_rate, gemm_fraction, peak;
    int order[OP_COUNT]; /* operations by falling time */
};

static void derive(struct figures *f)
{
    const struct op_stat *gemm = &f->r->stat[OP_gemm];
    f->tokens_per_s = (double)f->r->tokens / f->r->seconds;
    f->gemm_rate = gemm->seconds > 0 ? gemm->flops / gemm->seconds / 1e9 : 0;
    f->gemm_fraction = f->gemm_rate / f->sgemm;
    for (int i = 0; i < OP_COUNT; i++)
        f->order[i] = i;
    for (int i = 1; i < OP_COUNT; i++)
        for (int j = i;
             j > 0 && f->r->stat[f->order[j]].seconds > f->r->stat[f->order[j - 1]].seconds; j--) {
            int swap = f->order[j];
            f->order[j] = f->order[j - 1];
            f->order[j - 1] = swap;
        }
}

static enum status print_json(const struct figures *f, const struct config *config,
                              struct error *err)
{
    struct json_writer w;
    char *text = NULL, *setting = NULL;
    const struct bench_step_result *r = f->r;
    TRY(config_to_json(config, false, &setting, err));
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_real(&w, "tokens_per_s", f->tokens_per_s);
    json_write_real(&w, "sgemm_gflops", f->sgemm);
    json_write_real(&w, "tokens_per_s_per_gflops", f->tokens_per_s / f->sgemm);
    json_write_real(&w, "gemm_gflops", f->gemm_rate);
    json_write_real(&w, "gemm_fraction", f->gemm_fraction);
    json_write_real(&w, "peak_bytes", f->peak);
    json_write_real(&w, "step_seconds", r->seconds);
    json_write_real(&w, "step_seconds_fastest", r->fastest);
    json_write_int(&w, "parameters", r->parameters);
    json_write_real(&w, "forward_evaluations", r->forward_evals);
    json_write_real(&w, "backward_evaluations", r->backward_evals);
    json_write_array(&w, "ops");
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &r->stat[f->order[i]];
        if (s->calls == 0)
            continue;
        json_write_object(&w, NULL);
        json_write_string(&w, "name", op_name((enum op_id)f->order[i]));
        json_write_int(&w, "calls", s->calls);
        json_write_real(&w, "seconds", s->seconds);
        json_write_real(&w, "share", s->seconds / r->total_seconds);
        json_write_real(&w, "gflops", s->flops / s->seconds / 1e9);
        json_write_real(&w, "gbytes_per_s", s->bytes / s->seconds / 1e9);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_raw(&w, "setting", setting);
    json_write_end(&w);
    mem_free(setting);
    TRY(json_write_finish(&w, &text, err));
    puts(text);
    mem_free(text);
    return STATUS_OK;
}

static void print_table(const struct figures *f)
{
    const struct bench_step_result *r = f->r;
    double known = 0;
    printf("%lld parameters, %lld tokens a step, %.0f evaluations of f and %.0f products with its "
           "Jacobian in the solves\n",
           (long long)r->parameters, (long long)r->tokens, r->forward_evals, r->backward_evals);
    printf("%.0f tokens/s (step %.1f ms, fastest %.1f ms)\n", f->tokens_per_s, 1e3 * r->seconds,
           1e3 * r->fastest);
    printf("OpenBLAS sgemm %.1f GFLOP/s (%s): %.2f tokens/s per GFLOP/s\n", f->sgemm,
           openblas_get_corename(), f->tokens_per_s / f->sgemm);
    printf("products %.1f GFLOP/s, %.2f of sgemm; peak memory %.1f MiB above the start\n",
           f->gemm_rate, f->gemm_fraction, f->peak / (1 << 20));
    printf("%-20s %8s %9s %7s %9s %7s\n", "operation", "calls", "ms/step", "share", "GFLOP/s",
           "GB/s");
    double steps = r->total_seconds / r->seconds;
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &r->stat[f->order[i]];
        if (s->calls == 0)
            continue;
        known += s->seconds;
        printf("%-20s %8lld %9.3f %6.1f%% %9.1f %7.1f\n", op_name((enum op_id)f->order[i]),
               (long long)s->calls, 1e3 * s->seconds / steps, 100 * s->seconds / r->total_seconds,
               s->flops / s->seconds / 1e9, s->bytes / s->seconds / 1e9);
    }
    printf("%-20s %8s %9.3f %6.1f%%\n", "(outside)", "", 1e3 * (r->total_seconds - known) / steps,
           100 * (1 - known / r->total_seconds));
}

static enum status bench(const struct request *r, const struct config *config, double start_bytes,
                         struct error *err)
{
    enum status status = STATUS_OK;
    struct backend be = {0};
    struct sgemm *sgemm = NULL;
    struct bench_step_result result;
    struct figures f = {.r = &result};
    TRY(device_open(&be, "cpu", (int)r->threads, err));
    /* first without the peer, whose buffers are not ours: the peak of memory */
    TRY_OUT(bench_train(&be, config, 1, NULL, NULL, &result, err));
    f.peak = memory_line("VmHWM:") - start_bytes;
    TRY_OUT(mem_alloc((void **)&sgemm, 1, sizeof *sgemm, err));
    openblas_set_num_threads(be.threads);
    TRY_OUT(sgemm_create(sgemm, err));
    sgemm_measure(sgemm);
    sgemm->count = 0; /* that one started the library */
    TRY_OUT(bench_train(&be, config, r->steps, sgemm_measure, sgemm, &result, err));
    f.sgemm = sgemm_rate(sgemm);
    derive(&f);
    if (r->json)
        TRY_OUT(print_json(&f, config, err));
    else
        print_table(&f);
out:
    if (sgemm != NULL)
        sgemm_free(sgemm);
    mem_free(sgemm);
    backend_close(&be);
    return status;
}

/* The arguments this process was started with, for starting it again. */
static enum status restart_if_unfair(struct error *err)
{
    enum { MAX_ARGS = 256, MAX_BYTES = 65536 };
    char *text = NULL, *args[MAX_ARGS + 1];
    int count = 0;
    TRY(mem_alloc((void **)&text, MAX_BYTES, 1, err));
    FILE *f = fopen("/proc/self/cmdline", "rb");
    size_t len = f == NULL ? 0 : fread(text, 1, MAX_BYTES - 1, f);
    if (f != NULL)
        fclose(f);
    for (size_t at = 0; at < len && count < MAX_ARGS; at += strlen(text + at) + 1)
        args[count++] = text + at;
    args[count] = NULL;
    if (count > 0)
        make_peer_fair(args);
    mem_free(text);
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.steps = 20};
    struct config config;
    TRY(parse(&r, argc, argv, err));
    TRY(load(&r, &config, err));
    TRY(restart_if_unfair(err));
    return bench(&r, &config, memory_line("VmRSS:"), err);
}

const struct command command_bench = {
    .name = "bench",
    .summary = "how fast a training step is, and how near to what the machine can do",
    .usage = usage,
    .run = run_command,
};
