/* deq bench runtime times training and evaluation of equilibria beside explicit networks. */
#include "base/mem.h"
#include "bench/bench.h"
#include "bench/runtime_bench.h"
#include "cmd/bench/tools.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ROWS = 16 };

struct request {
    struct option_list checkpoints, set;
    const char *config, *device;
    struct config base; /* the common setting */
    struct runtime_options how;
    int64_t threads;
    bool json;
};

static const struct option_rule options[] = {
    OPTION_CONFIG(.unset = "that of deq bench memory"),
    OPTION("checkpoint", LIST, checkpoints, .value = "FILE",
           .help = "A checkpoint of deq train to time. May be repeated. The others are divided by "
                   "the first."),
    OPTION_SPLIT(how.split, "valid"),
    OPTION_SET(" Applies to all checkpoints too."),
    OPTION("steps", INT, how.steps, .value = "N", .min = 1, .max = OPTION_STEPS_MAX,
           .help = "Steps of each network that are timed.", .initial = "20"),
    OPTION_DEVICE("cpu"),
    OPTION_THREADS,
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"bench", "runtime."},
    {"rows[]",
     "For each network name, measure (the row it is divided by), parameters, layers, "
     "forward_evaluations, backward_evaluations, eval_evaluations, train_step_seconds, "
     "train_tokens_per_s, train_ratio, eval_tokens_per_s and eval_ratio. With checkpoints also "
     "ppl, steps and run_seconds."},
    {0},
};

/* A row is compared with the last `first` row at or before it. */
struct line {
    const char *name;
    bool first;
    const char *settings[12]; /* up to NULL */
};

#define PUBLISHED                                                                                \
    "solver.forward.method=broyden", "solver.forward.scope=batch", "solver.forward.max_iter=13", \
        "solver.forward.history=11", "solver.backward.method=broyden",                           \
        "solver.backward.scope=batch", "solver.backward.stop=fixed",                             \
        "solver.backward.max_iter=12", "solver.backward.history=11"
#define TRELLIS "model.cell=trellis"
#define UNTIED "model.tie_layers=false", "model.wnorm=false"

/* A network of every row, whatever the common setting has. */
static const char *const neutral[] = {"model.cell=transformer", "model.layers=0",
                                      "model.tie_layers=true"};
enum { NEUTRAL = sizeof neutral / sizeof *neutral };

static const struct line lines[] = {
    {"transformer, 18 layers", true, {"model.layers=18", UNTIED}},
    {"transformer, 16 layers", false, {"model.layers=16", UNTIED}},
    {"transformer tied, 10 layers", false, {"model.layers=10"}},
    {"deq-transformer", false, {NULL}},
    {"deq-transformer, published", false, {PUBLISHED}},
    {"trellis, 70 layers", true, {TRELLIS, "model.layers=70"}},
    {"trellis, 10 layers", false, {TRELLIS, "model.layers=10"}},
    {"deq-trellis", false, {TRELLIS}},
    {"deq-trellis, published", false, {TRELLIS, PUBLISHED}},
};
enum { LINES = sizeof lines / sizeof *lines };

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    TRY(command_read(&bench_tool_runtime, r, argc, argv, NULL, err));
    if (r->checkpoints.count > MAX_ROWS)
        return error_set(err, STATUS_USAGE, "--checkpoint: at most %d times", MAX_ROWS);
    if (r->config != NULL && r->checkpoints.count > 0)
        return error_set(
            err, STATUS_USAGE,
            "--config and --checkpoint: leave one out; a checkpoint has its own configuration");
    r->how.settings = r->set.text;
    r->how.setting_count = r->set.count;
    return load_config_or(r->config, bench_width_setting, &r->base, err);
}

static enum status setting(const struct request *r, const struct line *line, struct config *c,
                           struct error *err)
{
    enum { WORDS = 2000 };
    *c = r->base;
    for (int i = 0; i < NEUTRAL; i++)
        TRY(config_set(c, neutral[i], err));
    for (int i = 0; line->settings[i] != NULL; i++)
        TRY(config_set(c, line->settings[i], err));
    TRY(load_config_set(c, &r->set, err));
    return load_config_resolve(c, WORDS, err);
}

static enum status untrained(struct backend *be, const struct request *r, struct runtime_row *rows,
                             struct error *err)
{
    struct config *configs = NULL;
    TRY(mem_alloc((void **)&configs, LINES, sizeof *configs, err));
    enum status status = STATUS_OK;
    for (int i = 0; i < LINES && status == STATUS_OK; i++)
        status = setting(r, &lines[i], &configs[i], err);
    if (status == STATUS_OK)
        status = runtime_untrained(be, configs, LINES, &r->how, rows, err);
    mem_free(configs);
    return status;
}

/* --- the result ------------------------------------------------------------------------------- */

struct table {
    const struct request *request;
    const struct runtime_row *rows;
    int count;
};

static const char *name_of(const struct table *t, int i)
{
    return t->request->checkpoints.count > 0 ? t->request->checkpoints.text[i] : lines[i].name;
}

static const struct runtime_row *first_of(const struct table *t, int i)
{
    if (t->request->checkpoints.count > 0)
        return &t->rows[0];
    while (!lines[i].first)
        i--;
    return &t->rows[i];
}

static double train_per_token(const struct runtime_row *r)
{
    return r->train_seconds / (double)r->tokens;
}

static double train_ratio(const struct table *t, int i)
{
    return train_per_token(&t->rows[i]) / train_per_token(first_of(t, i));
}

static double eval_ratio(const struct table *t, int i)
{
    return first_of(t, i)->eval_tokens_per_s / t->rows[i].eval_tokens_per_s;
}

static enum status print_json(const struct table *t, struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    json_write_string(&w, "bench", "runtime");
    json_write_array(&w, "rows");
    for (int i = 0; i < t->count; i++) {
        const struct runtime_row *r = &t->rows[i];
        json_write_object(&w, NULL);
        json_write_string(&w, "name", name_of(t, i));
        json_write_string(&w, "measure", name_of(t, (int)(first_of(t, i) - t->rows)));
        json_write_int(&w, "parameters", r->parameters);
        json_write_int(&w, "layers", r->layers);
        json_write_real(&w, "forward_evaluations", r->forward);
        json_write_real(&w, "backward_evaluations", r->backward);
        json_write_real(&w, "eval_evaluations", r->eval_forward);
        json_write_real(&w, "train_step_seconds", r->train_seconds);
        json_write_real(&w, "train_tokens_per_s", 1 / train_per_token(r));
        json_write_real(&w, "train_ratio", train_ratio(t, i));
        json_write_real(&w, "eval_tokens_per_s", r->eval_tokens_per_s);
        json_write_real(&w, "eval_ratio", eval_ratio(t, i));
        if (isfinite(r->ppl)) {
            json_write_real(&w, "ppl", r->ppl);
            json_write_int(&w, "steps", r->steps);
            json_write_real(&w, "run_seconds", r->run_seconds);
        }
        json_write_end(&w);
    }
    json_write_end(&w);
    return output_json_print(&w, err);
}

static void print_table(const struct table *t)
{
    bool trained = t->request->checkpoints.count > 0;
    printf("%-30s %11s %6s %8s %8s %9s %9s %6s %9s %6s%s\n", "", "parameters", "layers", "forward",
           "backward", "ms/step", "tokens/s", "ratio", "eval t/s", "ratio",
           trained ? "      ppl   steps" : "");
    for (int i = 0; i < t->count; i++) {
        const struct runtime_row *r = &t->rows[i];
        printf("%-30s %11lld %6lld %8.1f %8.1f %9.1f %9.0f %6.2f %9.0f %6.2f", name_of(t, i),
               (long long)r->parameters, (long long)r->layers, r->forward, r->backward,
               1e3 * r->train_seconds, 1 / train_per_token(r), train_ratio(t, i),
               r->eval_tokens_per_s, eval_ratio(t, i));
        if (trained)
            printf(" %8.3f %7lld", r->ppl, (long long)r->steps);
        putchar('\n');
    }
}

static enum status run_tool(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct runtime_row rows[MAX_ROWS];
    struct backend be = {0};
    TRY(parse(&r, argc, argv, err));
    TRY(device_open(&be, r.device, (int)r.threads, err));
    enum status status =
        r.checkpoints.count > 0
            ? runtime_trained(&be, r.checkpoints.text, r.checkpoints.count, &r.how, rows, err)
            : untrained(&be, &r, rows, err);
    backend_close(&be);
    if (status != STATUS_OK)
        return status;
    struct table t = {&r, rows, r.checkpoints.count > 0 ? r.checkpoints.count : LINES};
    if (r.json)
        return print_json(&t, err);
    print_table(&t);
    return STATUS_OK;
}

const struct command bench_tool_runtime = {
    .name = "runtime",
    .parent = "bench",
    .summary = "training and evaluation time beside explicit networks",
    .stray = "checkpoints are named by --checkpoint",
    .forms = (const char *const[]){"[--config FILE] [OPTION]...",
                                   "--checkpoint FILE [--checkpoint FILE]... [OPTION]...", NULL},
    .description =
        "Times training steps and evaluation of equilibria and explicit networks, which take turns "
        "step by step in one process. Times are divided by those of the first of each kind, so a "
        "ratio above 1 is slower.\n"
        "Without checkpoints, the networks are untrained and have the same width, batch and "
        "length. The equilibria have the default limits and the published ones. The explicit "
        "networks have the paper's depths, and as many layers as the equilibrium has "
        "evaluations.\n"
        "With checkpoints, those networks are timed as they were trained, on their data. Their "
        "perplexity is measured too, so that they can be compared at equal quality.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq bench runtime --checkpoint runs/a/best.bin --checkpoint runs/b/best.bin", NULL},
    .run = run_tool,
};
