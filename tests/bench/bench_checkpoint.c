/* What checkpoints cost a training.
 *
 *   bench_checkpoint DIR [ROUNDS] [KEY=VALUE]...
 *
 * First the parts are measured, each as the least processor time of 5. They are a step, the copy of
 * the state, for which training waits, and its writing in the background. From them follow the cost
 * of a checkpoint every 10 steps, and the batch at which it is 3 % if steps are proportional to the
 * batch. Processor time is what checkpoints cost on a machine whose cores are all busy, and other
 * programs disturb it less (set OMP_WAIT_POLICY=passive).
 *
 * With ROUNDS above 0 the real program's loop then runs once, with ROUNDS checkpoints 20 steps
 * apart. The ten steps after a checkpoint, in which it is copied and written, are compared with the
 * mean of the ten steps before and the ten after them, so that a machine that slowly changes its
 * speed does not count. The median and the range are printed.
 *
 * DIR must not exist. It receives random shards and the run (about 3.7 GB), which are left there.
 * The model has 102 million parameters unless keys say otherwise. */
#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "data/shards.h"
#include "run/run.h"

#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum {
    PARTS = 5,
    EVERY = 10, /* steps of a block. Every second block begins with a checkpoint */
    VOCAB = 75000,
    TOKENS = 400000,
    MAX_ROUNDS = 100,
    MAX_BLOCKS = 2 * MAX_ROUNDS + 1
};

static const char *const settings[] = {
    "model.d_model=1024",     "model.n_head=16",      "model.d_inner=8192", "train.batch=8",
    "train.pretrain_steps=0", "train.warmup_steps=0", "train.lr=1e-4",      "train.steps=1000000",
    "train.keep_last=2",      "train.eval_every=0",
};

struct moment {
    double clock, processors; /* seconds */
};

struct bench {
    struct run_options options;
    atomic_bool stop;
    int blocks;                         /* to measure, after one that warms up */
    int64_t done;                       /* steps of this run */
    struct moment ends[MAX_BLOCKS + 1]; /* of all blocks, the first of which warms up */
    struct timespec saved;              /* when last.bin was written, at the last block's end */
    int late;                           /* checkpoints not written within their block */
    double bytes;                       /* of parameters and moments */
};

static double processor_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void on_begin(void *ctx, const struct trainer *t, size_t bytes)
{
    struct bench *b = ctx;
    (void)bytes;
    b->bytes = 12.0 * (double)t->model->params->total;
}

/* Whether last.bin was replaced since the last call. */
static bool was_saved(struct bench *b)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s/last.bin", b->options.dir);
    if (stat(path, &info) != 0 ||
        (info.st_mtim.tv_sec == b->saved.tv_sec && info.st_mtim.tv_nsec == b->saved.tv_nsec))
        return false;
    b->saved = info.st_mtim;
    return true;
}

static void on_step(void *ctx, const struct trainer *t, const struct step_report *r)
{
    struct bench *b = ctx;
    (void)t;
    (void)r;
    if (++b->done % EVERY != 0)
        return;
    int block = (int)(b->done / EVERY) -
                1; /* the one that ends now. Block 0 warms up, and even ones save */
    b->ends[block] = (struct moment){clock_seconds(), processor_seconds()};
    b->late += block > 0 && block % 2 == 0 && !was_saved(b);
    b->stop = block == b->blocks;
}

static enum status set(struct config *c, const char *const *texts, int count, struct error *err)
{
    for (int i = 0; i < count; i++)
        TRY(config_set(c, texts[i], err));
    return STATUS_OK;
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

/* Measures the parts with a trainer outside of a run. */
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

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Prints the cost of a checkpoint by one of two measures. Blocks 2, 4, ... have one. */
static void show_cost(const double *seconds, int rounds, const char *measure)
{
    double cost[MAX_ROUNDS], share[MAX_ROUNDS];
    for (int i = 0; i < rounds; i++) {
        const double *with = seconds + 2 * i + 1;
        double without = 0.5 * (with[-1] + with[1]);
        cost[i] = with[0] - without;
        share[i] = 100 * cost[i] / without;
    }
    qsort(cost, (size_t)rounds, sizeof *cost, ascending);
    qsort(share, (size_t)rounds, sizeof *share, ascending);
    printf("%s: a checkpoint costs %.2f s, %.2f %% of %d steps (%d of them; %.2f to %.2f %%)\n",
           measure, cost[rounds / 2], share[rounds / 2], EVERY, rounds, share[0],
           share[rounds - 1]);
}

static void show(const struct bench *b)
{
    double clock[MAX_BLOCKS], processors[MAX_BLOCKS];
    for (int i = 0; i < b->blocks; i++) {
        clock[i] = b->ends[i + 1].clock - b->ends[i].clock;
        processors[i] = b->ends[i + 1].processors - b->ends[i].processors;
        printf("%s %.3f s a step, %.3f s of processors\n",
               i % 2 == 1 ? "saving:" : "none:  ", clock[i] / EVERY, processors[i] / EVERY);
    }
    printf("%.2f GB of state\n", b->bytes * 1e-9);
    show_cost(clock, b->blocks / 2, "by the clock");
    show_cost(processors, b->blocks / 2, "of processors");
    if (b->late > 0)
        printf("%d not written within %d steps: the cost is more\n", b->late, EVERY);
}

static enum status bench(const char *dir, int rounds, const struct config *config,
                         struct error *err)
{
    struct config c = *config;
    struct backend be;
    struct bench b = {.options = {.dir = dir, .stop = &b.stop}, .blocks = 2 * rounds + 1};
    struct run_observer observer = {.ctx = &b, .begin = on_begin, .step = on_step};
    if (rounds == 0)
        return STATUS_OK;
    TRY(config_set(&c, "train.checkpoint_every=20", err));
    TRY(cpu_open(&be, 0, err));
    enum status status = run_train(&be, &c, &b.options, &observer, err);
    backend_close(&be);
    if (status != STATUS_STOPPED)
        return status;
    show(&b);
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
