/* deq info --config prints the resolved configuration and the size of its model. */
#include "cmd/info/info.h"
#include "cmd/output.h"

#include "base/mem.h"
#include "cmd/load_config.h"
#include "deq/model.h"

#include <stdio.h>

static const char *const parts[] = {"embedding", "softmax", "prelude", "injection",
                                    "f",         "coda",    "start"};
enum { PARTS = sizeof parts / sizeof *parts };

static enum status print_json(const struct info_request *request, const char *text,
                              const struct params *params, struct error *err)
{
    struct json_writer w;
    info_json_begin(&w, request, "config");
    if (params->count > 0) {
        json_write_int(&w, "parameters", params_distinct(params, NULL));
        json_write_int(&w, "parameters_reported", params_reported(params));
        json_write_object(&w, "parameters_by_part");
        for (int p = 0; p < PARTS; p++)
            if (params_distinct(params, parts[p]) > 0)
                json_write_int(&w, parts[p], params_distinct(params, parts[p]));
        json_write_end(&w);
    } else {
        json_write_raw(&w, "parameters", "null");
    }
    json_write_raw(&w, "config", text);
    return output_json_print(&w, err);
}

/* The counts go to stderr, so that what is on stdout can be used as a configuration. */
static void print_text(const char *text, const struct config *config, const struct params *params)
{
    fputs(text, stdout);
    if (params->count == 0) {
        fprintf(stderr,
                "parameters: not known before %s is tokenized; --set model.vocab_size=N names "
                "the size of its vocabulary\n",
                config->data.dir);
        return;
    }
    fprintf(stderr, "parameters: %lld (", (long long)params_distinct(params, NULL));
    for (int p = 0; p < PARTS; p++)
        if (params_distinct(params, parts[p]) > 0)
            fprintf(stderr, "%s%s %lld", p > 0 ? ", " : "", parts[p],
                    (long long)params_distinct(params, parts[p]));
    fprintf(stderr, ") for a vocabulary of %lld\n", (long long)config->model.vocab_size);
    if (params_reported(params) != params_distinct(params, NULL))
        fprintf(stderr,
                "            %lld with those counted twice that share their storage, as the "
                "published code reports\n",
                (long long)params_reported(params));
}

enum status info_config(const struct info_request *request, const struct option_list *set,
                        struct error *err)
{
    char path[PATHS_MAX];
    char *text = NULL;
    struct config config;
    struct params params;
    enum status status = STATUS_OK;
    params_init(&params, NULL);
    TRY_OUT(load_config_resolved(request->path, set, path, &config, err));
    if (config.model.vocab_size > 0)
        TRY_OUT(model_declare(&params, &config.model, err));
    TRY_OUT(config_to_json(&config, !request->json, &text, err));
    struct info_request found = *request;
    found.path = path;
    if (request->json)
        status = print_json(&found, text, &params, err);
    else
        print_text(text, &config, &params);
out:
    mem_free(text);
    params_free(&params);
    return status;
}
