#include "bench_gradient.h"

#include "base/json.h"
#include "base/mem.h"
#include "device.h"
#include "options.h"
#include "train/gradient_bench.h"

#include <stdio.h>
#include <string.h>

enum {
    OPT_CHECKPOINT = 256,
    OPT_DATA,
    OPT_SPLIT,
    OPT_SEGMENTS,
    OPT_TIGHT,
    OPT_SET,
    OPT_THREADS,
    OPT_JSON,
    MAX_SET = 64,
    MAX_THREADS = 4096,
    MAX_SEGMENTS = 10000
};

static const struct option known_options[] = {
    {"checkpoint", required_argument, NULL, OPT_CHECKPOINT},
    {"data", required_argument, NULL, OPT_DATA},
    {"split", required_argument, NULL, OPT_SPLIT},
    {"segments", required_argument, NULL, OPT_SEGMENTS},
    {"tight-forward", no_argument, NULL, OPT_TIGHT},
    {"set", required_argument, NULL, OPT_SET},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0},
};

struct request {
    const char *checkpoint, *data;
    struct gradient_options how;
    const char *set[MAX_SET];
    int set_count;
    int64_t threads;
    bool json;
};

static enum status take_option(struct request *r, int option, struct error *err)
{
    switch (option) {
    case OPT_CHECKPOINT:
        r->checkpoint = optarg;
        return STATUS_OK;
    case OPT_DATA:
        r->data = optarg;
        return STATUS_OK;
    case OPT_SPLIT:
        r->how.split = optarg;
        return STATUS_OK;
    case OPT_SEGMENTS:
        return options_int("--segments", optarg, 1, MAX_SEGMENTS, &r->how.segments, err);
    case OPT_TIGHT:
        r->how.tight_forward = true;
        return STATUS_OK;
    case OPT_SET:
        if (r->set_count == MAX_SET)
            return error_set(err, STATUS_USAGE, "--set: at most %d times", MAX_SET);
        r->set[r->set_count++] = optarg;
        return STATUS_OK;
    case OPT_THREADS:
        return options_int("--threads", optarg, 1, MAX_THREADS, &r->threads, err);
    default:
        r->json = true;
        return STATUS_OK;
    }
}

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    int option;
    options_start();
    while ((option = getopt_long(argc, argv, ":", known_options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return options_refuse(option, argv, known_options, err);
        TRY(take_option(r, option, err));
    }
    if (optind < argc)
        return error_set(err, STATUS_USAGE, "unexpected \"%s\"", argv[optind]);
    if (r->checkpoint == NULL)
        return error_set(err, STATUS_USAGE, "want --checkpoint FILE (try deq help bench)");
    if (strcmp(r->how.split, "train") != 0 && strcmp(r->how.split, "valid") != 0 &&
        strcmp(r->how.split, "test") != 0)
        return error_set(err, STATUS_USAGE, "--split: want train, valid or test, got \"%s\"",
                         r->how.split);
    return STATUS_OK;
}

static enum status apply(const struct request *r, struct config *config, struct error *err)
{
    for (int i = 0; i < r->set_count; i++) {
        if (strncmp(r->set[i], "model.", 6) == 0)
            return error_set(err, STATUS_USAGE, "--set %s: the checkpoint's model is what it is",
                             r->set[i]);
        TRY(config_set(config, r->set[i], err));
    }
    if (r->data != NULL) {
        if (strlen(r->data) >= sizeof config->data.dir)
            return error_set(err, STATUS_USAGE, "--data: path too long");
        strcpy(config->data.dir, r->data);
    }
    return config_resolve(config, config->model.vocab_size, err);
}

static void print_table(const struct gradient_bench *b)
{
    printf("%-32s %8s %9s %8s %8s %9s %9s %9s\n", "way to the gradient", "cosine", "rel error",
           "f evals", "products", "forward", "backward", "MiB");
    for (int64_t i = 0; i < b->count; i++) {
        const struct gradient_row *r = &b->rows[i];
        printf("%-32s %8.5f %9.2e %8.1f %8.1f %6.1f ms %6.1f ms %9.1f\n", r->name, r->cosine,
               r->error, r->forward_evals, r->backward_evals, 1e3 * r->forward_s,
               1e3 * r->backward_s, r->bytes / (1 << 20));
    }
    printf("the reference's solves ended at residuals of at most %.1e forward, %.1e backward\n",
           b->forward_residual, b->backward_residual);
}

static enum status print_json(const struct gradient_bench *b, struct error *err)
{
    struct json_writer w;
    char *text = NULL;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, "bench", "gradient");
    json_write_real(&w, "forward_residual", b->forward_residual);
    json_write_real(&w, "backward_residual", b->backward_residual);
    json_write_array(&w, "rows");
    for (int64_t i = 0; i < b->count; i++) {
        const struct gradient_row *r = &b->rows[i];
        json_write_object(&w, NULL);
        json_write_string(&w, "name", r->name);
        json_write_real(&w, "cosine", r->cosine);
        json_write_real(&w, "error", r->error);
        json_write_real(&w, "forward_evaluations", r->forward_evals);
        json_write_real(&w, "backward_evaluations", r->backward_evals);
        json_write_real(&w, "forward_seconds", r->forward_s);
        json_write_real(&w, "backward_seconds", r->backward_s);
        json_write_real(&w, "bytes", r->bytes);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_end(&w);
    TRY(json_write_finish(&w, &text, err));
    puts(text);
    mem_free(text);
    return STATUS_OK;
}

enum status bench_gradient_run(int argc, char **argv, struct error *err)
{
    struct request r = {.how = {.split = "train", .segments = 2}};
    struct backend be = {0};
    struct snapshot from = {0};
    struct gradient_bench b = {0};
    enum status status = STATUS_OK;
    TRY(parse(&r, argc, argv, err));
    TRY(device_open(&be, "cpu", (int)r.threads, err));
    TRY_OUT(snapshot_open(&from, r.checkpoint, err));
    struct config config = from.config;
    TRY_OUT(apply(&r, &config, err));
    TRY_OUT(gradient_bench_run(&b, &be, &from, &config, &r.how, err));
    if (r.json)
        TRY_OUT(print_json(&b, err));
    else
        print_table(&b);
out:
    gradient_bench_free(&b);
    snapshot_close(&from);
    backend_close(&be);
    return status;
}
