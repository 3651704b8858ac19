/* deq bench growth measures a training step against everything that makes it larger. */
#include "bench/bench.h"
#include "cmd/bench/plot.h"
#include "cmd/bench/tools.h"
#include "cmd/device.h"
#include "cmd/load_config.h"
#include "cmd/output.h"

#include <math.h>
#include <stdio.h>

struct request {
    struct option_list set;
    const char *plot;
    int64_t steps, threads;
    bool json;
};

static const struct option_rule options[] = {
    OPTION_SET(""),
    OPTION("steps", INT, steps, .value = "N", .min = 1, .max = OPTION_STEPS_MAX,
           .help = "Steps that are timed at each point.", .initial = "5"),
    OPTION("plot", TEXT, plot, .value = "FILE",
           .help = "Also draws it to FILE.png or FILE.svg. This needs gnuplot."),
    OPTION_THREADS,
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"bench", "growth."},
    {"axes[]", "For each axis its name and points[], which have value, seconds, memory in bytes, "
               "flops and bytes of a step. From the second point on, they also have the exponents "
               "growth_time, growth_flops, growth_bytes and growth_memory."},
    {0},
};

enum { POINTS = 5 };

/* What doubles. It starts at `first`, and each key is set to its value times `times` over `over`.
 */
struct axis {
    const char *name;
    int64_t first;
    struct {
        const char *key; /* NULL: none */
        int64_t times, over;
    } keys[3];
};

static const struct axis axes[] = {
    {"length", 16, {{"train.tgt_len", 1, 1}, {"train.mem_len", 1, 1}}},
    {"width", 32, {{"model.d_model", 1, 1}, {"model.n_head", 1, 32}, {"model.d_inner", 4, 1}}},
    {"vocabulary", 2000, {{"model.vocab_size", 1, 1}}},
    {"evaluations", 4, {{"solver.forward.max_iter", 1, 1}, {"solver.backward.max_iter", 1, 1}}},
    {"batch", 2, {{"train.batch", 1, 1}}},
};
enum { AXES = sizeof axes / sizeof *axes };

struct point {
    int64_t value;
    double seconds, memory;
    double flops, bytes; /* of a step */
};

/* --- measuring -------------------------------------------------------------------------------- */

static enum status setting(const struct request *r, const struct axis *axis, int64_t value,
                           struct config *c, struct error *err)
{
    enum { WORDS = 2000 };
    TRY(bench_width_setting(c, err));
    TRY(config_set(c, "solver.backward.stop=fixed", err));
    TRY(load_config_set(c, &r->set, err));
    for (int i = 0; i < 3 && axis->keys[i].key != NULL; i++) {
        char text[80];
        snprintf(text, sizeof text, "%s=%lld", axis->keys[i].key,
                 (long long)(value * axis->keys[i].times / axis->keys[i].over));
        TRY(config_set(c, text, err));
    }
    return load_config_resolve(c, WORDS, err);
}

static enum status measure(const struct request *r, const struct axis *axis, int64_t value,
                           struct point *p, struct error *err)
{
    struct config config;
    struct backend be;
    struct bench_step_result result;
    TRY(setting(r, axis, value, &config, err));
    TRY(device_open(&be, "cpu", (int)r->threads, err));
    const struct bench_options how = {.train = true, .steps = r->steps};
    enum status status = bench_run(&be, &config, &how, &result, err);
    *p = (struct point){.value = value, .seconds = result.seconds, .memory = (double)be.peak_bytes};
    backend_close(&be);
    for (int i = 0; i < OP_COUNT && status == STATUS_OK; i++) {
        p->flops += result.stat[i].flops / (double)r->steps;
        p->bytes += result.stat[i].bytes / (double)r->steps;
    }
    return status;
}

/* The exponent by which y grows between two neighbours. */
static double exponent(const struct point *a, const struct point *b, double y_a, double y_b)
{
    return log(y_b / y_a) / log((double)b->value / (double)a->value);
}

struct growth {
    double time, memory, flops, bytes;
};

/* The exponents at a point. They are NaN at the first one, which has none before it. */
static struct growth growth_at(const struct point *points, int i)
{
    if (i == 0)
        return (struct growth){NAN, NAN, NAN, NAN};
    const struct point *a = &points[i - 1], *b = &points[i];
    return (struct growth){exponent(a, b, a->seconds, b->seconds),
                           exponent(a, b, a->memory, b->memory), exponent(a, b, a->flops, b->flops),
                           exponent(a, b, a->bytes, b->bytes)};
}

/* --- the result ------------------------------------------------------------------------------- */

static void print_head(void)
{
    printf("%-12s %7s %9s %9s %8s   growth of: %6s %6s %6s %6s\n", "", "", "ms/step", "GFLOP/s",
           "MiB", "time", "flops", "bytes", "memory");
}

static void print_point(const struct axis *axis, const struct point *points, int i)
{
    const struct point *p = &points[i];
    struct growth g = growth_at(points, i);
    printf("%-12s %7lld %9.2f %9.1f %8.1f", i == 0 ? axis->name : "", (long long)p->value,
           1e3 * p->seconds, p->flops / p->seconds / 1e9, p->memory / 1048576);
    if (i > 0)
        printf("              %6.2f %6.2f %6.2f %6.2f", g.time, g.flops, g.bytes, g.memory);
    putchar('\n');
    fflush(stdout);
}

static void write_point(struct json_writer *w, const struct point *points, int i)
{
    struct growth g = growth_at(points, i);
    json_write_object(w, NULL);
    json_write_int(w, "value", points[i].value);
    json_write_real(w, "seconds", points[i].seconds);
    json_write_real(w, "memory", points[i].memory);
    json_write_real(w, "flops", points[i].flops);
    json_write_real(w, "bytes", points[i].bytes);
    if (i > 0) {
        json_write_real(w, "growth_time", g.time);
        json_write_real(w, "growth_flops", g.flops);
        json_write_real(w, "growth_bytes", g.bytes);
        json_write_real(w, "growth_memory", g.memory);
    }
    json_write_end(w);
}

static enum status print_json(struct point points[AXES][POINTS], struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    json_write_string(&w, "bench", "growth");
    json_write_array(&w, "axes");
    for (int a = 0; a < AXES; a++) {
        json_write_object(&w, NULL);
        json_write_string(&w, "name", axes[a].name);
        json_write_array(&w, "points");
        for (int i = 0; i < POINTS; i++)
            write_point(&w, points[a], i);
        json_write_end(&w);
        json_write_end(&w);
    }
    json_write_end(&w);
    return output_json_print(&w, err);
}

static void draw_panel(FILE *g, struct point points[AXES][POINTS], const char *what, bool memory)
{
    fprintf(g, "set ylabel '%s'\n", what);
    for (int a = 0; a < AXES; a++)
        fprintf(g, "%s'-' with linespoints title '%s'", a == 0 ? "plot " : ", ", axes[a].name);
    fputs("\n", g);
    for (int a = 0; a < AXES; a++) {
        for (int i = 0; i < POINTS; i++) {
            const struct point *p = &points[a][i];
            fprintf(g, "%lld %.6f\n", (long long)(p->value / axes[a].first),
                    memory ? p->memory / 1048576 : 1e3 * p->seconds);
        }
        fputs("e\n", g);
    }
}

static enum status draw(struct point points[AXES][POINTS], const char *path, struct error *err)
{
    FILE *g;
    TRY(plot_begin(&g, path, 1200, 560, err));
    fputs("set multiplot layout 1,2\nset logscale xy 2\nset grid\nset key top left\n"
          "set xlabel 'times the smallest'\n",
          g);
    draw_panel(g, points, "ms a training step", false);
    draw_panel(g, points, "MiB", true);
    fputs("unset multiplot\n", g);
    return plot_end(g, path, err);
}

/* --- the command ------------------------------------------------------------------------------ */

static enum status run_tool(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct point points[AXES][POINTS];
    TRY(command_read(&bench_tool_growth, &r, argc, argv, NULL, err));
    if (r.plot != NULL)
        TRY(plot_check(r.plot, err));
    if (!r.json)
        print_head();
    for (int a = 0; a < AXES; a++)
        for (int i = 0; i < POINTS; i++) {
            TRY(measure(&r, &axes[a], axes[a].first << i, &points[a][i], err));
            if (!r.json)
                print_point(&axes[a], points[a], i);
        }
    if (r.plot != NULL)
        TRY(draw(points, r.plot, err));
    return r.json ? print_json(points, err) : STATUS_OK;
}

const struct command bench_tool_growth = {
    .name = "growth",
    .parent = "bench",
    .summary = "a training step against all that makes it larger",
    .description =
        "Times training steps while length, width, vocabulary, evaluations and batch double, one "
        "after the other. The setting is that of deq bench memory.\n"
        "Prints the exponents by which time and memory grow between neighbours, beside those of "
        "the arithmetic, which are the floating-point operations of the products and the bytes of "
        "all operations.",
    .options = options,
    .json = fields,
    .examples = (const char *const[]){"deq bench growth --plot growth.png", NULL},
    .run = run_tool,
};
