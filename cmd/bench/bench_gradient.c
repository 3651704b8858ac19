#include "cmd/bench/bench_gradient.h"

#include "bench/gradient_bench.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/options.h"
#include "cmd/output.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SEGMENTS = 10000 };

struct request {
    const char *checkpoint, *data;
    struct gradient_options how;
    struct option_list set;
    int64_t threads;
    bool json;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const struct option_rule rules[] = {
        OPTION("checkpoint", TEXT, &r->checkpoint),
        OPTION("data", TEXT, &r->data),
        OPTION("split", CHOICE, &r->how.split, .choices = OPTION_SPLITS),
        OPTION("segments", INT, &r->how.segments, .min = 1, .max = MAX_SEGMENTS),
        OPTION("tight-forward", FLAG, &r->how.tight_forward),
        OPTION("set", LIST, &r->set),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    TRY(options_read_all(rules, argc, argv, err));
    if (r->checkpoint == NULL)
        return error_set(err, STATUS_USAGE, "want --checkpoint FILE (try deq help bench)");
    return STATUS_OK;
}

static enum status apply(const struct request *r, struct config *config, struct error *err)
{
    for (int i = 0; i < r->set.count; i++) {
        if (strncmp(r->set.text[i], "model.", 6) == 0)
            return error_set(err, STATUS_USAGE, "--set %s: the checkpoint's model is what it is",
                             r->set.text[i]);
        TRY(config_set(config, r->set.text[i], err));
    }
    TRY(load_config_data(config, r->data, err));
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
    report_json_begin(&w);
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
    return report_json_print(&w, err);
}

enum status bench_gradient(int argc, char **argv, struct error *err)
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
