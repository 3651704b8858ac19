/* What a token costs.
 *
 *   bench_decode [--checkpoint FILE] [--threads N] [--tokens N] [--set KEY=VALUE]...
 *
 * With --operations 1 it also prints the time of each operation.
 *
 * Prints as JSON the tokens per second of incremental decoding, and of solving a whole window of
 * WINDOW positions for each token to the same tolerance, with the largest difference between the
 * two. For each tolerance it also prints the largest change of a log-probability against a solve at
 * 1e-6, weighed by its probability. Without a checkpoint the model has the width of
 * configs/kjv.json, 12 000 words and random weights. */
#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "base/mem.h"
#include "generate/generation.h"
#include "store/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 256, WORDS = 12000, FULL_SOLVES = 4, CHECKED = 40 };

struct bench {
    struct backend be;
    struct config config;
    struct snapshot from;
    const char *checkpoint;
    struct model *model, *full;
    int32_t *tokens; /* owns [count] */
    int64_t count;   /* of the window and the tokens after it */
    bool operations; /* whether the time of each operation is printed */
};

static enum status settings(struct bench *b, struct error *err)
{
    static const char *const kjv[] = {"model.d_model=128", "model.n_head=4", "model.d_inner=512",
                                      "model.init_std=0.05", "model.proj_init_std=0.05"};
    if (b->checkpoint != NULL) {
        TRY(snapshot_open(&b->from, b->checkpoint, err));
        b->config = b->from.config;
        return STATUS_OK;
    }
    config_defaults(&b->config);
    for (size_t i = 0; i < sizeof kjv / sizeof *kjv; i++)
        TRY(config_set(&b->config, kjv[i], err));
    return STATUS_OK;
}

static enum status build(struct bench *b, struct error *err)
{
    int64_t vocab = b->checkpoint != NULL ? b->config.model.vocab_size : WORDS;
    b->config.eval.mem_len = WINDOW - b->config.eval.tgt_len;
    TRY(config_resolve(&b->config, vocab, err));
    TRY(generation_model(&b->model, &b->be, &b->config, NULL, err));
    if (b->checkpoint != NULL)
        TRY(snapshot_read_params(&b->from, b->model->params, err));
    else
        TRY(params_initialize(b->model->params, 1, err));
    model_refresh(b->model);
    struct config whole = b->config;
    whole.eval.tgt_len = WINDOW;
    whole.eval.mem_len = 0;
    TRY(generation_model(&b->full, &b->be, &whole, b->model->params, err));
    model_refresh(b->full);
    TRY(mem_alloc((void **)&b->tokens, (size_t)b->count, sizeof *b->tokens, err));
    return STATUS_OK;
}

/* Samples the text that all measurements read from the model itself. */
static enum status write_text(struct bench *b, struct error *err)
{
    struct generator g;
    TRY(generator_create(
        &g, &(struct generator_plan){.model = b->model, .how = SAMPLING_PLAIN, .seed = 1}, err));
    enum status status = STATUS_OK;
    for (int64_t i = 1; i < b->count; i++) {
        TRY_OUT(generator_feed(&g, b->tokens + i - 1, 1, err));
        TRY_OUT(generator_draw(&g, &b->tokens[i], err));
    }
out:
    generator_free(&g);
    return status;
}

/* Decodes the positions from WINDOW on one by one. *seconds and *nfe receive the means for a
 * position, and logp the log-probabilities of the first CHECKED. */
static enum status incremental(struct bench *b, double tol, double *seconds, double *nfe,
                               double *logp, struct error *err)
{
    struct generator g;
    enum status status = STATUS_OK;
    int64_t vocab = b->config.model.vocab_size;
    TRY(generator_create(
        &g, &(struct generator_plan){.model = b->model, .how = SAMPLING_PLAIN, .seed = 1}, err));
    TRY_OUT(model_set_limits(b->model, DIRECTION_FORWARD, 100, tol, STOP_REL, err));
    TRY_OUT(generator_feed(&g, b->tokens, WINDOW - 1, err));
    backend_reset_stats(&b->be);
    double evals = g.evals, start = clock_seconds();
    for (int64_t i = WINDOW - 1; i < b->count; i++) {
        TRY_OUT(generator_feed(&g, b->tokens + i, 1, err));
        int64_t at = i - (WINDOW - 1);
        if (logp != NULL && at < CHECKED)
            memcpy(logp + at * vocab, g.logp, (size_t)vocab * sizeof *logp);
    }
    *seconds = (clock_seconds() - start) / (double)(b->count - WINDOW + 1);
    *nfe = (g.evals - evals) / (double)(b->count - WINDOW + 1);
out:
    generator_free(&g);
    return status;
}

static void print_operations(const struct bench *b)
{
    double tokens = (double)(b->count - WINDOW + 1);
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &b->be.stat[i];
        if (s->calls > 0)
            fprintf(stderr, "%-18s %7.1f calls %8.2f us a token, %6.2f us a call\n",
                    op_name((enum op_id)i), (double)s->calls / tokens, 1e6 * s->seconds / tokens,
                    1e6 * s->seconds / (double)s->calls);
    }
}

/* Solves a whole window for its last position. */
static enum status window(struct bench *b, double tol, double *seconds, double *logp,
                          struct error *err)
{
    struct generator g;
    enum status status = STATUS_OK;
    TRY(generator_create(
        &g, &(struct generator_plan){.model = b->full, .how = SAMPLING_PLAIN, .seed = 1}, err));
    TRY_OUT(model_set_limits(b->full, DIRECTION_FORWARD, 100, tol, STOP_REL, err));
    double start = clock_seconds();
    for (int i = 0; i < FULL_SOLVES; i++) {
        model_reset_memory(b->full);
        TRY_OUT(generator_feed(&g, b->tokens, WINDOW, err));
    }
    *seconds = (clock_seconds() - start) / FULL_SOLVES;
    memcpy(logp, g.logp, (size_t)b->config.model.vocab_size * sizeof *logp);
out:
    generator_free(&g);
    return status;
}

/* *weighed receives the largest p |log p - log q|, *plain the largest |log p - log q| where p >=
 * 1e-4. */
static void compare(const double *p, const double *q, int64_t count, double *weighed, double *plain)
{
    *weighed = *plain = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs(p[i] - q[i]);
        *weighed = fmax(*weighed, exp(p[i]) * difference);
        if (p[i] >= log(1e-4))
            *plain = fmax(*plain, difference);
    }
}

static enum status measure(struct bench *b, struct error *err)
{
    static const double tols[] = {3e-3, 1e-3, 3e-4, 1e-4, 1e-5};
    enum status status = STATUS_OK;
    int64_t vocab = b->config.model.vocab_size;
    double *exact = NULL, *logp = NULL, seconds, nfe, full, weighed, plain;
    TRY_OUT(mem_alloc((void **)&exact, (size_t)(vocab * CHECKED), sizeof *exact, err));
    TRY_OUT(mem_alloc((void **)&logp, (size_t)(vocab * CHECKED), sizeof *logp, err));
    TRY_OUT(incremental(b, 1e-6, &seconds, &nfe, exact, err));
    for (size_t i = 0; i < sizeof tols / sizeof *tols; i++) {
        TRY_OUT(incremental(b, tols[i], &seconds, &nfe, logp, err));
        compare(exact, logp, vocab * CHECKED, &weighed, &plain);
        printf("{\"tol\":%g,\"tokens_per_s\":%.0f,\"nfe_mean\":%.2f,\"error_nats\":%.2e,"
               "\"error_weighed\":%.2e}\n",
               tols[i], 1 / seconds, nfe, plain, weighed);
    }
    TRY_OUT(incremental(b, GENERATION_TOL, &seconds, &nfe, logp, err));
    if (b->operations)
        print_operations(b);
    TRY_OUT(window(b, GENERATION_TOL, &full, logp + vocab, err));
    compare(logp, logp + vocab, vocab, &weighed, &plain);
    printf("{\"window\":%d,\"tol\":%g,\"threads\":%d,\"token_ms\":%.4f,\"window_ms\":%.3f,"
           "\"speedup\":%.1f,\"nfe_mean\":%.2f,\"apart_nats\":%.2e}\n",
           WINDOW, GENERATION_TOL, b->be.threads, 1e3 * seconds, 1e3 * full, full / seconds, nfe,
           plain);
out:
    mem_free(exact);
    mem_free(logp);
    return status;
}

static enum status run(struct bench *b, int argc, char **argv, struct error *err)
{
    int threads = 0;
    b->count = WINDOW + 200;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--checkpoint") == 0)
            b->checkpoint = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--tokens") == 0)
            b->count = WINDOW + atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--operations") == 0)
            b->operations = atoi(argv[i + 1]) != 0;
    }
    TRY(settings(b, err));
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], "--set") == 0)
            TRY(config_set(&b->config, argv[i + 1], err));
    TRY(cpu_open(&b->be, threads, err));
    TRY(build(b, err));
    TRY(write_text(b, err));
    return measure(b, err);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    struct error err = {0};
    enum status status = run(&b, argc, argv, &err);
    if (status != STATUS_OK)
        fprintf(stderr, "bench_decode: %s\n", err.text);
    model_free(b.full);
    model_free(b.model);
    mem_free(b.tokens);
    if (b.checkpoint != NULL)
        snapshot_close(&b.from);
    if (b.be.ops != NULL)
        backend_close(&b.be);
    return (int)status;
}
