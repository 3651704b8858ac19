/* deq bench memory measures memory by what it is for, against depth and solver evaluations. */
#include "bench/bench.h"
#include "cmd/bench/plot.h"
#include "cmd/bench/tools.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/output.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ROWS = 96, STEPS = 2, WORDS = 2000, MOST_PAIRS = 64 };

struct request {
    const char *config, *plot;
    struct option_list set;
    struct config base; /* the common setting */
    int64_t threads;
    bool json;
};

static const struct option_rule options[] = {
    OPTION_CONFIG(.unset =
                      "width 128, inner width 512, trellis 192 + 64, 8 streams of 64 positions "
                      "and 64 of memory, 2,000 words"),
    OPTION_SET(""),
    OPTION("plot", TEXT, plot, .value = "FILE",
           .help = "Also draws it to FILE.png or FILE.svg. This needs gnuplot."),
    OPTION_THREADS,
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"rows[]", "For each method and depth its method and depth. In bytes follow parameters, "
               "optimizer, activations, solver, segment_memory, vocabulary, peak_planned and "
               "peak_process. seconds_per_step is in seconds."},
    {"reduction_vs_trellis70", "By what share the DEQ at 50 evaluations needs less for activations "
                               "and solver than the trellis of 70 layers."},
    {"reduction_vs_transformer16", "The same against the transformer of 16 layers."},
    {"reduction_vs_transformer18", "The same against the transformer of 18 layers."},
    {"variation_10_to_200",
     "The relative change of that memory from 10 to 200 evaluations, with Anderson."},
    {"variation_10_to_200_broyden", "The same with Broyden, which keeps up to 64 pairs."},
    {0},
};

/* A method and the depths at which it is measured. In a setting `%` stands for the depth, and `@`
 * for a history of the same length, 64 at most. */
struct method {
    const char *name;
    const char *settings[4]; /* NULL: none */
    int64_t depth[9];        /* ends with 0 */
};

/* A network of every row, whatever the common setting has. */
static const char *const neutral[] = {
    "model.cell=transformer",         "model.layers=0",
    "model.tie_layers=true",          "gradient.recompute=0",
    "solver.forward.method=anderson",
};
enum { NEUTRAL = sizeof neutral / sizeof *neutral };

#define TRELLIS "model.cell=trellis"
#define EVALUATIONS                      \
    {                                    \
        1, 2, 5, 10, 20, 50, 100, 200, 0 \
    }

static const struct method methods[] = {
    {"deq-transformer anderson", {"solver.forward.max_iter=%"}, EVALUATIONS},
    {"deq-transformer broyden",
     {"solver.forward.max_iter=%", "solver.forward.method=broyden", "solver.forward.history=@"},
     EVALUATIONS},
    {"deq-trellis anderson", {TRELLIS, "solver.forward.max_iter=%"}, EVALUATIONS},
    {"transformer untied",
     {"model.layers=%", "model.tie_layers=false", "model.wnorm=false"},
     {1, 2, 4, 8, 16, 18, 0}},
    {"transformer tied", {"model.layers=%"}, {1, 2, 5, 10, 16, 18, 50, 0}},
    {"transformer tied, recompute 4", {"model.layers=%", "gradient.recompute=4"}, {16, 50, 0}},
    {"trellis", {TRELLIS, "model.layers=%"}, {1, 2, 5, 10, 20, 50, 70, 0}},
    {"trellis, recompute 8", {TRELLIS, "model.layers=%", "gradient.recompute=8"}, {20, 70, 0}},
};

struct row {
    const struct method *method;
    int64_t depth;
    struct model_bytes bytes;
    size_t optimizer, activations; /* activations: all of the model that is no part below */
    size_t backend_peak, process_peak;
    double seconds; /* of a step */
};

struct table {
    struct row row[MAX_ROWS];
    int count;
};

/* --- one measurement, in a process of its own ------------------------------------------------- */

static enum status setting(const struct request *r, const struct method *m, int64_t depth,
                           struct config *c, struct error *err)
{
    *c = r->base;
    for (int i = 0; i < NEUTRAL; i++)
        TRY(config_set(c, neutral[i], err));
    for (int i = 0; i < 4 && m->settings[i] != NULL; i++) {
        char text[80];
        size_t n = strcspn(m->settings[i], "%@");
        bool capped = m->settings[i][n] == '@' && depth > MOST_PAIRS;
        snprintf(text, sizeof text, "%s", m->settings[i]);
        if (m->settings[i][n] != '\0')
            snprintf(text + n, sizeof text - n, "%lld", (long long)(capped ? MOST_PAIRS : depth));
        TRY(config_set(c, text, err));
    }
    return load_config_resolve(c, WORDS, err);
}

/* What the child sends, which is the result or why there is none. */
struct message {
    enum status status;
    struct error err;
    struct bench_step_result result;
    size_t peak;
};

static void measure(const struct config *c, int64_t threads, struct message *m)
{
    struct backend be;
    m->status = device_open(&be, "cpu", (int)threads, &m->err);
    if (m->status != STATUS_OK)
        return;
    const struct bench_options how = {.train = true, .steps = STEPS};
    m->status = bench_run(&be, c, &how, &m->result, &m->err);
    m->peak = be.peak_bytes;
    backend_close(&be);
}

static void fill_row(struct row *row, const struct message *m, size_t process_peak)
{
    const struct model_bytes *b = &m->result.bytes;
    row->bytes = *b;
    row->optimizer = m->result.optimizer_bytes;
    row->activations = b->activations;
    row->backend_peak = m->peak;
    row->process_peak = process_peak;
    row->seconds = m->result.seconds;
}

/* Measures and sends, in the child. */
static void send_result(const struct config *c, int64_t threads, int to)
{
    struct message message;
    memset(&message, 0, sizeof message);
    measure(c, threads, &message);
    bool sent = write(to, &message, sizeof message) == (ssize_t)sizeof message;
    _exit(sent ? 0 : 1);
}

/* Whether all of it came. */
static bool receive(int from, struct message *message)
{
    size_t got = 0;
    for (ssize_t n; got < sizeof *message; got += (size_t)n) {
        n = read(from, (char *)message + got, sizeof *message - got);
        if (n <= 0)
            return false;
    }
    return true;
}

static enum status measure_apart(const struct request *r, struct row *row, struct error *err)
{
    struct config config;
    struct message message;
    struct rusage usage;
    int ends[2], code;
    TRY(setting(r, row->method, row->depth, &config, err));
    if (pipe(ends) != 0)
        return error_set(err, STATUS_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        send_result(&config, r->threads, ends[1]);
    }
    int why = errno;
    close(ends[1]);
    bool whole = child > 0 && receive(ends[0], &message);
    close(ends[0]);
    if (child < 0)
        return error_set(err, STATUS_IO, "cannot start a process: %s", strerror(why));
    wait4(child, &code, 0, &usage);
    if (!whole)
        return error_set(err, STATUS_NOMEM, "%s at depth %lld: the process was ended",
                         row->method->name, (long long)row->depth);
    if (message.status != STATUS_OK) {
        *err = message.err;
        return message.status;
    }
    fill_row(row, &message, (size_t)usage.ru_maxrss * 1024);
    return STATUS_OK;
}

/* --- the result ------------------------------------------------------------------------------- */

static const struct row *find(const struct table *t, const char *name, int64_t depth)
{
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->row[i].method->name, name) == 0 && t->row[i].depth == depth)
            return &t->row[i];
    return NULL;
}

/* Memory that depends on the method. It is kept to differentiate and to solve. */
static double own(const struct row *row)
{
    return (double)(row->activations + row->bytes.solver);
}

static double reduction(const struct table *t, const char *deq, const char *explicit, int64_t depth)
{
    const struct row *a = find(t, deq, 50), *b = find(t, explicit, depth);
    return a == NULL || b == NULL ? NAN : 1 - own(a) / own(b);
}

/* Largest relative change of that memory over the evaluations from 10 on. */
static double variation(const struct table *t, const char *deq)
{
    double least = INFINITY, most = 0;
    for (int i = 0; i < t->count; i++) {
        const struct row *row = &t->row[i];
        if (strcmp(row->method->name, deq) != 0 || row->depth < 10)
            continue;
        least = fmin(least, own(row));
        most = fmax(most, own(row));
    }
    return most / least - 1;
}

static const char TRANSFORMER_DEQ[] = "deq-transformer anderson";
static const char TRELLIS_DEQ[] = "deq-trellis anderson";
static const char BROYDEN_DEQ[] = "deq-transformer broyden";

static enum status print_json(const struct table *t, struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    json_write_array(&w, "rows");
    for (int i = 0; i < t->count; i++) {
        const struct row *row = &t->row[i];
        json_write_object(&w, NULL);
        json_write_string(&w, "method", row->method->name);
        json_write_int(&w, "depth", row->depth);
        json_write_int(&w, "parameters", (int64_t)row->bytes.parameters);
        json_write_int(&w, "optimizer", (int64_t)row->optimizer);
        json_write_int(&w, "activations", (int64_t)row->activations);
        json_write_int(&w, "solver", (int64_t)row->bytes.solver);
        json_write_int(&w, "segment_memory", (int64_t)row->bytes.remembered);
        json_write_int(&w, "vocabulary", (int64_t)row->bytes.vocabulary);
        json_write_int(&w, "peak_planned", (int64_t)row->backend_peak);
        json_write_int(&w, "peak_process", (int64_t)row->process_peak);
        json_write_real(&w, "seconds_per_step", row->seconds);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_real(&w, "reduction_vs_trellis70", reduction(t, TRELLIS_DEQ, "trellis", 70));
    json_write_real(&w, "reduction_vs_transformer16",
                    reduction(t, TRANSFORMER_DEQ, "transformer untied", 16));
    json_write_real(&w, "reduction_vs_transformer18",
                    reduction(t, TRANSFORMER_DEQ, "transformer untied", 18));
    json_write_real(&w, "variation_10_to_200",
                    fmax(variation(t, TRANSFORMER_DEQ), variation(t, TRELLIS_DEQ)));
    json_write_real(&w, "variation_10_to_200_broyden", variation(t, BROYDEN_DEQ));
    return output_json_print(&w, err);
}

static double mib(size_t bytes)
{
    return (double)bytes / 1048576;
}

static void print_row(const struct row *row)
{
    printf("%-30s %5lld  %10.2f %9.2f %11.2f %7.2f %8.2f %10.2f  %7.1f  %8.1f\n", row->method->name,
           (long long)row->depth, mib(row->bytes.parameters), mib(row->optimizer),
           mib(row->activations), mib(row->bytes.solver), mib(row->bytes.remembered),
           mib(row->bytes.vocabulary), mib(row->process_peak), 1e3 * row->seconds);
}

static void print_summary(const struct table *t)
{
    printf("\nactivations and solver of the equilibrium at 50 evaluations, less than\n"
           "  the 70-layer trellis by %.1f %%, the 16- and 18-layer transformer by %.1f and %.1f "
           "%%\n"
           "variation from 10 to 200 evaluations: Anderson %.2f %%, Broyden (up to 64 pairs) %.0f "
           "%%\n",
           100 * reduction(t, TRELLIS_DEQ, "trellis", 70),
           100 * reduction(t, TRANSFORMER_DEQ, "transformer untied", 16),
           100 * reduction(t, TRANSFORMER_DEQ, "transformer untied", 18),
           100 * fmax(variation(t, TRANSFORMER_DEQ), variation(t, TRELLIS_DEQ)),
           100 * variation(t, BROYDEN_DEQ));
}

/* --- the plot --------------------------------------------------------------------------------- */

static enum status draw(const struct table *t, const char *path, struct error *err)
{
    FILE *g;
    TRY(plot_begin(&g, path, 900, 600, err));
    fprintf(g, "set logscale xy\nset key outside below\nset grid\n"
               "set xlabel 'layers, or evaluations of f'\n"
               "set ylabel 'activations and solver, MiB'\n");
    size_t count = sizeof methods / sizeof *methods;
    for (size_t k = 0; k < count; k++)
        fprintf(g, "%s'-' with linespoints title '%s'%s", k == 0 ? "plot " : "", methods[k].name,
                k + 1 < count ? ", " : "\n");
    for (size_t k = 0; k < count; k++) {
        for (int i = 0; i < t->count; i++)
            if (t->row[i].method == &methods[k])
                fprintf(g, "%lld %.6f\n", (long long)t->row[i].depth, own(&t->row[i]) / 1048576);
        fprintf(g, "e\n");
    }
    return plot_end(g, path, err);
}

/* --- the command ------------------------------------------------------------------------------ */

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    TRY(command_read(&bench_tool_memory, r, argc, argv, NULL, err));
    if (r->plot != NULL)
        TRY(plot_check(r->plot, err));
    TRY(load_config_or(r->config, bench_width_setting, &r->base, err));
    return load_config_set(&r->base, &r->set, err);
}

static enum status run_tool(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct table t = {0};
    TRY(parse(&r, argc, argv, err));
    if (!r.json)
        printf("%-30s %5s  %10s %9s %11s %7s %8s %10s  %7s  %8s\n", "MiB", "depth", "parameters",
               "optimizer", "activations", "solver", "segments", "vocabulary", "process",
               "ms/step");
    for (size_t k = 0; k < sizeof methods / sizeof *methods; k++)
        for (int i = 0; methods[k].depth[i] > 0 && t.count < MAX_ROWS; i++) {
            struct row *row = &t.row[t.count];
            *row = (struct row){.method = &methods[k], .depth = methods[k].depth[i]};
            fflush(stdout);
            TRY(measure_apart(&r, row, err));
            t.count++;
            if (!r.json)
                print_row(row);
        }
    if (r.plot != NULL)
        TRY(draw(&t, r.plot, err));
    if (r.json)
        return print_json(&t, err);
    print_summary(&t);
    return STATUS_OK;
}

const struct command bench_tool_memory = {
    .name = "memory",
    .parent = "bench",
    .summary = "memory by what it is for, against depth",
    .stray = "a configuration is named by --config",
    .description =
        "Trains a few steps of each method at the same width, batch and length, each in a process "
        "of its own. The methods are equilibria at 1 to 200 evaluations of f and explicit networks "
        "of 1 to 70 layers, with and without recomputation. Each row sets the cell, the depth and "
        "the forward method itself.\n"
        "Prints the memory of each by what it is for, and the process's own peak.",
    .options = options,
    .json = fields,
    .examples = (const char *const[]){"deq bench memory --plot memory.png", NULL},
    .run = run_tool,
};
