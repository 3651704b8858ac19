/* deq import makes a checkpoint from weights of another program. */
#include "cmd/commands.h"
#include "cmd/load_config.h"
#include "cmd/output.h"
#include "store/huggingface.h"

#include <stdio.h>

struct request {
    const char *file, *config, *data, *out;
    struct option_list set;
    bool force, json;
    bool folder; /* `file` is one */
};

static const struct option_rule options[] = {
    OPTION_CONFIG(.unset = "what deq export left in the file or folder"),
    OPTION_SET(""),
    OPTION("data", TEXT, data, .value = "DIR",
           .help = "The folder whose vocab.txt holds the model's words.",
           .unset = "a folder that is imported, or data.dir"),
    OPTION("out", TEXT, out, .value = "FILE", .help = "The checkpoint to write.", .required = true),
    OPTION("force", FLAG, force, .help = "Replaces a file that is there already."),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"file", "The checkpoint that was written."},
    {"tensors", "Tensors that were read."},
    {"numbers", "Numbers in them."},
    {"unused", "Tensors of the file that are no weights of this model."},
    {0},
};

/* Reads the configuration that is named, or else the one that came with the weights. It is not
 * resolved. */
static enum status base(const struct request *r, const struct st_file *file, struct config *config,
                        struct error *err)
{
    static const struct option_list none;
    char path[PATHS_MAX];
    bool found;
    if (r->config != NULL)
        return load_config(r->config, &none, path, config, err);
    if (r->folder)
        return huggingface_config(r->file, config, err);
    TRY(weight_import_config(file, config, &found, err));
    return found ? STATUS_OK
                 : error_set(err, STATUS_USAGE,
                             "%s holds no configuration (deq export writes one); name the model's "
                             "with --config",
                             r->file);
}

/* Loads the vocabulary and resolves the configuration for it. */
static enum status load(const struct request *r, const struct st_file *file, struct config *config,
                        struct vocab **vocab, struct error *err)
{
    char path[PATHS_MAX];
    TRY(base(r, file, config, err));
    TRY(load_config_set(config, &r->set, err));
    TRY(load_config_data(config, r->data, err));
    const char *dir = r->folder && r->data == NULL ? r->file : config->data.dir;
    int n = snprintf(path, sizeof path, "%s/vocab.txt", dir);
    if (n < 0 || n >= (int)sizeof path)
        return error_set(err, STATUS_USAGE, "--data: path too long");
    if (vocab_load(vocab, path, err) != STATUS_OK) {
        error_prefix(err, "the model's vocabulary (--data names its folder)");
        return err->status;
    }
    if (config->model.vocab_size > 0 && config->model.vocab_size != vocab_size(*vocab))
        return error_set(err, STATUS_DATA,
                         "%s: %lld words, the model has %lld: name the folder of its shards with "
                         "--data",
                         path, (long long)vocab_size(*vocab), (long long)config->model.vocab_size);
    return config_resolve(config, vocab_size(*vocab), err);
}

static enum status print(const struct request *r, const struct weight_export_report *report,
                         struct error *err)
{
    struct json_writer w;
    if (report->unused > 0)
        fprintf(stderr, "deq import: %s: %lld tensors are no weights of this model, the first %s\n",
                r->file, (long long)report->unused, report->first_unused);
    if (!r->json) {
        printf("%s: %lld tensors, %lld numbers\n", r->out, (long long)report->tensors,
               (long long)report->numbers);
        return STATUS_OK;
    }
    output_json_begin(&w);
    json_write_string(&w, "file", r->out);
    json_write_int(&w, "tensors", report->tensors);
    json_write_int(&w, "numbers", report->numbers);
    json_write_int(&w, "unused", report->unused);
    return output_json_print(&w, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct operands operands;
    char weights[HUGGINGFACE_PATH_MAX];
    struct st_file *file = NULL;
    struct vocab *vocab = NULL;
    struct config config;
    struct weight_export_report report;
    enum status status = STATUS_OK;
    TRY(command_read(&command_import, &r, argc, argv, &operands, err));
    r.file = operands.text[0];
    TRY(output_check_ending(r.out, ".bin", err));
    TRY(output_check_new(r.out, r.force, err));
    r.folder = huggingface_is_folder(r.file);
    if (r.folder)
        TRY(huggingface_weights(r.file, weights, err));
    TRY(st_open(&file, r.folder ? weights : r.file, err));
    TRY_OUT(load(&r, file, &config, &vocab, err));
    TRY_OUT(weight_import(file, &config, vocab, r.out, &report, err));
    TRY_OUT(print(&r, &report, err));
out:
    vocab_free(vocab);
    st_close(file);
    return status;
}

const struct command command_import = {
    .name = "import",
    .summary = "make a checkpoint from safetensors weights of another program",
    .operands = "FILE|DIR",
    .description =
        "Writes a checkpoint of step 0 whose weights are the tensors of a safetensors file. "
        "`deq eval`, `deq sample` and `deq train --resume CHECKPOINT` read it.\n"
        "The tensors have the names and shapes of the published PyTorch code, as `deq export` "
        "writes them. What torch.compile, DDP, FSDP and Lightning put before or between the parts "
        "of a name is left out. Tensors that are no weights of the model do not matter.\n"
        "A folder of `deq export --format hf`, also one that transformers has saved again, brings "
        "its weights, configuration and vocabulary along.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){"deq import kjv.safetensors --out kjv.bin && deq eval kjv.bin",
                              "deq import kjv-hf --out kjv.bin", NULL},
    .run = run_command,
};
