/* deq bench gradient compares ways to the gradient on the user's own checkpoint. */
#include "bench/gradient_bench.h"
#include "cmd/bench/tools.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
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

static const struct option_rule options[] = {
    OPTION("checkpoint", TEXT, checkpoint, .value = "FILE", .help = "A checkpoint of deq train.",
           .required = true),
    OPTION("data", TEXT, data, .value = "DIR", .help = "The folder of shards.",
           .unset = "the one that the model was trained on"),
    OPTION_SPLIT(how.split, "train"),
    OPTION("segments", INT, how.segments, .value = "N", .min = 1, .max = MAX_SEGMENTS,
           .help = "Segments to average over.", .initial = "2"),
    OPTION("tight-forward", FLAG, how.tight_forward,
           .help = "Starts every way from a tight forward solve, so that only the way back "
                   "differs."),
    OPTION_SET(" The keys of model.* stay as they are in the checkpoint."),
    OPTION_THREADS,
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"bench", "gradient."},
    {"forward_residual", "The largest residual of the reference's forward solves."},
    {"backward_residual", "The largest residual of its backward solves."},
    {"rows[]", "For each way name, cosine, error, forward_evaluations, backward_evaluations, "
               "forward_seconds, backward_seconds and bytes."},
    {0},
};

static enum status apply(const struct request *r, struct config *config, struct error *err)
{
    for (int i = 0; i < r->set.count; i++) {
        if (strncmp(r->set.text[i], "model.", 6) == 0)
            return error_set(err, STATUS_USAGE,
                             "--set %s: the model of a checkpoint cannot be changed",
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
    output_json_begin(&w);
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
    return output_json_print(&w, err);
}

static enum status run_tool(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct backend be = {0};
    struct snapshot from = {0};
    struct gradient_bench b = {0};
    enum status status = STATUS_OK;
    TRY(command_read(&bench_tool_gradient, &r, argc, argv, NULL, err));
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

const struct command bench_tool_gradient = {
    .name = "gradient",
    .parent = "bench",
    .summary = "ways to the gradient, compared on a checkpoint",
    .stray = "a checkpoint is named by --checkpoint",
    .description =
        "Compares ways to the gradient on a checkpoint and its data. They are the implicit one by "
        "several solvers, numbers of products and tolerances, the one-step, the phantom, the "
        "unrolled, the truncated and the reversible one. The reference is the implicit gradient of "
        "tight solves.\n"
        "Prints the cosine and the relative error over all parameters, the time, the evaluations "
        "and the memory of each.",
    .options = options,
    .json = fields,
    .examples = (const char *const[]){"deq bench gradient --checkpoint runs/kjv/best.bin", NULL},
    .run = run_tool,
};
