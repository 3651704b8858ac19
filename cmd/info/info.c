/* `deq info`: what a file holds, and whether it is whole. */
#include "cmd/info/info.h"

#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/commands.h"
#include "cmd/options.h"
#include "cmd/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char usage[] =
    "usage: deq info FILE [--check] [--json]\n"
    "       deq info CHECKPOINT --vocab\n"
    "       deq info --config FILE [--set KEY=VALUE]... [--json]\n"
    "\n"
    "Prints what a file holds. FILE is a checkpoint, a shard of tokens or a safetensors file.\n"
    "\n"
    "      --config FILE     the resolved configuration: every key, derived values filled in.\n"
    "                        A bare name is also looked for in ./configs and in the presets\n"
    "      --set KEY=VALUE   change a key of the configuration; may be repeated\n"
    "      --check           verify every checksum; exit 1 if something is damaged\n"
    "      --vocab           the vocabulary in a checkpoint instead, one word a line: what deq\n"
    "                        tokenize --vocab takes\n"
    "      --json            one JSON object, for scripts; with --check it has \"check\", true or\n"
    "                        false\n"
    "  -h, --help            this help\n";

void info_json_begin(struct json_writer *w, const struct info_request *request, const char *kind)
{
    report_json_begin(w);
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
    /* safetensors: a length below 2^40, then the header's JSON object */
    bool tensors = got > 8 && start[5] == 0 && start[6] == 0 && start[7] == 0 && start[8] == '{';
    return tensors ? info_safetensors : NULL;
}

/* The first bytes of a file. STATUS_NOINPUT; STATUS_DATA if it has none. */
static enum status read_start(const char *path, char *start, size_t size, size_t *got,
                              struct error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return error_set(err, STATUS_NOINPUT, "%s: a folder; give one of its files", path);
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
    report_json_begin(&w);
    json_write_string(&w, "file", request->path);
    json_write_bool(&w, "check", false);
    json_write_string(&w, "error", err->text);
    enum status status = report_json_print(&w, &lost);
    if (status != STATUS_OK)
        *err = lost;
    return status != STATUS_OK ? status : STATUS_CHECK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct info_request request = {0};
    const char *config = NULL;
    struct option_list set = {0};
    int operand;
    const struct option_rule rules[] = {
        OPTION("config", TEXT, &config),
        OPTION("set", LIST, &set),
        OPTION("check", FLAG, &request.check),
        OPTION("vocab", FLAG, &request.vocab), /* of a checkpoint */
        OPTION("json", FLAG, &request.json),
        {0},
    };
    TRY(options_read(rules, argc, argv, &operand, err));
    int files = argc - operand;
    if (config != NULL && files > 0)
        return error_set(err, STATUS_USAGE, "want a FILE or --config FILE, not both");
    if (config == NULL && set.count > 0)
        return error_set(err, STATUS_USAGE, "--set: belongs to --config FILE");
    if (config == NULL && files != 1)
        return error_set(err, STATUS_USAGE, "want one FILE, or --config FILE; got %d", files);
    if (request.vocab && (config != NULL || request.json))
        return error_set(err, STATUS_USAGE,
                         "--vocab: a list of words, of a checkpoint; not with %s",
                         config != NULL ? "--config" : "--json");
    request.path = config != NULL ? config : argv[operand];
    if (config != NULL)
        return info_config(&request, &set, err);
    enum status status = info_file(&request, err);
    return request.check && status == STATUS_DATA ? answer_damaged(&request, err) : status;
}

const struct command command_info = {
    .name = "info",
    .summary = "what a checkpoint, a shard or a configuration holds; is it whole?",
    .usage = usage,
    .run = run_command,
};
