/* deq export: a checkpoint's weights for programs in Python. */
#include "cmd/commands.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "cmd/paths.h"

#include "store/weight_export.h"

#include <stdio.h>

static const char usage[] =
    "usage: deq export CHECKPOINT --out FILE.safetensors [OPTION]...\n"
    "\n"
    "Writes the weights of a checkpoint as safetensors: float32, under the names and in the\n"
    "layouts of the published PyTorch code, with the configuration in the metadata. `deq import`\n"
    "reads it back; `deq info CHECKPOINT --vocab` prints the words.\n"
    "\n"
    "      --out FILE      the file to write\n"
    "      --force         replace a file that is there\n"
    "      --json          one JSON object: file, tensors, numbers\n"
    "  -h, --help          this help\n"
    "\n"
    "Example:\n"
    "  deq export runs/kjv/best.bin --out kjv.safetensors\n"
    "  python3 -c 'import safetensors.torch as s; "
    "print(s.load_file(\"kjv.safetensors\").keys())'\n";

struct request {
    const char *checkpoint, *out;
    bool force, json;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const struct option_rule rules[] = {
        OPTION("out", TEXT, &r->out),
        OPTION("force", FLAG, &r->force),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    int operand;
    TRY(options_read(rules, argc, argv, &operand, err));
    if (operand + 1 != argc || r->out == NULL)
        return error_set(err, STATUS_USAGE,
                         "want one checkpoint and --out FILE.safetensors (try deq help export)");
    r->checkpoint = argv[operand];
    return paths_check_new(r->out, r->force, err);
}

static enum status print(const struct request *r, const struct weight_export_report *report,
                         struct error *err)
{
    struct json_writer w;
    if (!r->json) {
        printf("%s: %lld tensors, %lld numbers\n", r->out, (long long)report->tensors,
               (long long)report->numbers);
        return STATUS_OK;
    }
    report_json_begin(&w);
    json_write_string(&w, "file", r->out);
    json_write_int(&w, "tensors", report->tensors);
    json_write_int(&w, "numbers", report->numbers);
    return report_json_print(&w, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct snapshot from;
    struct weight_export_report report;
    TRY(parse(&r, argc, argv, err));
    TRY(snapshot_open(&from, r.checkpoint, err));
    enum status status = weight_export(&from, r.out, &report, err);
    snapshot_close(&from);
    return status == STATUS_OK ? print(&r, &report, err) : status;
}

const struct command command_export = {
    .name = "export",
    .summary = "a checkpoint's weights as safetensors, for programs in Python",
    .usage = usage,
    .run = run_command,
};
