/* deq export writes a checkpoint's weights for programs in Python. */
#include "cmd/commands.h"
#include "cmd/find_checkpoint.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "store/weight_export.h"

#include <stdio.h>

struct request {
    const char *out;
    bool force, json;
};

static const struct option_rule options[] = {
    OPTION("out", TEXT, out, .value = "FILE", .help = "The file to write.", .required = true),
    OPTION("force", FLAG, force, .help = "Replaces a file that is there already."),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"file", "The file that was written."},
    {"tensors", "Tensors in it."},
    {"numbers", "Numbers in all tensors."},
    {0},
};

static enum status print(const struct request *r, const struct weight_export_report *report,
                         struct error *err)
{
    struct json_writer w;
    if (!r->json) {
        printf("%s: %lld tensors, %lld numbers\n", r->out, (long long)report->tensors,
               (long long)report->numbers);
        return STATUS_OK;
    }
    output_json_begin(&w);
    json_write_string(&w, "file", r->out);
    json_write_int(&w, "tensors", report->tensors);
    json_write_int(&w, "numbers", report->numbers);
    return output_json_print(&w, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct operands checkpoint;
    char path[PATHS_MAX];
    struct snapshot from;
    struct weight_export_report report;
    TRY(command_read(&command_export, &r, argc, argv, &checkpoint, err));
    TRY(output_check_new(r.out, r.force, err));
    TRY(find_checkpoint(checkpoint.text[0], path, err));
    TRY(snapshot_open(&from, path, err));
    enum status status = weight_export(&from, r.out, &report, err);
    snapshot_close(&from);
    return status == STATUS_OK ? print(&r, &report, err) : status;
}

const struct command command_export = {
    .name = "export",
    .summary = "write a checkpoint's weights as safetensors, for programs in Python",
    .operands = "CHECKPOINT",
    .description =
        "Writes the weights of a checkpoint as safetensors in float32, under the names and in the "
        "layouts of the published PyTorch code. The configuration goes into the metadata. "
        "`deq import` reads the file back, and `deq info CHECKPOINT --vocab` prints the words.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq export runs/kjv/best.bin --out kjv.safetensors",
            "python3 -c 'import safetensors.torch as s; s.load_file(\"kjv.safetensors\")'",
            NULL,
        },
    .run = run_command,
};
