/* deq info tells what a file holds and whether it is whole. */
#include "cmd/info/info.h"

#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct request {
    struct info_request info;
    const char *config;
    struct option_list set;
};

static const struct option_rule options[] = {
    OPTION("tensors", FLAG, info.tensors,
           .help = "Prints every section of a checkpoint, or every tensor of a safetensors file, "
                   "with type, dimensions and bytes instead."),
    OPTION("state", FLAG, info.state,
           .help = "Prints the state of the training in a checkpoint instead, as JSON."),
    OPTION("config", TEXT, config, .value = "[FILE]", .empty = true, .bare = true,
           .help = "Prints the configuration in a checkpoint instead. With a FILE that is no "
                   "checkpoint, prints that configuration resolved. A bare NAME also stands for "
                   "NAME.json, here, in ./configs or among the installed presets."),
    OPTION_SET(" Only for a configuration."),
    OPTION("check", FLAG, info.check,
           .help =
               "Verifies every checksum, and that weights are finite. Exits with 1 if something is "
               "wrong."),
    OPTION("vocab", FLAG, info.vocab,
           .help = "Prints the vocabulary in a checkpoint instead, one word a line, as deq "
                   "tokenize --vocab takes it."),
    OPTION("json", FLAG, info.json,
           .help = "Prints one JSON object as the last line. Its fields are listed below."),
    {0},
};

static const struct json_field fields[] = {
    {"file", "The file that was read."},
    {"kind", "checkpoint, shard, data, safetensors or config."},
    {"check", "Only with --check. Whether everything is whole."},
    {"error", "Only for a damaged file. What is damaged."},
    {"weights_digest", "Only for a checkpoint. A digest of the parameter values."},
    {"step", "Only for a checkpoint. The training step, or null."},
    {"parameters", "Only for a checkpoint or a configuration. Numbers in all parameters, or null."},
    {"parameters_by_part", "Only for a checkpoint or a configuration. The same by part."},
    {"parameters_reported", "Only for a configuration. Parameters as the published code counts "
                            "them, where shared ones count twice."},
    {"state", "Only for a checkpoint. The state of the training, or null."},
    {"config", "Only for a checkpoint or a configuration. The configuration, or null."},
    {"bytes", "Only for a checkpoint. Bytes of the file."},
    {"unpacked", "Only for a checkpoint. Bytes of all sections."},
    {"sections[]", "Only for a checkpoint. For each section name, type, dims, bytes and stored."},
    {"tensors[]", "Only for safetensors. For each tensor name, type, dims and bytes."},
    {"numbers", "Only for safetensors. Numbers in all tensors."},
    {"tokens", "Only for a shard. Its tokens."},
    {"first", "Only for a shard. The number of its first token in the split."},
    {"split_tokens", "Only for a shard. Tokens of the split."},
    {"shard", "Only for a shard. Its number, from 0."},
    {"shards", "Only for a shard. Shards of the split."},
    {"bytes_per_id", "Only for a shard. Bytes of an id."},
    {"vocab", "Only for a shard. Words of the vocabulary."},
    {"vocab_hash", "Only for a shard. The hash of the vocabulary."},
    {"byte_level", "Only for a shard. Whether ids are bytes of text."},
    {"split_text_bytes", "Only for a shard. Bytes of text in the split."},
    {"split_words", "Only for a shard. Words of text in the split."},
    {"record_positions", "Only for a shard of a task. Positions of a sequence."},
    {"record_recall", "Only for a shard of a task. Positions that are recalled."},
    {"checksum", "Only for a shard. The checksum of its ids."},
    {"splits[]", "Only for a folder of shards. For each split name, tokens, shards, text_bytes and "
                 "words."},
    {0},
};

void info_json_begin(struct json_writer *w, const struct info_request *request, const char *kind)
{
    output_json_begin(w);
    json_write_string(w, "file", request->path);
    json_write_string(w, "kind", kind);
}

void info_dims(const int64_t *dim, int ndim, char out[INFO_DIMS_MAX])
{
    size_t used = 1;
    strcpy(out, "[");
    for (int d = 0; d < ndim; d++)
        used += (size_t)snprintf(out + used, INFO_DIMS_MAX - used, "%s%lld", d > 0 ? "," : "",
                                 (long long)dim[d]);
    snprintf(out + used, INFO_DIMS_MAX - used, "]");
}

/* The kinds of files are told apart by their first bytes. */
typedef enum status info_fn(const struct info_request *request, struct error *err);

static info_fn *kind_of(const char *start, size_t got)
{
    static const struct {
        const char *magic;
        info_fn *print;
    } kinds[] = {{"\211DEQ", info_checkpoint}, {"DEQSHARD", info_shard}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (got >= strlen(kinds[i].magic) &&
            memcmp(start, kinds[i].magic, strlen(kinds[i].magic)) == 0)
            return kinds[i].print;
    /* safetensors begin with a length below 2^40 and the header's JSON object */
    bool tensors = got > 8 && start[5] == 0 && start[6] == 0 && start[7] == 0 && start[8] == '{';
    return tensors ? info_safetensors : NULL;
}

/* Reads the first bytes of a file. STATUS_NOINPUT, or STATUS_DATA if it has none. */
static enum status read_start(const char *path, char *start, size_t size, size_t *got,
                              struct error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* a pipe would block */
        return error_set(err, STATUS_NOINPUT, "%s: not a file", path);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    *got = fread(start, 1, size, file);
    bool failed = ferror(file) != 0;
    int why = errno;
    fclose(file);
    if (failed)
        return error_set(err, STATUS_NOINPUT, "%s: cannot read: %s", path, strerror(why));
    if (*got == 0)
        return error_set(err, STATUS_DATA, "%s: the file is empty", path);
    return STATUS_OK;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Whether --config FILE means the configuration that is in a checkpoint. */
static bool is_checkpoint(const char *path)
{
    char start[16] = "";
    size_t got = 0;
    struct error err;
    return !is_folder(path) && read_start(path, start, sizeof start, &got, &err) == STATUS_OK &&
           kind_of(start, got) == info_checkpoint;
}

static enum status info_file(const struct info_request *request, struct error *err)
{
    char start[16] = "";
    size_t got = 0;
    TRY(read_start(request->path, start, sizeof start, &got, err));
    info_fn *print = kind_of(start, got);
    if (request->vocab && print != NULL && print != info_checkpoint)
        return error_set(err, STATUS_DATA,
                         "%s: --vocab: not a checkpoint; shards have a vocab.txt beside them",
                         request->path);
    if ((request->state || request->config) && print != NULL && print != info_checkpoint)
        return error_set(err, STATUS_DATA, "%s: --%s: not a checkpoint", request->path,
                         request->state ? "state" : "config");
    if (print != NULL)
        return print(request, err);
    return error_set(err, STATUS_DATA,
                     "%s: neither a checkpoint nor a shard nor a safetensors file%s", request->path,
                     start[0] == '{' ? "; for a configuration: deq info --config FILE" : "");
}

/* A file that is not whole is what --check asks about, not a failure to ask. */
static enum status answer_damaged(const struct info_request *request, struct error *err)
{
    err->status = STATUS_CHECK;
    if (!request->json)
        return STATUS_CHECK;
    struct json_writer w;
    struct error lost;
    output_json_begin(&w);
    json_write_string(&w, "file", request->path);
    json_write_bool(&w, "check", false);
    json_write_string(&w, "error", err->text);
    enum status status = output_json_print(&w, &lost);
    if (status != STATUS_OK)
        *err = lost;
    return status != STATUS_OK ? status : STATUS_CHECK;
}

static enum status check_request(const struct request *r, const struct operands *files,
                                 struct error *err)
{
    bool config = r->config != NULL && r->config[0] != '\0';
    if (config && files->count > 0)
        return error_set(err, STATUS_USAGE, "want a FILE or --config FILE, not both");
    if (!config && r->set.count > 0)
        return error_set(err, STATUS_USAGE, "--set: belongs to --config FILE");
    if (!config && files->count != 1)
        return error_set(err, STATUS_USAGE, "want one FILE, or --config FILE (try deq help info)");
    if (r->info.vocab && (r->config != NULL || r->info.json))
        return error_set(err, STATUS_USAGE,
                         "--vocab: a list of words, of a checkpoint; not with %s",
                         r->config != NULL ? "--config" : "--json");
    return STATUS_OK;
}

/* A folder is that of a run or of shards. */
static enum status info_folder(struct info_request *request, struct error *err)
{
    char found[PATHS_MAX];
    bool shown = false;
    TRY(info_data(request, &shown, err));
    if (shown)
        return STATUS_OK;
    TRY(find_checkpoint(request->path, found, err));
    request->path = found;
    return info_file(request, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct operands files;
    TRY(command_read(&command_info, &r, argc, argv, &files, err));
    TRY(check_request(&r, &files, err));
    r.info.path = files.count > 0 ? files.text[0] : r.config;
    r.info.config = r.config != NULL && (files.count > 0 || is_checkpoint(r.config));
    if (r.config != NULL && !r.info.config)
        return info_config(&r.info, &r.set, err);
    if (r.info.config && r.set.count > 0)
        return error_set(err, STATUS_USAGE,
                         "--set: not of a configuration that is in a checkpoint");
    enum status status =
        is_folder(r.info.path) ? info_folder(&r.info, err) : info_file(&r.info, err);
    return r.info.check && status == STATUS_DATA ? answer_damaged(&r.info, err) : status;
}

const struct command command_info = {
    .name = "info",
    .summary = "show what a file or configuration holds and whether it is whole",
    .operands = "[FILE]",
    .stray = "want one FILE",
    .forms =
        (const char *const[]){
            "FILE|RUN|DATA [--check] [--json]",
            "CHECKPOINT --tensors|--state|--config|--vocab",
            "--config FILE [--set KEY=VALUE]... [--json]",
            NULL,
        },
    .description =
        "Prints what a file holds. FILE is a checkpoint, a shard of tokens or a safetensors file. "
        "Of the folder RUN it is best.bin, or last.bin where there was no validation text. Of the "
        "folder DATA it is the first shard of every split.\n"
        "With --config, prints the resolved configuration instead, which has every key, with "
        "derived values filled in.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq info runs/kjv",
            "deq info runs/kjv/best.bin --check",
            "deq info --config kjv --set model.d_inner=2048",
            NULL,
        },
    .run = run_command,
};
