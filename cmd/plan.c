/* deq plan predicts what a training takes, before any run. */
#include "bench/plan.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/estimate.h"
#include "cmd/load_config.h"
#include "cmd/output.h"
#include "cmd/plan_here.h"
#include "cmd/plan_memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WORDS = 10000 /* as in deq bench train */, RANKS_MAX = 65536 };

struct request {
    const char *config, *preset, *data, *device;
    struct option_list set;
    int64_t threads, ranks;
    bool json, memory, ops;
};

static const struct option_rule options[] = {
    OPTION_CONFIG(.unset = "the setting of deq bench train"),
    OPTION("data", TEXT, data, .value = "DIR", .help = "The folder of the text, as for deq train."),
    OPTION_PRESET,
    OPTION_SET(""),
    OPTION("device", TEXT, device, .value = "NAME", .initial = "cpu",
           .choices = "cpu, a100, a100-40, h100 or h200",
           .help = "The device to plan for. cpu is this machine, on which steps of the very "
                   "configuration are measured now, unless they are too large. a100, a100-40, h100 "
                   "and h200 are taken from their data sheets and need not be here."),
    OPTION_THREADS,
    OPTION("ranks", INT, ranks, .value = "N", .min = 1, .max = RANKS_MAX, .initial = "1",
           .help = "Processes with a GPU each that share train.batch, in machines of 8. Memory and "
                   "times are then those of one of them, and what they send one another is "
                   "added. Assumed are NVLink's rate in a machine (450 GB/s a direction on h100 "
                   "and h200, 300 on a100), a network card for each GPU (50 and 25 GB/s), 0.8 of "
                   "these rates, and the times of NCCL's own model for a ring."),
    OPTION("ops", FLAG, ops,
           .help = "Also print the calls, operations, bytes and times of every operation."),
    OPTION("memory", FLAG, memory,
           .help = "Also print every buffer. It says when the buffer lives, where it lies and what "
                   "it shares memory with, and adds up the bytes in use in each phase of a step."),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"device", "The name of the device."},
    {"device_text", "The device in words."},
    {"precision", "The format of products."},
    {"parameters", "Parameters of the model."},
    {"steps", "Steps of the training."},
    {"seconds", "Expected seconds of all steps, without evaluations and checkpoints."},
    {"measured", "Whether the expected times were measured here, and not modelled."},
    {"ranks", "Processes with a GPU each, --ranks."},
    {"tokens", "Tokens of a step, of all processes."},
    {"tokens_per_s", "Expected tokens per second."},
    {"tokens_per_s_bound", "The same by the device's peaks."},
    {"step_seconds", "Expected seconds of a step."},
    {"step_seconds_bound", "The same by the device's peaks."},
    {"forward_evaluations", "Evaluations of f in the forward solve of a step."},
    {"backward_evaluations", "Products with f's Jacobian in the backward solve."},
    {"peak_flops", "The device's peak of products, in operations per second."},
    {"bandwidth", "The peak of its memory, in bytes per second."},
    {"product_share", "The share of the peak of products that is expected."},
    {"bandwidth_share", "The share of the bandwidth that is expected."},
    {"call_seconds", "Seconds that a launch is expected to take."},
    {"sync_seconds", "Seconds more that a wait is expected to take."},
    {"phases[]", "For each phase name, product_flops, bound_seconds, seconds, bound_peak_share and "
                 "peak_share."},
    {"ops[]", "For each operation name, calls, flops, bytes, bound_seconds and seconds."},
    {"exchange",
     "Only with --ranks above 1. machines; sent_bytes of each in a step; sum_seconds of gradients "
     "and gather_seconds; hidden_seconds beside the backward pass and shown_seconds, which "
     "step_seconds includes; efficiency, the part of a step without these; and what is assumed: "
     "link and "
     "network in bytes per second, share, call_seconds, hop_seconds and network_hop_seconds."},
    {"memory", "Bytes by part, and total, reserved and device."},
    {"allocations[]", "Only with --memory. For each allocation owner, bytes, peak, buffers[] and "
                      "phases[]."},
    {"fits", "Whether the training fits the device's memory."},
    {"over_bytes", "Only if it does not fit. Bytes that are missing."},
    {"fits_with_accumulate",
     "Only if it does not fit. The train.accumulate with which it fits, or 0."},
    {"fits_with_bytes", "Only if it does not fit. Bytes that it then needs."},
    {"setting", "The resolved configuration."},
    {0},
};

static enum status load(const struct request *r, struct config *config, struct error *err)
{
    char path[PATHS_MAX], why[CONFIG_WHY];
    const struct config_source source = {r->config, r->preset, r->data, &r->set};
    if (r->config == NULL && r->preset == NULL && r->data == NULL) {
        TRY(bench_train_setting(config, err));
        TRY(load_config_set(config, &r->set, err));
        return load_config_resolve(config, WORDS, err);
    }
    TRY(load_config_source(&source, path, why, config, err));
    TRY(load_config_from_data(config, path, err));
    if (why[0] != '\0')
        fprintf(stderr, "%s\n", why);
    if (config->model.vocab_size > 0)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "%s: model.vocab_size: not known before %s is tokenized: --set "
                     "model.vocab_size=N",
                     path, config->data.dir);
}

static enum status find_chip(struct chip *chip, const struct request *r, struct error *err)
{
    char names[128];
    const struct chip *found = chip_find(r->device);
    chip_names(names, sizeof names);
    if (found == NULL)
        return error_set(err, STATUS_USAGE, "--device: want cpu, %s, got \"%s\"", names, r->device);
    *chip = *found;
    chip->ranks = (int)r->ranks;
    return STATUS_OK;
}

static enum status measure(struct plan *plan, struct chip *chip, const struct config *config,
                           const struct request *r, struct error *err)
{
    struct backend be = {0};
    TRY(device_open(&be, "cpu", (int)r->threads, err));
    enum status status = plan_here(plan, chip, config, &be, err);
    backend_close(&be);
    return status;
}

/* --- the result
 * ----------------------------------------------------------------------------------- */

struct report {
    const struct config *config;
    const struct chip *chip;
    const struct plan *plan;
    double over;        /* bytes beyond what the chip leaves; 0 or less if it fits */
    int64_t accumulate; /* with which it would fit, or 0 if with none */
    size_t needed;      /* bytes that it would then need */
    bool map, ops;      /* --memory, --ops */
};

static const char *precision_text(const struct config *c)
{
    return precision_name(c->train.precision);
}

static void write_ops(struct json_writer *w, const struct plan *p)
{
    enum op_id order[OP_COUNT];
    bench_order(p->counts.stat, order);
    json_write_array(w, "ops");
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &p->counts.stat[order[i]];
        if (s->calls == 0)
            continue;
        json_write_object(w, NULL);
        json_write_string(w, "name", op_name(order[i]));
        json_write_int(w, "calls", s->calls);
        json_write_real(w, "flops", s->flops);
        json_write_real(w, "bytes", s->bytes);
        json_write_real(w, "bound_seconds", p->bound[order[i]].seconds);
        json_write_real(w, "seconds", s->seconds);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_phases(struct json_writer *w, const struct report *r)
{
    const struct plan *p = r->plan;
    json_write_array(w, "phases");
    for (int i = 0; i < BENCH_COUNT; i++) {
        json_write_object(w, NULL);
        json_write_string(w, "name", bench_phase_text((enum bench_phase)i));
        json_write_real(w, "product_flops", plan_products(p->counts.phase[i]));
        json_write_real(w, "bound_seconds", p->phase_bound[i]);
        json_write_real(w, "seconds", p->phase_seconds[i]);
        json_write_real(w, "bound_peak_share", plan_share(p, r->config, r->chip, i, true));
        json_write_real(w, "peak_share", plan_share(p, r->config, r->chip, i, false));
        json_write_end(w);
    }
    json_write_end(w);
}

/* The part of a step in which the processes do not wait for one another. */
static double efficiency(const struct plan *p)
{
    return 1 - p->exchange.shown_seconds / p->seconds;
}

static void write_exchange(struct json_writer *w, const struct report *r)
{
    const struct exchange *x = &r->plan->exchange;
    const struct exchange_rates rates = exchange_rates();
    if (x->machines == 0)
        return;
    json_write_object(w, "exchange");
    json_write_int(w, "machines", x->machines);
    json_write_real(w, "sent_bytes", x->sent);
    json_write_real(w, "sum_seconds", x->sum_seconds);
    json_write_real(w, "gather_seconds", x->gather_seconds);
    json_write_real(w, "hidden_seconds", x->hidden_seconds);
    json_write_real(w, "shown_seconds", x->shown_seconds);
    json_write_real(w, "efficiency", efficiency(r->plan));
    json_write_real(w, "link", r->chip->link);
    json_write_real(w, "network", r->chip->network);
    json_write_real(w, "share", rates.share);
    json_write_real(w, "call_seconds", rates.call_seconds);
    json_write_real(w, "hop_seconds", rates.hop_seconds);
    json_write_real(w, "network_hop_seconds", rates.network_hop_seconds);
    json_write_end(w);
}

static void write_memory(struct json_writer *w, const struct report *r)
{
    const struct plan_memory *m = &r->plan->memory;
    json_write_object(w, "memory");
    for (int i = 0; i < PART_COUNT; i++)
        json_write_int(w, memory_part_text((enum memory_part)i), (int64_t)m->part[i]);
    json_write_int(w, "scratch", (int64_t)m->scratch);
    json_write_int(w, "evaluation", (int64_t)m->evaluation);
    json_write_int(w, "total", (int64_t)m->total);
    json_write_real(w, "reserved", r->chip->reserved);
    json_write_real(w, "device", r->chip->memory);
    json_write_end(w);
    json_write_bool(w, "fits", !(r->over > 0));
    if (!(r->over > 0))
        return;
    json_write_real(w, "over_bytes", r->over);
    json_write_int(w, "fits_with_accumulate", r->accumulate);
    json_write_int(w, "fits_with_bytes", (int64_t)r->needed);
}

static enum status print_json(const struct report *r, struct error *err)
{
    struct json_writer w;
    char *setting = NULL;
    const struct plan *p = r->plan;
    const struct chip *c = r->chip;
    TRY(config_to_json(r->config, false, &setting, err));
    output_json_begin(&w);
    json_write_string(&w, "device", c->name);
    json_write_string(&w, "device_text", c->text);
    json_write_string(&w, "precision", precision_text(r->config));
    json_write_int(&w, "parameters", p->counts.parameters);
    json_write_int(&w, "steps", r->config->train.steps);
    json_write_real(&w, "seconds", plan_total(p, r->config, 0));
    json_write_bool(&w, "measured", p->measured);
    json_write_int(&w, "ranks", c->ranks > 1 ? c->ranks : 1);
    json_write_int(&w, "tokens", p->counts.tokens);
    json_write_real(&w, "tokens_per_s", (double)p->counts.tokens / p->seconds);
    json_write_real(&w, "tokens_per_s_bound", (double)p->counts.tokens / p->bound_seconds);
    json_write_real(&w, "step_seconds", p->seconds);
    json_write_real(&w, "step_seconds_bound", p->bound_seconds);
    json_write_real(&w, "forward_evaluations", p->counts.forward_evals);
    json_write_real(&w, "backward_evaluations", p->counts.backward_evals);
    json_write_real(&w, "peak_flops", c->peak[r->config->train.precision]);
    json_write_real(&w, "bandwidth", c->bandwidth);
    json_write_real(&w, "product_share", c->product_share);
    json_write_real(&w, "bandwidth_share", c->bandwidth_share);
    json_write_real(&w, "call_seconds", c->call_seconds);
    json_write_real(&w, "sync_seconds", c->sync_seconds);
    write_phases(&w, r);
    write_ops(&w, p);
    write_exchange(&w, r);
    write_memory(&w, r);
    if (r->map)
        TRY(plan_memory_write(&w, r->config, r->chip, err));
    json_write_raw(&w, "setting", setting);
    mem_free(setting);
    return output_json_print(&w, err);
}

static void print_head(const struct report *r)
{
    const struct plan *p = r->plan;
    const struct chip *c = r->chip;
    char text[ESTIMATE_MAX], where[64], parameters[ESTIMATE_COUNT_MAX];
    bool here = !c->cuda;
    snprintf(where, sizeof where, "%s%s%s", here ? "here" : "on ", here ? "" : c->name,
             p->measured ? "" : ", modelled");
    const struct estimate estimate = {.steps = r->config->train.steps,
                                      .tokens = p->counts.tokens,
                                      .seconds = plan_total(p, r->config, 0),
                                      .where = where,
                                      .bytes = (double)p->memory.total,
                                      .machine = c->memory};
    estimate_text(&estimate, text);
    estimate_count(p->counts.parameters, parameters);
    printf("%s\n", text);
    printf("%s parameters; a step has %.0f evaluations of f and %.0f products with its Jacobian\n",
           parameters, p->counts.forward_evals, p->counts.backward_evals);
    printf("a step of %.1f ms, %.0f tokens/s, %s; at the peaks it would take %.1f ms\n",
           1e3 * p->seconds, (double)p->counts.tokens / p->seconds,
           p->measured ? "measured here" : "modelled", 1e3 * p->bound_seconds);
    printf("peaks: %.5g TFLOP/s of products in %s, %.5g GB/s (%s)\n",
           c->peak[r->config->train.precision] / 1e12, precision_text(r->config),
           c->bandwidth / 1e9, c->source);
    if (p->measured)
        return;
    printf("the model: %.2f and %.2f of the peaks, %.0f us a launch, %.0f us more a wait\n  (%s)\n",
           c->product_share, c->bandwidth_share, 1e6 * c->call_seconds, 1e6 * c->sync_seconds,
           c->share_source);
}

/* The title of the column of expected times. */
static const char *expected_text(const struct plan *p)
{
    return p->measured ? "measured ms" : "modelled ms";
}

static void print_ops(const struct plan *p)
{
    enum op_id order[OP_COUNT];
    bench_order(p->counts.stat, order);
    printf("\n%-24s %8s %11s %11s %10s %12s %7s\n", "operation, a step", "calls", "GFLOP", "MB",
           "bound ms", expected_text(p), "share");
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &p->counts.stat[order[i]];
        if (s->calls > 0)
            printf("%-24s %8lld %11.3f %11.2f %10.3f %12.3f %6.1f%%\n", op_name(order[i]),
                   (long long)s->calls, s->flops / 1e9, s->bytes / 1e6,
                   1e3 * p->bound[order[i]].seconds, 1e3 * s->seconds,
                   100 * s->seconds / p->seconds);
    }
}

static void print_phases(const struct report *r)
{
    const struct plan *p = r->plan;
    printf("\n%-24s %20s %10s %12s   %s\n", "phase", "products, GFLOP", "bound ms",
           expected_text(p), "share of the peak");
    for (int i = 0; i <= BENCH_COUNT; i++) {
        bool all = i == BENCH_COUNT;
        const struct op_stat *stat = all ? p->counts.stat : p->counts.phase[i];
        printf("%-24s %20.3f %10.3f %12.3f   %6.3f\n",
               all ? "the step" : bench_phase_text((enum bench_phase)i), plan_products(stat) / 1e9,
               1e3 * (all ? p->bound_seconds : p->phase_bound[i]),
               1e3 * (all ? p->seconds : p->phase_seconds[i]),
               plan_share(p, r->config, r->chip, i, false));
    }
}

static double mebibytes(double bytes)
{
    return bytes / (1 << 20);
}

static void print_bytes(const char *text, double bytes)
{
    printf("%-36s %12.2f MiB\n", text, mebibytes(bytes));
}

static void print_exchange(const struct report *r)
{
    const struct exchange *x = &r->plan->exchange;
    const struct exchange_rates rates = exchange_rates();
    const struct chip *c = r->chip;
    if (x->machines == 0)
        return;
    printf("\n%d processes in %d machine%s, each with a share of the batch; times and memory are "
           "those of one\n",
           c->ranks, x->machines, x->machines == 1 ? "" : "s");
    printf("each sends %.1f MiB a step: sums take %.1f ms, of which %.1f beside the backward pass, "
           "gathering %.1f ms\n",
           mebibytes(x->sent), 1e3 * x->sum_seconds, 1e3 * x->hidden_seconds,
           1e3 * x->gather_seconds);
    printf("%.1f ms of a step are shown, so that the efficiency is %.3f: %.0f tokens/s on each\n",
           1e3 * x->shown_seconds, efficiency(r->plan),
           (double)r->plan->counts.tokens / r->plan->seconds / c->ranks);
    printf(
        "assumed: %.0f GB/s a direction in a machine of %d, %.0f GB/s of network for each, %.2f "
        "of them reached,\n  %.0f us a call, %.1f and %.1f us a hop in a machine and between two\n",
        c->link / 1e9, EXCHANGE_MACHINE, c->network / 1e9, rates.share, 1e6 * rates.call_seconds,
        1e6 * rates.hop_seconds, 1e6 * rates.network_hop_seconds);
}

static void print_memory(const struct report *r)
{
    const struct plan_memory *m = &r->plan->memory;
    double left = r->chip->memory - r->chip->reserved;
    printf("\nmemory\n");
    for (int i = PART_COUNT - 1; i >= 0; i--)
        if (m->part[i] > 0)
            print_bytes(memory_part_text((enum memory_part)i), (double)m->part[i]);
    if (m->scratch > 0)
        print_bytes("operands rounded for products", (double)m->scratch);
    print_bytes("evaluation beside the training", (double)m->evaluation);
    print_bytes("all", (double)m->total);
    printf("%-36s %12.2f MiB of %.2f, %.2f taken by driver and libraries\n", "the device leaves",
           mebibytes(left), mebibytes(r->chip->memory), mebibytes(r->chip->reserved));
}

/* Prints tables, or one JSON object. */
static enum status print(const struct report *r, bool json, struct error *err)
{
    if (json)
        return print_json(r, err);
    print_head(r);
    if (r->ops)
        print_ops(r->plan);
    print_phases(r);
    print_exchange(r);
    print_memory(r);
    return r->map ? plan_memory_print(r->config, r->chip, err) : STATUS_OK;
}

/* --- the command ------------------------------------------------------------------------------ */

/* Says by how much a training does not fit, and what would. */
static enum status refuse(const struct report *r, struct error *err)
{
    const struct chip *c = r->chip;
    char remedy[256];
    if (r->accumulate > 0)
        snprintf(remedy, sizeof remedy, "--set train.accumulate=%lld needs %.1f MiB",
                 (long long)r->accumulate, mebibytes((double)r->needed));
    else
        snprintf(remedy, sizeof remedy,
                 "parts of one sequence still need %.1f MiB: lower train.tgt_len, "
                 "solver.forward.history or the model's sizes",
                 mebibytes((double)r->needed));
    return error_set(err, STATUS_CHECK,
                     "this training needs %.1f MiB, %.1f more than the %.1f MiB that %s leaves: %s",
                     mebibytes((double)r->plan->memory.total), mebibytes(r->over),
                     mebibytes(c->memory - c->reserved), c->text, remedy);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct config config;
    struct chip chip;
    struct plan plan;
    struct report report = {.config = &config, .chip = &chip, .plan = &plan};
    TRY(command_read(&command_plan, &r, argc, argv, NULL, err));
    bool here = strcmp(r.device, "cpu") == 0;
    if (here && r.ranks > 1)
        return error_set(err, STATUS_USAGE,
                         "--ranks: links are known of GPUs only: name one, as in --device h200");
    if (!here)
        TRY(find_chip(&chip, &r, err));
    TRY(load(&r, &config, err));
    TRY(here ? measure(&plan, &chip, &config, &r, err) : plan_make(&plan, &config, &chip, err));
    report.map = r.memory;
    report.ops = r.ops;
    double left = chip.memory - chip.reserved;
    report.over = (double)plan.memory.total - left;
    if (report.over > 0)
        TRY(plan_fit(&config, &chip, left, &report.accumulate, &report.needed, err));
    TRY(print(&report, r.json, err));
    return report.over > 0 ? refuse(&report, err) : STATUS_OK;
}

const struct command command_plan = {
    .name = "plan",
    .summary = "predict what a training takes in operations, time and memory",
    .stray = "a configuration is named by --config",
    .description =
        "Says in one line how many steps a training has, how long they will take and how much "
        "memory. Then come the times of the phases of a step, the share of the peak of products "
        "that they reach, and memory by part.\n"
        "The operations of a step are counted without computing it. A bound is the time that they "
        "need at least by the device's peaks. On this machine the time to expect is measured. For "
        "another device, or where a step is too large to be tried, it is modelled and said to be. "
        "A "
        "solve that stops by a tolerance is then taken to need all its iterations. Evaluations and "
        "checkpoints are not part of the time.\n"
        "Exits with 1 if the training does not fit the device's memory, and says what would.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq plan --config kjv",
            "deq plan --config wikitext103 --set model.vocab_size=267735 --device h100",
            "deq plan --config kjv --device h200 --ranks 8",
            NULL,
        },
    .run = run_command,
};
