/* deq verify compares our code with dumps of another implementation. */
#include "verify/verify.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/output.h"

#include <stdio.h>

struct request {
    const char *device;
    double tol;
    int64_t threads;
    bool quiet, json;
};

static const struct option_rule options[] = {
    OPTION("tol", REAL, tol, .value = "X", .low = 1e-300, .high = 1e300,
           .help = "One relative tolerance for all tensors.",
           .unset = "a table by kind of tensor, which tests/README.md explains"),
    OPTION_DEVICE("cpu"),
    OPTION_THREADS,
    OPTION("quiet", FLAG, quiet, .letter = 'q', .help = "Prints failures and one line a file."),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"pass", "Whether every file passed."},
    {"files[]", "For each file its name, its kind and whether it passed."},
    {"tensors[]", "For each tensor that was compared file, name, max_abs, max_rel, tol and pass. A "
                  "note says why one could not be compared."},
    {"not_computed[]", "For each tensor that was left out file, name and why."},
    {0},
};

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
    output_json_begin(&w);
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
    return output_json_print(&w, err);
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
    struct request r = {0};
    struct operands files;
    struct backend be;
    struct verify_report *reports = NULL;
    TRY(command_read(&command_verify, &r, argc, argv, &files, err));
    int count = files.count;
    TRY(mem_alloc((void **)&reports, (size_t)count, sizeof *reports, err));
    enum status status = device_open(&be, r.device, (int)r.threads, err);
    if (status == STATUS_OK) {
        status = verify_all(&r, &be, files.text, reports, count, err);
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
    .operands = "FILE...",
    .description =
        "Runs the computation that a reference dump in safetensors describes, and compares every "
        "tensor in it. Prints the largest absolute difference, and the same relative to the "
        "tensor's largest value.\n"
        "Exits with 1 if a tensor is beyond its tolerance, is unknown, or belongs to a computation "
        "that cannot be run. On the device ref the tolerances are much tighter.",
    .options = options,
    .json = fields,
    .examples = (const char *const[]){"deq verify --device ref dumps/*.safetensors", NULL},
    .run = run_command,
};
