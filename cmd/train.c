/* deq train: a run from a configuration. */
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/group.h"
#include "cmd/launcher.h"
#include "cmd/load_config.h"
#include "cmd/options.h"
#include "cmd/progress.h"
#include "cmd/signals.h"

#include "base/clock.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: deq train --config FILE [--set KEY=VALUE]... [OPTION]...\n"
    "\n"
    "Trains a model on the shards in data.dir, evaluates it now and then, and keeps\n"
    "checkpoints. The same command continues a run that was stopped.\n"
    "\n"
    "      --config FILE       configuration (deq help config); a bare name is also looked for\n"
    "                          here with .json, in ./configs and in the presets\n"
    "      --set KEY=VALUE     change a key of it, as in --set train.lr=5e-4; may be repeated\n"
    "      --out DIR           folder of the run (default: runs/NAME for NAME.json)\n"
    "      --resume auto       continue from DIR/last.bin if there is one (default)\n"
    "      --resume never      refuse a folder that holds a run\n"
    "      --resume FILE       start from this checkpoint: weights, optimizer, data position; a\n"
    "                          run in DIR that began from it goes on\n"
    "      --device NAME       auto, cpu, cuda, or ref (slow, float64) (default: auto)\n"
    "      --threads N         processor threads (default: all; OMP_NUM_THREADS is honoured)\n"
    "      --time-limit TIME   save and stop before so long, exit 75: 90s, 45m, 3h30m; a Slurm\n"
    "                          job's own end is kept to without it\n"
    "      --dry-run           check everything, print the plan and stop\n"
    "  -q, --quiet             print errors only\n"
    "  -h, --help              this help\n"
    "\n"
    "In DIR: config.json (resolved), log.jsonl (an object a step and an evaluation), last.bin,\n"
    "best.bin (lowest validation loss), step-NNNNNNNN.bin. SIGTERM, SIGUSR1 and Ctrl-C save and\n"
    "stop after the step under way (exit 75: the same command goes on); a second Ctrl-C stops\n"
    "at once, and what was saved before stays as it is. If last.bin is damaged, the newest\n"
    "whole checkpoint is taken.\n"
    "\n"
    "Example:\n"
    "  deq train --config kjv.json --set train.steps=1000 --out runs/short\n";

struct request {
    const char *config, *out, *resume, *device;
    struct option_list set;
    int64_t threads;
    double time_limit;
    bool dry_run, quiet;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const char *limit = NULL;
    const struct option_rule rules[] = {
        OPTION("config", TEXT, &r->config),
        OPTION("set", LIST, &r->set),
        OPTION("out", TEXT, &r->out),
        OPTION("resume", TEXT, &r->resume),
        OPTION("device", TEXT, &r->device),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("time-limit", TEXT, &limit),
        OPTION("dry-run", FLAG, &r->dry_run),
        OPTION("quiet", FLAG, &r->quiet, .letter = 'q'),
        {0},
    };
    int operand;
    TRY(options_read(rules, argc, argv, &operand, err));
    if (operand < argc)
        return error_set(err, STATUS_USAGE,
                         "unexpected \"%s\": a configuration is named by --config", argv[operand]);
    if (limit != NULL)
        TRY(deadline_parse(limit, &r->time_limit, err));
    if (r->config == NULL)
        return error_set(err, STATUS_USAGE, "want --config FILE (try deq help train)");
    return STATUS_OK;
}

static enum status load(const struct request *r, struct config *config, char path[PATHS_MAX],
                        struct error *err)
{
    TRY(load_config(r->config, &r->set, path, config, err));
    enum status status = config_resolve(config, 0, err);
    if (status != STATUS_OK)
        error_prefix(err, "%s", path);
    return status;
}

/* Plans everything and lets go of it again. */
static enum status dry_run(struct backend *be, struct dist *dist, const struct config *config,
                           const struct run_observer *observer, struct error *err)
{
    struct trainer t;
    struct config resolved = *config;
    struct vocab *vocab = NULL;
    TRY(trainer_resolve_data(&resolved, dist, &vocab, err));
    vocab_free(vocab);
    TRY(run_check_memory(be, &resolved, dist_size(dist), err));
    TRY(trainer_create(&t, be, dist, config, NULL, err));
    if (observer->begin != NULL)
        observer->begin(observer->ctx, &t);
    trainer_free(&t);
    return STATUS_OK;
}

static enum status train(const struct request *r, struct backend *be, struct dist *dist,
                         const struct config *config, const char *out, double deadline,
                         const atomic_bool *stop, struct error *err)
{
    struct progress progress;
    struct run_observer observer, silent = {0};
    progress_start(&progress, &observer);
    bool quiet = r->quiet || dist_rank(dist) != 0;
    if (r->dry_run)
        return dry_run(be, dist, config, quiet ? &silent : &observer, err);
    struct run_options run = {.dist = dist,
                              .dir = out,
                              .resume = RESUME_AUTO,
                              .resume_file = r->resume,
                              .deadline = deadline,
                              .stop = stop};
    if (r->resume != NULL && strcmp(r->resume, "never") == 0)
        run.resume = RESUME_NEVER;
    else if (r->resume != NULL && strcmp(r->resume, "auto") != 0)
        run.resume = RESUME_FILE;
    enum status status = run_train(be, config, &run, quiet ? &silent : &observer, err);
    progress_break(&progress);
    if (status == STATUS_OK && !quiet)
        fprintf(stderr, "done: %s\n", out);
    return status;
}

static enum status train_in_group(const struct request *r, struct dist *dist, double started,
                                  const atomic_bool *stop, struct error *err)
{
    struct config config;
    struct backend be;
    char path[PATHS_MAX], name[256], out[512];
    /* one process asks: a thousand would be a burden to a batch system */
    double deadline = deadline_earlier(r->time_limit > 0 ? started + r->time_limit : 0,
                                       r->dry_run || dist_rank(dist) != 0 ? 0 : deadline_of_job());
    TRY(load(r, &config, path, err));
    paths_config_name(path, name, sizeof name);
    snprintf(out, sizeof out, "runs/%s", name);
    enum status opened =
        device_open_nth(&be, r->device, (int)r->threads, dist_local_rank(dist), err);
    enum status status = dist_agree(dist, opened, err);
    if (status == STATUS_OK)
        status = dist_attach(dist, &be, err);
    if (status == STATUS_OK)
        status = train(r, &be, dist, &config, r->out != NULL ? r->out : out, deadline, stop, err);
    dist_detach(dist);
    if (opened == STATUS_OK)
        backend_close(&be);
    return status;
}

static enum status join_and_train(const struct request *r, const atomic_bool *stop,
                                  struct error *err)
{
    struct dist *dist;
    double started = clock_seconds();
    TRY(group_open(&dist, err));
    return group_close(dist, "train", train_in_group(r, dist, started, stop, err), err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.device = "auto"};
    struct stop_watch watch;
    TRY(parse(&r, argc, argv, err));
    /* before the long loading: a job asked to stop is always requeued */
    TRY(stop_watch_begin(&watch, err));
    enum status status = join_and_train(&r, &watch.asked, err);
    stop_watch_end(&watch);
    return status;
}

const struct command command_train = {
    .name = "train",
    .summary = "train a model on shards, from a configuration",
    .usage = usage,
    .run = run_command,
};
