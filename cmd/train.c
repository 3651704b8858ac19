/* deq train trains a model by a configuration. */
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/launcher.h"
#include "cmd/load_config.h"
#include "cmd/plan_here.h"
#include "cmd/progress.h"
#include "cmd/signals.h"
#include "cmd/summary.h"
#include "cmd/trace.h"

#include "base/clock.h"
#include "base/cpu_running.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COMMAND_MAX = 2048 };

struct request {
    const char *run; /* the operand */
    const char *config, *preset, *data, *out, *resume, *device, *init_from, *reset, *trace;
    unsigned reset_mask;
    const char *command; /* the command line, for the log */
    struct option_list set;
    int64_t threads;
    double time_limit, peer_timeout;
    bool dry_run, quiet;
};

static const struct option_rule options[] = {
    OPTION_CONFIG(.unset = "that of RUN, or a preset"),
    OPTION("data", TEXT, data, .value = "DIR",
           .help = "The folder of the text, made by deq tokenize, in place of data.dir. Without a "
                   "configuration a preset is taken and fitted to the text."),
    OPTION_PRESET,
    OPTION_SET(""),
    OPTION("out", TEXT, out, .value = "DIR", .help = "The folder of the run.",
           .unset = "runs/NAME for NAME.json or the text data/NAME, and RUN for RUN/config.json"),
    OPTION("resume", TEXT, resume, .value = "auto|never|FILE", .initial = "auto",
           .help = "auto continues from DIR/last.bin if there is one. never refuses a folder that "
                   "holds a run. With a FILE the run starts from the weights, the optimizer and "
                   "the data position of that checkpoint. A run in DIR that began from the same "
                   "FILE goes on."),
    OPTION("init-from", TEXT, init_from, .value = "CHECKPOINT",
           .help = "Begins a new run with the weights of that checkpoint and nothing else of it. "
                   "The same command then continues the new run."),
    OPTION("reset", TEXT, reset, .value = "LIST", .choices = "optimizer, schedule or data",
           .help = "Begins anew, in a run that continues, what the list names, divided by commas. "
                   "optimizer is its "
                   "moments, schedule is warm-up and decay of the learning rate over the steps "
                   "left, and data is the place in the text, the memory and the best loss. The "
                   "same command then continues without another reset."),
    OPTION_DEVICE("auto"),
    OPTION_THREADS,
    OPTION("time-limit", TIME, time_limit, .value = "TIME",
           .help = "Saves and stops before this time is over, with exit code 75. Times are written "
                   "as 90s, 45m or 3h30m. The end of a Slurm job is kept to without this option."),
    OPTION(
        "peer-timeout", REAL, peer_timeout, .value = "X", .initial = "60", .low = 0, .high = 1e6,
        .help =
            "Seconds. Several processes end with exit code 69 and a message that names the "
            "one which has not been heard of for so long, because it is frozen or its "
            "machine or network is. One that lives but hangs while others wait for it is given 30 "
            "times as long. 0 lets them wait for ever."),
    OPTION_TRACE(" On a GPU operations then start one by one, and a step takes longer. Of several "
                 "processes the first one is shown."),
    OPTION("dry-run", FLAG, dry_run,
           .help = "Checks everything, tries some steps, prints the plan and stops."),
    OPTION("quiet", FLAG, quiet, .letter = 'q', .help = "Prints errors only."),
    {0},
};

static enum status load(const struct request *r, struct config *config, char path[PATHS_MAX],
                        char why[CONFIG_WHY], struct error *err)
{
    char in_run[PATHS_MAX];
    const struct config_source source = {.config = r->run != NULL ? in_run : r->config,
                                         .preset = r->preset,
                                         .data = r->data,
                                         .set = &r->set};
    snprintf(in_run, sizeof in_run, "%s/config.json", r->run != NULL ? r->run : "");
    TRY(load_config_source(&source, path, why, config, err));
    enum status status = config_resolve(config, 0, err);
    if (status != STATUS_OK)
        error_prefix(err, "%s", path);
    return status;
}

/* What a training runs with. All is borrowed. */
struct job {
    const struct request *request;
    struct stop_watch *watch;
    struct dist *dist; /* NULL for one process */
    double started;    /* by clock_seconds */
};

/* Tries some steps, to say how long all of them will take. */
static enum status measure_time(struct backend *be, const struct config *config,
                                struct progress *progress, struct error *err)
{
    struct plan plan;
    struct chip chip;
    TRY(plan_here(&plan, &chip, config, be, err));
    progress->seconds = plan_total(&plan, config, 0);
    progress->where = plan.measured ? "here" : "here, modelled";
    return STATUS_OK;
}

/* Plans everything and lets go of it again. */
static enum status dry_run(struct backend *be, struct dist *dist, const struct config *config,
                           const struct run_observer *observer, struct progress *progress,
                           struct error *err)
{
    struct trainer t;
    struct config resolved = *config;
    struct vocab *vocab = NULL;
    size_t bytes;
    TRY(trainer_resolve_data(&resolved, dist, &vocab, err));
    vocab_free(vocab);
    TRY(run_check_steps(&resolved, err));
    run_warn_steps(&resolved, 0, observer);
    TRY(run_check_memory(be, &resolved, dist_size(dist), &bytes, err));
    if (dist_size(dist) == 1 && observer->begin != NULL)
        TRY(measure_time(be, &resolved, progress, err));
    TRY(trainer_create(&t, be, dist, config, NULL, err));
    if (observer->begin != NULL)
        observer->begin(observer->ctx, &t, bytes);
    trainer_free(&t);
    return STATUS_OK;
}

/* Says what is wrong with an operand that is no folder of a run. */
static enum status refuse_run(const char *name, struct error *err)
{
    char path[PATHS_MAX + 16];
    struct stat info;
    size_t len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".json") == 0)
        return error_set(err, STATUS_USAGE,
                         "unexpected \"%s\": a configuration is named by --config", name);
    if (stat(name, &info) != 0)
        return error_set(err, STATUS_NOINPUT,
                         "%s: there is no such run (--config names a configuration, --data the "
                         "folder of a text)",
                         name);
    if (!S_ISDIR(info.st_mode))
        return error_set(err, STATUS_USAGE,
                         "%s: is no folder: name that of the run, or begin another one with "
                         "--init-from or --resume and this file",
                         name);
    snprintf(path, sizeof path, "%s/vocab.txt", name);
    return error_set(err, STATUS_NOINPUT, "%s: is no folder of a run, as it has no config.json%s%s",
                     name, stat(path, &info) == 0 ? ": its text is trained on by --data " : "",
                     stat(path, &info) == 0 ? name : "");
}

/* Takes the folder of a run as the place to go on in. */
static enum status read_run(struct request *r, const struct operands *operands, struct error *err)
{
    char path[PATHS_MAX + 16];
    struct stat info;
    if (operands->count == 0 && r->config == NULL && r->data == NULL && r->preset == NULL)
        return error_set(err, STATUS_USAGE,
                         "want --data DIR, --config FILE or the folder of a run to continue (try "
                         "deq help train)");
    if (operands->count == 0)
        return STATUS_OK;
    for (size_t n = strlen(operands->text[0]); n > 1 && operands->text[0][n - 1] == '/'; n--)
        operands->text[0][n - 1] = '\0';
    r->run = operands->text[0];
    snprintf(path, sizeof path, "%s/config.json", r->run);
    if (strlen(r->run) >= PATHS_MAX - sizeof "/config.json" || stat(path, &info) != 0)
        return refuse_run(r->run, err);
    const char *other = r->config != NULL      ? "--config"
                        : r->preset != NULL    ? "--preset"
                        : r->out != NULL       ? "--out"
                        : r->init_from != NULL ? "--init-from"
                                               : NULL;
    if (other != NULL)
        return error_set(err, STATUS_USAGE,
                         "%s: a run goes on in its folder with its own configuration: leave out "
                         "%s, or name --config %s in place of the folder",
                         r->run, other, path);
    r->out = r->run;
    return STATUS_OK;
}

static enum run_resume resume_mode(const char *resume)
{
    if (strcmp(resume, "never") == 0)
        return RESUME_NEVER;
    return strcmp(resume, "auto") == 0 ? RESUME_AUTO : RESUME_FILE;
}

/* Reads the list of --reset and checks which options go together. */
static enum status read_resets(struct request *r, struct error *err)
{
    static const char *const names[] = {"optimizer", "schedule", "data"};
    static const unsigned bits[] = {TRAINER_RESET_OPTIMIZER, TRAINER_RESET_SCHEDULE,
                                    TRAINER_RESET_DATA};
    if (r->init_from != NULL && (r->reset != NULL || resume_mode(r->resume) == RESUME_FILE))
        return error_set(err, STATUS_USAGE, "--init-from begins a new run: leave out --%s",
                         r->reset != NULL ? "reset" : "resume");
    for (const char *p = r->reset; p != NULL; p = *p == ',' ? p + 1 : NULL) {
        size_t len = strcspn(p, ","), i = 0;
        while (i < 3 && (strlen(names[i]) != len || strncmp(p, names[i], len) != 0))
            i++;
        if (i == 3)
            return error_set(err, STATUS_USAGE,
                             "--reset: want a list of optimizer, schedule and data, got \"%s\"",
                             r->reset);
        r->reset_mask |= bits[i];
        p += len;
    }
    return STATUS_OK;
}

/* The earlier of two times, of which 0 is none. */
static double earlier(double a, double b)
{
    if (a <= 0 || b <= 0)
        return a <= 0 ? b : a;
    return a < b ? a : b;
}

/* When to stop, or 0. One process asks the batch system, since a thousand would be a burden to it.
 */
static double deadline_of(const struct job *job)
{
    const struct request *r = job->request;
    bool ask = !r->dry_run && dist_rank(job->dist) == 0;
    return earlier(r->time_limit > 0 ? job->started + r->time_limit : 0,
                   ask ? launcher_job_end() : 0);
}

static enum status train(const struct job *job, struct backend *be, const struct config *config,
                         const char *dir, double deadline, struct error *err)
{
    const struct request *r = job->request;
    struct progress progress;
    struct run_observer observer, silent = {0};
    bool traced = r->trace != NULL && dist_rank(job->dist) == 0;
    progress_start(&progress, &observer, dir, &job->watch->asked);
    bool quiet = r->quiet || dist_rank(job->dist) != 0;
    if (r->dry_run)
        return dry_run(be, job->dist, config, quiet ? &silent : &observer, &progress, err);
    struct run_options run = {.dist = job->dist,
                              .dir = dir,
                              .resume = resume_mode(r->resume),
                              .resume_file = r->resume,
                              .init_from = r->init_from,
                              .reset = r->reset_mask,
                              .deadline = deadline,
                              .stop = &job->watch->asked,
                              .version = deq_version(),
                              .command = r->command};
    enum status status = traced ? trace_begin(be, r->trace, err) : STATUS_OK;
    if (status == STATUS_OK && traced)
        status = backend_time_calls(be, true, err);
    atomic_store(&job->watch->folder, dir);
    if (status == STATUS_OK)
        status = run_train(be, config, &run, quiet ? &silent : &observer, err);
    atomic_store(&job->watch->folder, NULL);
    progress_break(&progress);
    return trace_end(be, r->trace, quiet, status, err);
}

/* Writes the folder of the run that a configuration belongs to. It is runs/NAME for NAME.json, but
 * the config.json of a run means that run. For a preset it is runs/NAME of the text `data`, which
 * is NULL otherwise. */
static void standard_folder(const char *path, const char *data, char out[PATHS_MAX])
{
    char log[PATHS_MAX + 16], name[256];
    struct stat info;
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    if (data != NULL) {
        load_config_name(data, name, sizeof name);
        snprintf(out, PATHS_MAX, "runs/%s", name);
        return;
    }
    snprintf(out, PATHS_MAX, "%.*s", slash != NULL ? (int)(slash - path) : 1,
             slash != NULL ? path : ".");
    snprintf(log, sizeof log, "%s/log.jsonl", out);
    if (strcmp(base, "config.json") == 0 && stat(log, &info) == 0)
        return;
    load_config_name(path, name, sizeof name);
    snprintf(out, PATHS_MAX, "runs/%s", name);
}

static enum status train_in_group(const struct job *job, struct error *err)
{
    const struct request *r = job->request;
    struct dist *dist = job->dist;
    struct device_choice device = {.name = r->device,
                                   .threads = (int)r->threads,
                                   .nth = dist_local_rank(dist),
                                   .quiet = r->quiet};
    struct config config;
    struct backend be;
    char path[PATHS_MAX], standard[PATHS_MAX], why[CONFIG_WHY];
    double deadline = deadline_of(job);
    TRY(load(r, &config, path, why, err));
    standard_folder(path, why[0] != '\0' ? r->data : NULL, standard);
    if (why[0] != '\0' && !r->quiet && dist_rank(dist) == 0)
        fprintf(stderr, "%s\n", why);
    int others = cpu_running_others("/proc/loadavg");
    enum status opened = device_open_choice(&be, &device, err);
    if (opened == STATUS_OK && dist_size(dist) == 1 && !r->quiet)
        device_tell_of_others(&be, others);
    enum status status = dist_agree(dist, opened, err);
    if (status == STATUS_OK)
        status = dist_attach(dist, &be, err);
    if (status == STATUS_OK)
        status = train(job, &be, &config, r->out != NULL ? r->out : standard, deadline, err);
    dist_detach(dist);
    if (opened == STATUS_OK)
        backend_close(&be);
    return status;
}

static enum status join_and_train(const struct request *r, struct stop_watch *watch,
                                  struct error *err)
{
    struct job job = {.request = r, .watch = watch, .started = clock_seconds()};
    TRY(launcher_join("train", r->peer_timeout, &job.dist, err));
    return launcher_leave(job.dist, "train", train_in_group(&job, err), err);
}

/* Writes the command line as one would type it. It is cut if it is longer than `size`. */
static void write_command(int argc, char **argv, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "deq");
    for (int i = 0; i < argc && at + 1 < size; i++) {
        out[at++] = ' ';
        summary_quote(argv[i], out + at, size - at);
        at += strlen(out + at);
    }
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    char command[COMMAND_MAX];
    struct request r = {.command = command};
    write_command(argc, argv, command, sizeof command);
    struct stop_watch watch;
    struct operands operands;
    TRY(command_read(&command_train, &r, argc, argv, &operands, err));
    TRY(read_run(&r, &operands, err));
    TRY(read_resets(&r, err));
    if (r.trace != NULL && r.dry_run)
        return error_set(err, STATUS_USAGE,
                         "--trace shows a training, and --dry-run makes none: leave out one");
    /* This comes before the long loading, so that a job asked to stop is always requeued. */
    TRY(stop_watch_begin(&watch, err));
    enum status status = join_and_train(&r, &watch, err);
    stop_watch_end(&watch);
    return status;
}

static const struct command_file files[] = {
    {"RUN/config.json", "The configuration, with every key."},
    {"RUN/log.jsonl", "An object a start, a step and an evaluation."},
    {"RUN/last.bin", "The newest checkpoint, from which the training goes on."},
    {"RUN/best.bin", "The checkpoint with the lowest validation loss."},
    {"RUN/step-NNNNNNNN.bin", "Checkpoints that are kept, train.keep_last and train.keep_every."},
    {0},
};

const struct command command_train = {
    .name = "train",
    .summary = "train a model on a text, by a preset or a configuration",
    .operands = "[RUN]",
    .stray = "only one run is trained at a time",
    .forms = (const char *const[]){"--data DIR [--preset NAME] [OPTION]...",
                                   "--config FILE [OPTION]...", "RUN [OPTION]...", NULL},
    .description =
        "Trains a model on the shards in data.dir, evaluates it now and then and keeps "
        "checkpoints. The same command continues a run that was stopped, and so does the folder "
        "RUN alone. A finished run that is given more steps begins the schedule of its learning "
        "rate anew. `deq help config` describes every key of a configuration.",
    .options = options,
    .files = files,
    .notes =
        "DIR holds config.json, which is the resolved configuration, and log.jsonl with one object "
        "a start, a step and an evaluation, each with its time as ISO 8601 has it, in UTC. The "
        "checkpoints are last.bin, best.bin with the lowest "
        "validation loss, and step-NNNNNNNN.bin. If last.bin is damaged, the newest whole "
        "checkpoint is taken.\n"
        "Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGXCPU save and stop after the "
        "step under way, with exit code 75, and so does a log that nobody reads any more. The same "
        "command then goes on. A second Ctrl-C stops at once, and what was saved before stays as "
        "it is.",
    .examples =
        (const char *const[]){
            "deq train --data data/my",
            "deq train --data data/my --preset medium --out runs/my-medium",
            "deq train --config kjv.json --set train.steps=1000 --out runs/short",
            "deq train runs/short --set train.steps=1500",
            "deq train --data data/my --set train.steps=20 --trace steps.json",
            "mpirun -np 4 deq train --data data/my --peer-timeout 300",
            NULL,
        },
    .run = run_command,
};
