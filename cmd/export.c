/* deq export writes a checkpoint's weights for programs in Python. */
#include "cmd/commands.h"
#include "cmd/find_checkpoint.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "store/huggingface.h"

#include <stdio.h>
#include <string.h>

struct request {
    const char *out, *format;
    bool force, json;
};

static const struct option_rule options[] = {
    OPTION("out", TEXT, out, .value = "PATH",
           .help = "The file to write, or with --format hf the folder.", .required = true),
    OPTION("format", CHOICE, format, .value = "safetensors|hf", .choices = "safetensors or hf",
           .help = "safetensors is one file with the weights under the names of the published "
                   "code. hf is a folder that transformers, the Python library, loads with "
                   "trust_remote_code: configuration, weights, tokenizer, model card, and the "
                   "model's own code in PyTorch.",
           .initial = "safetensors"),
    OPTION("force", FLAG, force,
           .help = "Replaces a file that is there already, or the files of an export in a folder."),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"file", "The file or folder that was written."},
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
    bool folder = strcmp(r.format, "hf") == 0;
    if (!folder) {
        TRY(output_check_ending(r.out, ".safetensors", err));
        TRY(output_check_new(r.out, r.force, err));
    }
    TRY(find_checkpoint(checkpoint.text[0], path, err));
    TRY(snapshot_open(&from, path, err));
    enum status status = folder ? huggingface_export(&from, r.out, r.force, &report, err)
                                : weight_export(&from, r.out, WEIGHT_NAMES_PUBLISHED, &report, err);
    snapshot_close(&from);
    return status == STATUS_OK ? print(&r, &report, err) : status;
}

static const struct command_file files[] = {
    {"DIR/config.json", "The configuration for transformers, with ours in it."},
    {"DIR/model.safetensors", "The weights in float32."},
    {"DIR/modeling_deq.py", "The model in PyTorch, and with configuration_deq.py its settings."},
    {"DIR/README.md", "The model card, with the figures of the training."},
    {0},
};

const struct command command_export = {
    .name = "export",
    .summary = "write a checkpoint for programs in Python: its weights, or all for transformers",
    .operands = "CHECKPOINT",
    .description =
        "Writes the weights of a checkpoint as safetensors in float32, under the names and in the "
        "layouts of the published PyTorch code. The configuration goes into the metadata. "
        "With --format hf it writes a folder that AutoModelForCausalLM and AutoTokenizer of "
        "transformers load, evaluate, sample and train on. scripts/huggingface/README.md says "
        "what the code in it does. `deq import` reads the file or the folder back, and "
        "`deq info CHECKPOINT --vocab` prints the words.",
    .options = options,
    .files = files,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq export runs/kjv/best.bin --out kjv.safetensors",
            "deq export runs/kjv --format hf --out kjv-hf",
            "python3 -c 'import safetensors.torch as s; s.load_file(\"kjv.safetensors\")'",
            NULL,
        },
    .run = run_command,
};
