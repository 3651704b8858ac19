/* deq plan: what a training will take, before any run. */
#include "bench/plan.h"
#include "base/mem.h"
#include "cmd/bench/bench_machine.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/options.h"
#include "cmd/plan_report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: deq plan [--config FILE] [--device NAME] [OPTION]...\n"
    "\n"
    "Counts one training step without computing it: calls, floating-point operations and bytes\n"
    "of every operation, the time they need at least by the device's peaks and the time to\n"
    "expect, the share of the peak in each phase, tokens/s, and memory by part. The device need\n"
    "not be here. A solve that stops by a tolerance is taken to need all its iterations. Exit 1\n"
    "if the training does not fit the device's memory, with what would.\n"
    "\n"
    "      --config FILE    default: the setting of deq bench train\n"
    "      --set KEY=VALUE  change a key of it\n"
    "      --device NAME    cpu (default): this machine, whose speed is measured now; or a100,\n"
    "                       a100-40, h100, h200: by data sheet\n"
    "      --threads N      processor threads, with cpu (default: all)\n"
    "      --memory         every buffer too: when it lives, where it lies, what it shares\n"
    "                       memory with, and the bytes in use in each phase of a step\n"
    "      --json           one JSON object\n"
    "  -h, --help           this help\n"
    "\n"
    "Example:\n"
    "  deq plan --config wikitext103 --set model.vocab_size=267735 --device h100\n";

enum { CPU_SAMPLES = 5, WORDS = 10000 }; /* words as in deq bench train */

struct request {
    const char *config, *device;
    struct option_list set;
    int64_t threads;
    bool json, memory;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const struct option_rule rules[] = {
        OPTION("config", TEXT, &r->config),
        OPTION("set", LIST, &r->set),
        OPTION("device", TEXT, &r->device),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("memory", FLAG, &r->memory),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    return options_read_all(rules, argc, argv, err);
}

static enum status load(const struct request *r, struct config *config, struct error *err)
{
    char path[PATHS_MAX];
    if (r->config == NULL) {
        TRY(bench_train_setting(config, err));
        TRY(load_config_set(config, &r->set, err));
        return load_config_resolve(config, WORDS, err);
    }
    TRY(load_config_resolved(r->config, &r->set, path, config, err));
    if (config->model.vocab_size > 0)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "%s: model.vocab_size: not known before %s is tokenized: --set "
                     "model.vocab_size=N",
                     path, config->data.dir);
}

/* This machine, as measured. */
static enum status measure_cpu(struct chip *chip, const struct request *r, struct error *err)
{
    struct backend be = {0};
    struct machine *m = NULL;
    TRY(device_open(&be, "cpu", (int)r->threads, err));
    int threads = be.threads;
    int64_t chunk = be.ops->chunk_numbers, hidden = be.ops->ffn_rows;
    backend_close(&be);
    TRY(machine_create(&m, threads, err));
    for (int i = 0; i < CPU_SAMPLES; i++)
        machine_measure(m);
    double sgemm = 1e9 * machine_sgemm(m), bandwidth = 1e9 * machine_bandwidth(m);
    machine_free(m);
    *chip = (struct chip){
        .name = "cpu",
        .text = "this machine's processor",
        .source = "measured now: OpenBLAS sgemm and a copy, the same threads",
        .peak = {sgemm, sgemm, sgemm},
        .bandwidth = bandwidth,
        .memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
        .product_share = 1,
        .bandwidth_share = 1,
        .share_source = "the peaks are what has been reached",
        .chunk_numbers = chunk,
        .ffn_rows = hidden,
    };
    return STATUS_OK;
}

static enum status find_chip(struct chip *chip, const struct request *r,
                             const struct config *config, struct error *err)
{
    char names[128];
    const struct chip *found = chip_find(r->device);
    chip_names(names, sizeof names);
    if (found != NULL) {
        *chip = *found;
        return STATUS_OK;
    }
    if (strcmp(r->device, "cpu") != 0)
        return error_set(err, STATUS_USAGE, "--device: want cpu, %s, got \"%s\"", names, r->device);
    if (config->train.precision != PRECISION_FP32)
        return error_set(err, STATUS_CONFIG,
                         "train.precision: of the device cpu, products are measured in fp32 only: "
                         "--set train.precision=fp32, or --device with one of %s",
                         names);
    return measure_cpu(chip, r, err);
}

/* It does not fit: by how much, and what would. */
static enum status refuse(const struct plan_report *r, struct error *err)
{
    const struct chip *c = r->chip;
    char remedy[256];
    if (r->accumulate > 0)
        snprintf(remedy, sizeof remedy, "--set train.accumulate=%lld needs %.1f MB",
                 (long long)r->accumulate, (double)r->needed / 1e6);
    else
        snprintf(remedy, sizeof remedy,
                 "parts of one sequence still need %.1f MB: lower train.tgt_len, "
                 "solver.forward.history or the model's sizes",
                 (double)r->needed / 1e6);
    return error_set(err, STATUS_CHECK,
                     "this training needs %.1f MB, %.1f more than the %.1f MB that %s leaves: %s",
                     (double)r->plan->memory.total / 1e6, r->over / 1e6,
                     (c->memory - c->reserved) / 1e6, c->text, remedy);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.device = "cpu"};
    struct config config;
    struct chip chip;
    struct plan plan;
    struct plan_report report = {.config = &config, .chip = &chip, .plan = &plan};
    TRY(parse(&r, argc, argv, err));
    TRY(load(&r, &config, err));
    if (strcmp(r.device, "cpu") == 0)
        TRY(machine_restart_if_unfair(err));
    TRY(find_chip(&chip, &r, &config, err));
    TRY(plan_make(&plan, &config, &chip, err));
    report.map = r.memory;
    double left = chip.memory - chip.reserved;
    report.over = (double)plan.memory.total - left;
    if (report.over > 0)
        TRY(plan_fit(&config, &chip, left, &report.accumulate, &report.needed, err));
    TRY(plan_report_print(&report, r.json, err));
    return report.over > 0 ? refuse(&report, err) : STATUS_OK;
}

const struct command command_plan = {
    .name = "plan",
    .summary = "what a training will take: operations, time by a device's peaks, memory",
    .usage = usage,
    .run = run_command,
};
