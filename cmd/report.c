/* deq report makes a page with curves, figures, memory, samples and a shaded text of runs. */
#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "cmd/plan_memory.h"
#include "config/config_table.h"
#include "report/log_read.h"
#include "report/page.h"
#include "report/samples.h"
#include "report/shading.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* So many colours and dashes can be told apart. Curves of all runs have at most so many points
 * together, and those of one run. */
enum { RUNS_MAX = 24, POINTS_ALL = 6000, POINTS_RUN = 600 };
enum { TOKENS_MAX = 20000, SAMPLES_MAX = 20, NOTES_MAX = 8 };

struct request {
    const char *out, *text, *prompt, *device;
    int64_t text_tokens, max_iter, samples, sample_tokens, threads;
    double tol;
    bool no_text, no_samples, json;
};

static const struct option_rule options[] = {
    OPTION("out", TEXT, out, .value = "FILE", .required = true,
           .help = "The page to write, FILE.html. One that is there is replaced."),
    OPTION("text", TEXT, text, .value = "FILE",
           .help = "The text whose tokens are shaded, by the checkpoint of each run.",
           .unset = "the beginning of each run's validation data"),
    OPTION("text-tokens", INT, text_tokens, .value = "N", .min = 1, .max = TOKENS_MAX,
           .help = "Tokens of the text.", .initial = "1000"),
    OPTION("tol", REAL, tol, .value = "X", .low = 1e-12, .high = 1,
           .help = "Solves each position of the text to a relative residual of X, at which it is "
                   "settled.",
           .initial = "1e-6"),
    OPTION("max-iter", INT, max_iter, .value = "N", .min = 1, .max = 10000,
           .help = "Evaluations of f at most for it.", .initial = "500"),
    OPTION("no-text", FLAG, no_text, .help = "Leaves out the shaded text."),
    OPTION("prompt", TEXT, prompt, .value = "TEXT", .help = "The beginning of the samples.",
           .unset = "the beginning of a line"),
    OPTION("samples", INT, samples, .value = "N", .min = 1, .max = SAMPLES_MAX,
           .help = "Texts that each run's checkpoint makes.", .initial = "2"),
    OPTION("sample-tokens", INT, sample_tokens, .value = "N", .min = 1, .max = TOKENS_MAX,
           .help = "Tokens of each.", .initial = "200"),
    OPTION("no-samples", FLAG, no_samples, .help = "Leaves out the samples."),
    OPTION_DEVICE("auto"),
    OPTION_THREADS,
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"out", "The page."},
    {"bytes", "Its size."},
    {"runs[]", "For each run name, folder and missing[], which says what the page lacks and why."},
    {"seconds", "Time it took."},
    {0},
};

/* What a run's part of the page lacks. */
struct notes {
    char text[NOTES_MAX][sizeof((struct error *)0)->text + 32];
    int count;
};

struct session {
    const struct request *r;
    struct backend be;
    struct json_writer page;
    char name[RUNS_MAX][NAME_MAX + 1];
    char **folder;
    int runs;
    struct notes notes[RUNS_MAX];
};

/* Notes why a part of a run is missing, where the rest can be shown all the same. */
static enum status note(struct notes *notes, const char *part, enum status status,
                        struct error *err)
{
    if (status == STATUS_OK || status == STATUS_NOMEM || notes->count == NOTES_MAX)
        return status;
    snprintf(notes->text[notes->count++], sizeof *notes->text, "%s: %s", part, err->text);
    return STATUS_OK;
}

/* --- the parts of a run ----------------------------------------------------------------------- */

static enum status write_config(struct session *s, const struct config *config, const char *key,
                                struct error *err)
{
    char *text;
    TRY(config_to_json(config, false, &text, err));
    json_write_raw(&s->page, key, text);
    mem_free(text);
    return STATUS_OK;
}

static enum status write_memory(struct session *s, const struct config *config, struct error *err)
{
    const struct backend *be = &s->be;
    const struct chip chip = {.name = be->ops->name,
                              .peak = {1, 1, 1},
                              .bandwidth = 1,
                              .product_share = 1,
                              .bandwidth_share = 1,
                              .chunk_numbers = be->ops->chunk_numbers,
                              .ffn_rows = be->ops->ffn_rows,
                              .cuda = be->device_free > 0};
    return plan_memory_write(&s->page, config, &chip, err);
}

static enum status write_parameters(struct session *s, const struct config *config,
                                    struct error *err)
{
    struct params params;
    int64_t count = 0;
    params_init(&params, &s->be);
    enum status status = model_declare(&params, &config->model, err);
    for (int i = 0; i < params.count; i++)
        count += param_count(&params.list[i]);
    params_free(&params);
    if (status == STATUS_OK)
        json_write_int(&s->page, "parameters", count);
    return status;
}

/* What config.json says: keys, parameters, memory. */
static enum status write_settings(struct session *s, const char *dir, struct notes *notes,
                                  struct error *err)
{
    char path[PATHS_MAX];
    struct config config;
    config_defaults(&config);
    snprintf(path, sizeof path, "%s/config.json", dir);
    enum status status = config_load(&config, path, err);
    if (status != STATUS_OK)
        return note(notes, "configuration and memory map", status, err);
    TRY(write_config(s, &config, "config", err));
    if (config.model.vocab_size == 0)
        return note(notes, "memory map",
                    error_set(err, STATUS_CONFIG, "%s: no model.vocab_size", path), err);
    status = config_resolve(&config, 0, err);
    if (status == STATUS_OK)
        status = write_parameters(s, &config, err);
    if (status == STATUS_OK)
        status = write_memory(s, &config, err);
    return note(notes, "memory map", status, err);
}

static enum status write_text(struct session *s, struct snapshot *from, struct error *err)
{
    const struct request *r = s->r;
    const struct shard_source split = {from->config.data.dir, "valid", from->config.data.format};
    struct shading text = {.tol = r->tol, .max_iter = r->max_iter};
    enum status status = r->text != NULL
                             ? shading_take_file(&text, from->vocab, r->text, r->text_tokens, err)
                             : shading_take_split(&text, from->vocab, &split, r->text_tokens, err);
    if (status == STATUS_OK)
        status = shading_score(&text, &s->be, from, err);
    if (status == STATUS_OK)
        status = shading_write(&text, &s->page, "text", err);
    shading_free(&text);
    if (status == STATUS_NOINPUT && r->text == NULL) {
        const struct error found = *err;
        return error_set(err, status, "%s, or name a text by --text", found.text);
    }
    return status;
}

static enum status write_samples(struct session *s, struct snapshot *from, struct error *err)
{
    const struct samples_plan plan = {s->r->samples, s->r->sample_tokens, s->r->prompt};
    return samples_write(&plan, &s->be, from, &s->page, "samples", err);
}

/* What a checkpoint can say. */
static enum status write_model(struct session *s, const char *dir, struct notes *notes,
                               struct error *err)
{
    const struct request *r = s->r;
    struct snapshot from;
    char path[PATHS_MAX];
    if (r->no_text && r->no_samples)
        return STATUS_OK;
    enum status status = find_checkpoint(dir, path, err);
    if (status == STATUS_OK)
        status = snapshot_open(&from, path, err);
    if (status != STATUS_OK)
        return note(notes, "shaded text and samples", status, err);
    json_write_string(&s->page, "checkpoint", path);
    json_write_int(&s->page, "checkpoint_step", from.state.step);
    if (!r->no_text)
        status = note(notes, "shaded text", write_text(s, &from, err), err);
    if (!r->no_samples && status == STATUS_OK)
        status = note(notes, "samples", write_samples(s, &from, err), err);
    snapshot_close(&from);
    return status;
}

static void write_notes(struct json_writer *w, const struct notes *notes)
{
    json_write_array(w, "missing");
    for (int i = 0; i < notes->count; i++)
        json_write_string(w, NULL, notes->text[i]);
    json_write_end(w);
}

static enum status write_run(struct session *s, int i, struct error *err)
{
    const char *dir = s->folder[i];
    struct json_writer *w = &s->page;
    struct log_history log;
    char path[PATHS_MAX];
    int points = POINTS_ALL / s->runs < POINTS_RUN ? POINTS_ALL / s->runs : POINTS_RUN;
    json_write_object(w, NULL);
    json_write_string(w, "name", s->name[i]);
    json_write_string(w, "folder", dir);
    snprintf(path, sizeof path, "%s/log.jsonl", dir);
    enum status status = log_history_read(&log, path, points - points % 2, err);
    if (status == STATUS_OK)
        log_history_write(&log, w, "log");
    log_history_free(&log);
    TRY(status);
    TRY(write_settings(s, dir, &s->notes[i], err));
    TRY(write_model(s, dir, &s->notes[i], err));
    write_notes(w, &s->notes[i]);
    json_write_end(w);
    return STATUS_OK;
}

/* --- the page --------------------------------------------------------------------------------- */

/* What each key means, and the defaults. */
static enum status write_keys(struct session *s, struct error *err)
{
    struct config config;
    config_defaults(&config);
    TRY(write_config(s, &config, "defaults", err));
    json_write_object(&s->page, "meaning");
    for (size_t i = 0; i < config_key_count; i++)
        json_write_string(&s->page, config_keys[i].path, config_keys[i].meaning);
    json_write_end(&s->page);
    return STATUS_OK;
}

static enum status write_page(struct session *s, struct error *err)
{
    struct json_writer *w = &s->page;
    char now[32];
    time_t t = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%d %H:%M UTC", gmtime_r(&t, &utc));
    json_write_begin(w, false);
    json_write_object(w, NULL);
    json_write_string(w, "version", deq_version());
    json_write_string(w, "made", now);
    json_write_string(w, "prompt", s->r->prompt);
    json_write_int(w, "sample_seed", SAMPLES_SEED);
    log_write_short(w, "sample_top_p", SAMPLES_TOP_P);
    TRY(write_keys(s, err));
    json_write_array(w, "runs");
    for (int i = 0; i < s->runs; i++)
        TRY(write_run(s, i, err));
    json_write_end(w);
    json_write_end(w);
    return STATUS_OK;
}

/* A run is called by its folder's name, or as it was given if another one has the same. */
static void name_runs(struct session *s)
{
    char full[PATH_MAX];
    for (int i = 0; i < s->runs; i++) {
        const char *path = realpath(s->folder[i], full) != NULL ? full : s->folder[i];
        const char *slash = strrchr(path, '/');
        snprintf(s->name[i], sizeof s->name[i], "%s",
                 slash != NULL && slash[1] != '\0' ? slash + 1 : path);
    }
    for (int i = 0; i < s->runs; i++)
        for (int j = i + 1; j < s->runs; j++)
            if (strcmp(s->name[i], s->name[j]) == 0) {
                snprintf(s->name[i], sizeof s->name[i], "%s", s->folder[i]);
                snprintf(s->name[j], sizeof s->name[j], "%s", s->folder[j]);
            }
}

static enum status check_request(const struct request *r, const struct operands *runs,
                                 struct error *err)
{
    size_t len = strlen(r->out);
    if (len < 5 || strcmp(r->out + len - 5, ".html") != 0)
        return error_set(err, STATUS_USAGE, "--out %s: want a name that ends with .html", r->out);
    if (r->no_text && r->text != NULL)
        return error_set(err, STATUS_USAGE, "--text and --no-text: leave one of them out");
    if (r->no_samples && r->prompt != NULL)
        return error_set(err, STATUS_USAGE, "--prompt and --no-samples: leave one of them out");
    if (runs->count > RUNS_MAX)
        return error_set(err, STATUS_USAGE, "%d runs: a page shows at most %d", runs->count,
                         RUNS_MAX);
    if (r->text != NULL && access(r->text, R_OK) != 0)
        return error_set(err, STATUS_NOINPUT, "--text %s: cannot be read", r->text);
    for (int i = 0; i < runs->count; i++) {
        char path[PATHS_MAX];
        snprintf(path, sizeof path, "%s/log.jsonl", runs->text[i]);
        if (access(path, R_OK) != 0)
            return error_set(err, STATUS_NOINPUT,
                             "%s: no such file: want the folder of a run, as deq train --out "
                             "names it",
                             path);
    }
    return STATUS_OK;
}

static enum status print_result(const struct session *s, size_t bytes, double seconds,
                                struct error *err)
{
    struct json_writer w;
    for (int i = 0; i < s->runs; i++)
        for (int k = 0; k < s->notes[i].count; k++)
            fprintf(stderr, "deq report: %s: no %s\n", s->name[i], s->notes[i].text[k]);
    if (!s->r->json) {
        printf("%s: %d %s, %.2f MB\n", s->r->out, s->runs, s->runs == 1 ? "run" : "runs",
               (double)bytes / 1e6);
        return STATUS_OK;
    }
    output_json_begin(&w);
    json_write_string(&w, "out", s->r->out);
    json_write_int(&w, "bytes", (int64_t)bytes);
    json_write_array(&w, "runs");
    for (int i = 0; i < s->runs; i++) {
        json_write_object(&w, NULL);
        json_write_string(&w, "name", s->name[i]);
        json_write_string(&w, "folder", s->folder[i]);
        write_notes(&w, &s->notes[i]);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_real(&w, "seconds", seconds);
    return output_json_print(&w, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    enum status status = STATUS_OK;
    struct request r = {0};
    struct operands runs;
    struct session *s = NULL;
    double start = clock_seconds();
    char *json = NULL;
    size_t bytes;
    TRY(command_read(&command_report, &r, argc, argv, &runs, err));
    TRY(check_request(&r, &runs, err));
    TRY(page_check_library(err));
    TRY(mem_alloc((void **)&s, 1, sizeof *s, err));
    s->r = &r;
    s->folder = runs.text;
    s->runs = runs.count;
    name_runs(s);
    TRY_OUT(device_open(&s->be, r.device, (int)r.threads, err));
    TRY_OUT(write_page(s, err));
    TRY_OUT(json_write_finish(&s->page, &json, err));
    TRY_OUT(page_write(r.out, json, &bytes, err));
    TRY_OUT(print_result(s, bytes, clock_seconds() - start, err));
out:
    mem_free(json);
    mem_free(s->page.text);
    if (s->be.ops != NULL)
        backend_close(&s->be);
    mem_free(s);
    return status;
}

const struct command command_report = {
    .name = "report",
    .summary = "show runs in one page for a browser",
    .operands = "RUN...",
    .description =
        "Makes one HTML file that needs no network. It shows loss, perplexity, rate, gradient "
        "norm, evaluations, residuals and speed of one or several runs over steps, tokens or time, "
        "in what their configurations differ, final figures, the memory map of deq plan --memory, "
        "samples, and a text. Each token of the text is shaded by its surprise, or by the "
        "evaluations of f that its position took to settle, solved as deq score does.\n"
        "RUN is the folder of a run, also of one that is under way. A part that cannot be made, as "
        "without a checkpoint, is left out, and the page says why.\n"
        "Long curves are cut down to some hundred points each, which keep mean, least and greatest "
        "value of the steps they stand for.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq report runs/kjv --out kjv.html",
            "deq report runs/a runs/b --out both.html --text chapter.txt",
            NULL,
        },
    .run = run_command,
};
