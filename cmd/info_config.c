#include "info.h"

#include "base/mem.h"
#include "model/config.h"
#include "paths.h"

#include <stdio.h>

enum status info_config(const struct info_request *request, char *const *set, int set_count,
                        struct error *err)
{
    char path[PATHS_MAX];
    char *text = NULL;
    struct config config;
    config_defaults(&config);
    TRY(paths_find_config(request->path, path, err));
    TRY(config_load(&config, path, err));
    for (int i = 0; i < set_count; i++)
        TRY(config_set(&config, set[i], err));
    enum status status = config_resolve(&config, 0, err);
    if (status != STATUS_OK) {
        error_prefix(err, "%s", path);
        return status;
    }
    TRY(config_to_json(&config, !request->json, &text, err));
    if (request->json) {
        struct info_request found = *request;
        found.path = path;
        struct json_writer w;
        info_json_begin(&w, &found, "config");
        json_write_raw(&w, "config", text);
        status = info_json_print(&w, err);
    } else {
        fputs(text, stdout);
    }
    mem_free(text);
    return status;
}
