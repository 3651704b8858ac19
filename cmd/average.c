/* deq average writes the mean of the weights of several checkpoints. */
#include "cmd/commands.h"
#include "cmd/find_checkpoint.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "store/weight_average.h"

#include <stdio.h>

enum { CHECKPOINTS_MAX = 64 };

struct request {
    const char *out;
    bool force, json;
};

static const struct option_rule options[] = {
    OPTION("out", TEXT, out, .value = "FILE", .help = "The checkpoint to write.", .required = true),
    OPTION("force", FLAG, force, .help = "Replaces a file that is there already."),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"file", "The file that was written."},
    {"parameters", "Parameters of the model."},
    {"checkpoints[]", "For each checkpoint file and step."},
    {0},
};

struct found {
    char path[CHECKPOINTS_MAX][PATHS_MAX];
    const char *list[CHECKPOINTS_MAX];
    int64_t step[CHECKPOINTS_MAX];
    int64_t parameters;
    int count;
};

static enum status print(const struct request *r, const struct found *f, struct error *err)
{
    struct json_writer w;
    if (!r->json) {
        printf("%s: the mean of %d checkpoints, of step", r->out, f->count);
        for (int i = 0; i < f->count; i++)
            printf("%s %lld", i > 0 ? "," : "", (long long)f->step[i]);
        printf("\nIt is at step 0 of a training, and deq eval %s measures it.\n", r->out);
        return STATUS_OK;
    }
    output_json_begin(&w);
    json_write_string(&w, "file", r->out);
    json_write_int(&w, "parameters", f->parameters);
    json_write_array(&w, "checkpoints");
    for (int i = 0; i < f->count; i++) {
        json_write_object(&w, NULL);
        json_write_string(&w, "file", f->list[i]);
        json_write_int(&w, "step", f->step[i]);
        json_write_end(&w);
    }
    json_write_end(&w);
    return output_json_print(&w, err);
}

static enum status find_all(struct found *f, const struct operands *operands, struct error *err)
{
    if (operands->count < 2 || operands->count > CHECKPOINTS_MAX)
        return error_set(err, STATUS_USAGE, "want 2 to %d checkpoints, got %d", CHECKPOINTS_MAX,
                         operands->count);
    for (; f->count < operands->count; f->count++) {
        TRY(find_checkpoint(operands->text[f->count], f->path[f->count], err));
        f->list[f->count] = f->path[f->count];
    }
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct operands operands;
    struct found f = {.count = 0};
    TRY(command_read(&command_average, &r, argc, argv, &operands, err));
    TRY(output_check_ending(r.out, ".bin", err));
    TRY(output_check_new(r.out, r.force, err));
    TRY(find_all(&f, &operands, err));
    TRY(weight_average(f.list, f.count, r.out, f.step, &f.parameters, err));
    return print(&r, &f, err);
}

const struct command command_average = {
    .name = "average",
    .summary = "make a checkpoint with the mean of the weights of others",
    .operands = "CHECKPOINT...",
    .description =
        "Writes a checkpoint whose weights are the mean of those of several checkpoints of the "
        "same model and vocabulary. The last ones of a training often make a better model "
        "together than each by itself. It is at step 0 and has no optimizer. `deq eval`, `deq "
        "sample`, `deq export` and `deq train --init-from` read it.\n"
        "train.ema in a configuration averages while it trains.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq average runs/kjv/step-00002400.bin runs/kjv/last.bin --out mean.bin", NULL},
    .run = run_command,
};
