/* What checkpoints cost a training.
 *
 *   bench_checkpoint DIR [ROUNDS] [KEY=VALUE]...
 *
 * First by parts: the processor time of a step, of the copy of the state, for which training waits,
 * and of its writing in the background, the least of 5 each; what a checkpoint every 10 steps costs
 * by that; and the batch at which it is 3 %, steps taken as proportional to the batch. Processor
 * time is what checkpoints cost on a machine whose cores are all busy, and others on the machine
 * disturb it less (set OMP_WAIT_POLICY=passive).
 *
 * Then, ROUNDS times (default 0), as a whole: runs of 30 steps of the real program's loop, in turn
 * with a checkpoint every 10 steps and with none. Timed are the last 20 steps of each, in which two
 * checkpoints are copied and written.
 *
 * DIR must not exist; it receives random shards and the run (about 3.7 GB) and is left there. The
 * model has 102 million parameters unless keys say otherwise. */
#include "../io/shards.h"
#include "base/clock.h"
#include "cpu/cpu.h"
#include "train/run.h"

#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum {
    PARTS = 5,
    EVERY = 10,
    STEPS = 30,
    FIRST = 10,
    VOCAB = 75000,
    TOKENS = 400000,
    MAX_ROUNDS = 100
};

static const char *const settings[] = {
    "model.d_model=1024",     "model.n_head=16",      "model.d_inner=8192", "train.batch=8",
    "train.pretrain_steps=0", "train.warmup_steps=0", "train.lr=1e-4",      "train.steps=1000000",
    "train.keep_last=2",      "train.eval_every=0",
};

struct bench {
    struct run_options options;
    atomic_bool stop;
    int64_t done;               /* steps of this run */
    double start, last;         /* of the timed steps */
    double cpu_start, cpu_last; /* the same in processor time */
    double longest;             /* time between two steps */
    double bytes;               /* of parameters and moments */
};

static double processor_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void on_begin(void *ctx, const struct trainer *t)
{
    struct bench *b = ctx;
    b->bytes = 12.0 * (double)t->model->params->total;
}

static void on_step(void *ctx, const struct trainer *t, const struct step_report *r)
{
    struct bench *b = ctx;
    double now = clock_seconds();
    (void)t;
    (void)r;
    b->done++;
    b->cpu_last = processor_seconds();
    if (b->done == FIRST) {
        b->start = now;
        b->cpu_start = b->cpu_last;
    }
    if (b->done > FIRST && now - b->last > b->longest)
        b->longest = now - b->last;
    b->last = now;
    b->stop = b->done == STEPS;
}

static enum status set(struct config *c, const char *const *texts, int count, struct error *err)
{
    for (int i = 0; i < count; i++)
        TRY(config_set(c, texts[i], err));
    return STATUS_OK;
}

/* Seconds of a timed step, seconds[0] of the clock and seconds[1] of the processors. */
static enum status measure(const struct config *config, const char *dir, bool checkpoints,
                           struct bench *b, double *seconds, struct error *err)
{
    struct config c = *config;
    struct backend be;
    struct run_observer observer = {.ctx = b, .begin = on_begin, .step = on_step};
    *b = (struct bench){.options = {.dir = dir, .stop = &b->stop}};
    TRY(config_set(&c, checkpoints ? "train.checkpoint_every=10" : "train.checkpoint_every=0",
                   err));
    TRY(cpu_open(&be, 0, err));
    enum status status = run_train(&be, &c, &b->options, &observer, err);
    backend_close(&be);
    seconds[0] = (b->last - b->start) / (STEPS - FIRST);
    seconds[1] = (b->cpu_last - b->cpu_start) / (STEPS - FIRST);
    return status == STATUS_STOPPED ? STATUS_OK : status;
}

static void least(double *best, double value)
{
    *best = *best == 0 || value < *best ? value : *best;
}

struct parts {
    double step, copy, write; /* seconds of processors, the least */
    double write_time, bytes; /* of the last file */
};

static enum status measure_parts(struct trainer *t, struct snapshot_image *image, const char *path,
                                 struct parts *p, struct error *err)
{
    struct snapshot_source source = trainer_snapshot(t);
    struct step_report report;
    struct stat info;
    TRY(trainer_step(t, &report, err)); /* the first one warms up */
    for (int i = 0; i < PARTS; i++) {
        double start = processor_seconds();
        TRY(trainer_step(t, &report, err));
        double stepped = processor_seconds();
        TRY(snapshot_take(image, &source, err));
        double copied = processor_seconds(), clock = clock_seconds();
        TRY(snapshot_write(path, image, err));
        p->write_time = clock_seconds() - clock;
        least(&p->step, stepped - start);
        least(&p->copy, copied - stepped);
        least(&p->write, processor_seconds() - copied);
    }
    p->bytes = stat(path, &info) == 0 ? (double)info.st_size : NAN;
    return STATUS_OK;
}

/* The trainer's parts, outside of a run. */
static enum status by_parts(const char *dir, const struct config *config, struct error *err)
{
    enum status status = STATUS_OK;
    struct backend be;
    struct trainer t = {0};
    struct snapshot_image image = {0};
    struct parts p = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/parts.bin", dir);
    TRY(cpu_open(&be, 0, err));
    TRY_OUT(trainer_create(&t, &be, NULL, config, NULL, err));
    struct snapshot_source source = trainer_snapshot(&t);
    TRY_OUT(snapshot_image_create(&image, &source, err));
    TRY_OUT(measure_parts(&t, &image, path, &p, err));
    double cost = (p.copy + p.write) / (EVERY * p.step);
    printf("batch %lld: a step %.2f s of processors, the copy %.2f, writing %.2f (%.2f s by the "
           "clock), file %.2f GB of %.2f\n"
           "a checkpoint every %d steps costs %.2f %%; 3 %% from a batch of %.1f on\n",
           (long long)config->train.batch, p.step, p.copy, p.write, p.write_time, p.bytes * 1e-9,
           (double)snapshot_image_bytes(&image) * 1e-9, EVERY, 100 * cost,
           (double)config->train.batch * cost / 0.03);
    fflush(stdout);
out:
    snapshot_image_free(&image);
    trainer_free(&t);
    backend_close(&be);
    return status;
}

static enum status bench(const char *dir, int rounds, const struct config *config,
                         struct error *err)
{
    double sum[2][2] = {0}, seconds[2];
    struct bench b;
    for (int i = 0; i < 2 * rounds; i++) {
        bool checkpoints = i % 2 == 1;
        TRY(measure(config, dir, checkpoints, &b, seconds, err));
        sum[checkpoints][0] += seconds[0];
        sum[checkpoints][1] += seconds[1];
        printf("%-22s %.3f s a step, %.3f s of processors, longest step %.3f s\n",
               checkpoints ? "checkpoint every 10:" : "none:", seconds[0], seconds[1], b.longest);
        fflush(stdout);
    }
    if (rounds == 0)
        return STATUS_OK;
    printf(
        "%.2f GB of state; checkpoints cost %.2f %% of the time, %.2f %% of the processor time\n",
        b.bytes * 1e-9, 100 * (sum[1][0] / sum[0][0] - 1), 100 * (sum[1][1] / sum[0][1] - 1));
    return STATUS_OK;
}

static enum status start(int argc, char **argv, struct error *err)
{
    char data[4096], run[4096];
    struct config c;
    int sets = argc > 2 && strchr(argv[2], '=') == NULL ? 3 : 2;
    int rounds = sets == 3 ? atoi(argv[2]) : 0;
    if (argc < 2 || rounds < 0 || rounds > MAX_ROUNDS || mkdir(argv[1], 0777) != 0)
        return error_set(err, STATUS_USAGE,
                         "usage: bench_checkpoint DIR [ROUNDS] [KEY=VALUE]...; DIR must not exist");
    snprintf(data, sizeof data, "data.dir=%s/data", argv[1]);
    snprintf(run, sizeof run, "%s/run", argv[1]);
    shards_make(data + strlen("data.dir="), TOKENS, TOKENS, VOCAB);
    config_defaults(&c);
    TRY(set(&c, settings, sizeof settings / sizeof *settings, err));
    TRY(config_set(&c, data, err));
    TRY(set(&c, (const char *const *)argv + sets, argc - sets, err));
    TRY(by_parts(argv[1], &c, err));
    return bench(run, rounds, &c, err);
}

int main(int argc, char **argv)
{
    struct error err;
    if (start(argc, argv, &err) == STATUS_OK)
        return 0;
    fprintf(stderr, "bench_checkpoint: %s\n", err.text);
    return err.status;
}
