/* How noisy the gradient of the Jacobian's penalty is.
 *
 *   bench_penalty CHECKPOINT [KEY=VALUE]...
 *
 * Takes the first batch of the training text under the checkpoint's weights. For the exact form, if
 * the cell has it, and for several steps h of the difference it prints the penalty, the noise of
 * one direction's gradient, and the cosine between this form's mean gradient and that of the first
 * form. The noise is |g - E g| / |E g| over DIRECTIONS of them. */
#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "data/stream.h"
#include "deq/model.h"
#include "store/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DIRECTIONS = 16 };

static const struct form {
    const char *name, *settings[2];
} forms[] = {
    {"exact", {"jacobian.form=exact", "jacobian.step=1"}},
    {"h 0.001", {"jacobian.form=difference", "jacobian.step=0.001"}},
    {"h 0.01", {"jacobian.form=difference", "jacobian.step=0.01"}},
    {"h 0.03", {"jacobian.form=difference", "jacobian.step=0.03"}},
    {"h 0.05", {"jacobian.form=difference", "jacobian.step=0.05"}},
    {"h 0.1", {"jacobian.form=difference", "jacobian.step=0.1"}},
    {"h 0.3", {"jacobian.form=difference", "jacobian.step=0.3"}},
};
enum { FORMS = sizeof forms / sizeof *forms };

struct bench {
    struct backend be;
    struct snapshot from;
    struct config config;
    struct model *model;   /* owns that of the current form */
    struct stream *stream; /* owns */
    struct batch batch;
    float *plain, *got;   /* owns [total] gradients without the penalty and with it */
    double *mean, *first; /* owns [total] mean gradients of this form and of the first one */
};

/* Computes the gradient of the batch with the penalty in direction number `direction`, or without
 * the penalty for 0. */
static enum status gradient(struct bench *b, uint64_t direction, float *to, struct error *err)
{
    struct model *m = b->model;
    struct masks masks = {.source = MASKS_DRAWN, .seed = 1};
    struct rng_key key = {1, rng_stream(RNG_PENALTY, direction, 0)};
    op_fill(&b->be, &m->params->g, 0);
    model_refresh(m);
    cell_reset_memory(m->cell);
    model_begin(m, b->batch.input, b->batch.L, &masks);
    TRY(model_solve(m, 0, true, err));
    model_loss(m, b->batch.target, 1.0 / (double)(b->batch.B * b->batch.L), true);
    if (direction > 0)
        model_weigh_term(m, TERM_JACOBIAN_PENALTY, 1, &key);
    TRY(model_backward(m, err));
    model_finish_gradients(m);
    op_download(&b->be, to, DTYPE_F32, &m->params->g);
    return backend_check(&b->be, err);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* A direction's number gives the same direction again, so that one pass computes the mean and a
 * second one the noise around it. */
static enum status measure(struct bench *b, const struct form *form, bool is_first,
                           struct error *err)
{
    int64_t n = b->model->params->total;
    double penalty = 0, noise = 0;
    TRY(gradient(b, 0, b->plain, err));
    memset(b->mean, 0, (size_t)n * sizeof *b->mean);
    for (uint64_t d = 1; d <= DIRECTIONS; d++) {
        TRY(gradient(b, d, b->got, err));
        double value = NAN;
        (void)model_read_term(b->model, TERM_JACOBIAN_PENALTY, &value);
        penalty += value / DIRECTIONS;
        for (int64_t i = 0; i < n; i++)
            b->mean[i] += ((double)b->got[i] - b->plain[i]) / DIRECTIONS;
    }
    for (uint64_t d = 1; d <= DIRECTIONS; d++) {
        TRY(gradient(b, d, b->got, err));
        for (int64_t i = 0; i < n; i++) {
            double off = (double)b->got[i] - b->plain[i] - b->mean[i];
            noise += off * off / (DIRECTIONS - 1);
        }
    }
    if (is_first)
        memcpy(b->first, b->mean, (size_t)n * sizeof *b->mean);
    double square = dot(b->mean, b->mean, n), first = dot(b->first, b->first, n);
    printf("%-8s penalty %.4f  noise %.2f  cosine %.3f\n", form->name, penalty,
           sqrt(noise / (square - noise / DIRECTIONS)), /* the mean has a share of the noise */
           dot(b->mean, b->first, n) / sqrt(square * first));
    fflush(stdout);
    return STATUS_OK;
}

static enum status set_up(struct bench *b, const struct form *form, struct error *err)
{
    struct config c = b->config;
    const struct config_train *t = &c.train;
    struct model_plan plan = {.batch = t->batch,
                              .length = t->tgt_len,
                              .mem_len = t->mem_len,
                              .train = true,
                              .replay = true};
    for (int i = 0; i < 2; i++)
        TRY(config_set(&c, form->settings[i], err));
    TRY(config_resolve(&c, c.model.vocab_size, err));
    TRY(model_create(&b->model, &b->be, &c, NULL, &plan, err));
    return snapshot_read_params(&b->from, b->model->params, err);
}

static enum status read_batch(struct bench *b, struct error *err)
{
    struct stream_config data = {.dir = b->config.data.dir,
                                 .split = "train",
                                 .batch = b->config.train.batch,
                                 .length = b->config.train.tgt_len};
    TRY(stream_open(&b->stream, &data, err));
    return stream_next(b->stream, &b->batch, err);
}

static enum status bench(struct bench *b, struct error *err)
{
    bool is_first = true;
    TRY(read_batch(b, err));
    for (int i = 0; i < FORMS; i++) {
        if (i == 0 && b->config.model.cell == CELL_TRELLIS)
            continue; /* a trellis has no second derivatives */
        TRY(set_up(b, &forms[i], err));
        size_t total = (size_t)b->model->params->total;
        if (is_first) {
            TRY(mem_alloc((void **)&b->plain, total, sizeof *b->plain, err));
            TRY(mem_alloc((void **)&b->got, total, sizeof *b->got, err));
            TRY(mem_alloc((void **)&b->mean, total, sizeof *b->mean, err));
            TRY(mem_alloc((void **)&b->first, total, sizeof *b->first, err));
        }
        TRY(measure(b, &forms[i], is_first, err));
        model_free(b->model);
        b->model = NULL;
        is_first = false;
    }
    return STATUS_OK;
}

static enum status start(struct bench *b, int argc, char **argv, struct error *err)
{
    static const char *const plain[] = {"jacobian.weight=1", "jacobian.ramp_every=0",
                                        "correction.weight=0", "train.pretrain_steps=0",
                                        "train.accumulate=1"};
    if (argc < 2)
        return error_set(err, STATUS_USAGE, "usage: bench_penalty CHECKPOINT [KEY=VALUE]...");
    TRY(snapshot_open(&b->from, argv[1], err));
    b->config = b->from.config;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        TRY(config_set(&b->config, plain[i], err));
    for (int i = 2; i < argc; i++)
        TRY(config_set(&b->config, argv[i], err));
    return bench(b, err);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    struct error err;
    enum status status = cpu_open(&b.be, 0, &err);
    if (status == STATUS_OK)
        status = start(&b, argc, argv, &err);
    if (status != STATUS_OK)
        fprintf(stderr, "bench_penalty: %s\n", err.text);
    model_free(b.model);
    stream_close(b.stream);
    mem_free(b.plain);
    mem_free(b.got);
    mem_free(b.mean);
    mem_free(b.first);
    snapshot_close(&b.from);
    backend_close(&b.be);
    return status;
}
