/* deq import: a checkpoint from weights of another program. */
#include "cmd/commands.h"
#include "cmd/load_config.h"
#include "cmd/options.h"
#include "cmd/output.h"

#include "store/weight_export.h"

#include <stdio.h>

static const char usage[] =
    "usage: deq import FILE.safetensors --out CHECKPOINT [OPTION]...\n"
    "\n"
    "Writes a checkpoint of step 0 with the tensors of a safetensors file as weights, for\n"
    "`deq eval`, `deq sample` and `deq train --resume CHECKPOINT`. Their names are those of the\n"
    "published PyTorch code (`deq export` shows them), alone or as w:NAME.\n"
    "\n"
    "      --config FILE    the model's configuration (default: what `deq export` left in the\n"
    "                       file)\n"
    "      --set KEY=VALUE  change a key of it; may be repeated\n"
    "      --data DIR       the folder whose vocab.txt the model's words are (default: data.dir)\n"
    "      --out FILE       the checkpoint to write\n"
    "      --force          replace a file that is there\n"
    "      --json           one JSON object: file, tensors, numbers, unused\n"
    "  -h, --help           this help\n"
    "\n"
    "Example:\n"
    "  deq import kjv.safetensors --out kjv.bin && deq eval kjv.bin\n";

struct request {
    const char *file, *config, *data, *out;
    struct option_list set;
    bool force, json;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const struct option_rule rules[] = {
        OPTION("config", TEXT, &r->config),
        OPTION("set", LIST, &r->set),
        OPTION("data", TEXT, &r->data),
        OPTION("out", TEXT, &r->out),
        OPTION("force", FLAG, &r->force),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    int operand;
    TRY(options_read(rules, argc, argv, &operand, err));
    if (operand + 1 != argc || r->out == NULL)
        return error_set(err, STATUS_USAGE,
                         "want one file and --out CHECKPOINT (try deq help import)");
    r->file = argv[operand];
    return paths_check_new(r->out, r->force, err);
}

/* Named, or as it came with the file; not resolved. */
static enum status base(const struct request *r, const struct st_file *file, struct config *config,
                        struct error *err)
{
    static const struct option_list none;
    char path[PATHS_MAX];
    bool found;
    if (r->config != NULL)
        return load_config(r->config, &none, path, config, err);
    TRY(weight_import_config(file, r->file, config, &found, err));
    return found ? STATUS_OK
                 : error_set(err, STATUS_USAGE,
                             "%s holds no configuration (deq export writes one): name the model's "
                             "with --config",
                             r->file);
}

/* The configuration for the vocabulary of its data. */
static enum status load(const struct request *r, const struct st_file *file, struct config *config,
                        struct vocab **vocab, struct error *err)
{
    char path[PATHS_MAX];
    TRY(base(r, file, config, err));
    TRY(load_config_set(config, &r->set, err));
    TRY(load_config_data(config, r->data, err));
    int n = snprintf(path, sizeof path, "%s/vocab.txt", config->data.dir);
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
    report_json_begin(&w);
    json_write_string(&w, "file", r->out);
    json_write_int(&w, "tensors", report->tensors);
    json_write_int(&w, "numbers", report->numbers);
    json_write_int(&w, "unused", report->unused);
    return report_json_print(&w, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct st_file *file = NULL;
    struct vocab *vocab = NULL;
    struct config config;
    struct weight_export_report report;
    enum status status = STATUS_OK;
    TRY(parse(&r, argc, argv, err));
    TRY(st_open(&file, r.file, err));
    TRY_OUT(load(&r, file, &config, &vocab, err));
    TRY_OUT(weight_import(file, r.file, &config, vocab, r.out, &report, err));
    TRY_OUT(print(&r, &report, err));
out:
    vocab_free(vocab);
    st_close(file);
    return status;
}

const struct command command_import = {
    .name = "import",
    .summary = "a checkpoint from safetensors weights of another program",
    .usage = usage,
    .run = run_command,
};
