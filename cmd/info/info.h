/* The parts of deq info, one function a kind of file. */
#ifndef DEQ_CMD_INFO_INFO_H
#define DEQ_CMD_INFO_INFO_H

#include "base/json.h"
#include "base/status.h"
#include "cmd/options.h"
#include <stdbool.h>
#include <stdint.h>

struct info_request {
    const char *path;
    bool check;   /* verify everything the file has checksums for */
    bool json;    /* one JSON object instead of text */
    bool vocab;   /* of a checkpoint, its words instead */
    bool tensors; /* of a checkpoint or safetensors, its sections or tensors instead */
    bool state;   /* of a checkpoint, the state of its training instead */
    bool config;  /* of a checkpoint, its configuration instead */
};

/* Begins the JSON object with "file" and "kind". */
void info_json_begin(struct json_writer *w, const struct info_request *request, const char *kind);

enum { INFO_DIMS_MAX = 192 };
/* Writes dimensions as "[3,4]", or "[]" for a single number. */
void info_dims(const int64_t *dim, int ndim, char out[INFO_DIMS_MAX]);

/* Each prints one file of its kind. STATUS_DATA if the file is faulty, and then nothing goes to
 * stdout. */
enum status info_checkpoint(const struct info_request *request, struct error *err);
enum status info_shard(const struct info_request *request, struct error *err);
enum status info_safetensors(const struct info_request *request, struct error *err);
/* Prints the splits of a folder of shards. *shown is false if it is none. Fails as info_shard. */
enum status info_data(const struct info_request *request, bool *shown, struct error *err);
/* Prints the resolved configuration. `set` holds the assignments of --set. STATUS_NOINPUT,
 * STATUS_CONFIG. */
enum status info_config(const struct info_request *request, const struct option_list *set,
                        struct error *err);

#endif
