/* deq verify: our code against dumps of another implementation. */
#include "verify/verify.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/options.h"
#include "cmd/output.h"

#include <stdio.h>

static const char usage[] =
    "usage: deq verify FILE.safetensors... [--tol X] [--device NAME] [--json]\n"
    "\n"
    "Runs the computation a reference dump describes and compares every tensor in it: the\n"
    "largest absolute difference, and that relative to the tensor's largest value. Exit 1 if\n"
    "one is beyond its tolerance, unknown, or of a kind that cannot be run.\n"
    "\n"
    "      --tol X         one relative tolerance for all (default: a table, see the README)\n"
    "      --device NAME   auto, cpu, cuda, or ref: float64, much tighter tolerances\n"
    "                      (default: cpu)\n"
    "      --threads N     processor threads (default: all)\n"
    "  -q, --quiet         print failures and one line a file\n"
    "      --json          one JSON object as the last line\n"
    "  -h, --help          this help\n"
    "\n"
    "Example:\n"
    "  deq verify --device ref dumps/*.safetensors\n";

struct request {
    const char *device;
    double tol;
    int64_t threads;
    bool quiet, json;
    int first; /* of the files in argv */
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const struct option_rule rules[] = {
        OPTION("tol", REAL, &r->tol, .low = 1e-300, .high = 1e300),
        OPTION("device", TEXT, &r->device),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("quiet", FLAG, &r->quiet, .letter = 'q'),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    TRY(options_read(rules, argc, argv, &r->first, err));
    if (r->first == argc)
        return error_set(err, STATUS_USAGE, "want a file (try deq help verify)");
    return STATUS_OK;
}

static void print_report(const struct request *r, const char *path,
                         const struct verify_report *report)
{
    int64_t compared = 0, skipped = 0, failed = 0;
    for (int64_t i = 0; i < report->count; i++) {
        const struct verify_row *row = &report->rows[i];
        compared += row->compared;
        skipped += !row->compared && row->pass;
        failed += !row->pass;
        if (r->quiet && row->pass)
            continue;
        if (row->compared)
            printf("  %-48s  abs %8.2e  rel %8.2e  tol %7.1e  %s\n", row->name, row->max_abs,
                   row->max_rel, row->tol, row->pass ? "ok" : "FAIL");
        else
            printf("  %-48s  %s%s\n", row->name,
                   row->pass ? "not computed: " : "FAIL: ", row->note);
    }
    printf("%s: %s (%s, %lld compared, %lld not computed, %lld failed)\n", path,
           report->pass ? "pass" : "FAIL", report->kind, (long long)compared, (long long)skipped,
           (long long)failed);
}

static void write_rows(struct json_writer *w, const char *path, const struct verify_report *report)
{
    for (int64_t i = 0; i < report->count; i++) {
        const struct verify_row *row = &report->rows[i];
        if (!row->compared && row->pass)
            continue;
        json_write_object(w, NULL);
        json_write_string(w, "file", path);
        json_write_string(w, "name", row->name);
        json_write_real(w, "max_abs", row->max_abs);
        json_write_real(w, "max_rel", row->max_rel);
        json_write_real(w, "tol", row->tol);
        json_write_bool(w, "pass", row->pass);
        if (!row->compared)
            json_write_string(w, "note", row->note);
        json_write_end(w);
    }
}

static void write_skipped(struct json_writer *w, const char *path,
                          const struct verify_report *report)
{
    for (int64_t i = 0; i < report->count; i++) {
        const struct verify_row *row = &report->rows[i];
        if (row->compared || !row->pass)
            continue;
        json_write_object(w, NULL);
        json_write_string(w, "file", path);
        json_write_string(w, "name", row->name);
        json_write_string(w, "why", row->note);
        json_write_end(w);
    }
}

static enum status print_json(char **paths, const struct verify_report *reports, int count,
                              bool pass, struct error *err)
{
    struct json_writer w;
    report_json_begin(&w);
    json_write_bool(&w, "pass", pass);
    json_write_array(&w, "files");
    for (int i = 0; i < count; i++) {
        json_write_object(&w, NULL);
        json_write_string(&w, "file", paths[i]);
        json_write_string(&w, "kind", reports[i].kind);
        json_write_bool(&w, "pass", reports[i].pass);
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_array(&w, "tensors");
    for (int i = 0; i < count; i++)
        write_rows(&w, paths[i], &reports[i]);
    json_write_end(&w);
    json_write_array(&w, "not_computed");
    for (int i = 0; i < count; i++)
        write_skipped(&w, paths[i], &reports[i]);
    json_write_end(&w);
    return report_json_print(&w, err);
}

static enum status verify_all(const struct request *r, struct backend *be, char **paths,
                              struct verify_report *reports, int count, struct error *err)
{
    bool pass = true;
    int failed = 0;
    for (int i = 0; i < count; i++) {
        struct st_file *file;
        TRY(st_open(&file, paths[i], err));
        enum status status = verify_file(&reports[i], be, file, paths[i], r->tol, err);
        st_close(file);
        TRY(status);
        if (!r->json)
            print_report(r, paths[i], &reports[i]);
        pass = pass && reports[i].pass;
        failed += !reports[i].pass;
    }
    if (r->json)
        TRY(print_json(paths, reports, count, pass, err));
    if (!pass)
        return error_set(err, STATUS_CHECK, "%d of %d files differ", failed, count);
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.device = "cpu"};
    struct backend be;
    struct verify_report *reports = NULL;
    TRY(parse(&r, argc, argv, err));
    int count = argc - r.first;
    TRY(mem_alloc((void **)&reports, (size_t)count, sizeof *reports, err));
    enum status status = device_open(&be, r.device, (int)r.threads, err);
    if (status == STATUS_OK) {
        status = verify_all(&r, &be, argv + r.first, reports, count, err);
        backend_close(&be);
    }
    for (int i = 0; i < count; i++)
        verify_report_free(&reports[i]);
    mem_free(reports);
    return status;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "compare this program with dumps of another implementation",
    .usage = usage,
    .run = run_command,
};
