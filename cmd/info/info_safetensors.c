/* deq info on a safetensors file. The format has no checksums, so opening it checks all there is.
 */
#include "cmd/estimate.h"
#include "cmd/info/info.h"
#include "cmd/output.h"

#include "store/safetensors.h"

#include <stdio.h>

static enum status print_json(const struct info_request *request, const struct st_file *f,
                              struct error *err)
{
    struct json_writer w;
    info_json_begin(&w, request, "safetensors");
    int64_t numbers = 0;
    json_write_array(&w, "tensors");
    for (int64_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_tensor(f, i);
        json_write_object(&w, NULL);
        json_write_string(&w, "name", t->name);
        json_write_string(&w, "type", st_type_name(t));
        json_write_array(&w, "dims");
        for (int d = 0; d < t->ndim; d++)
            json_write_int(&w, NULL, t->dim[d]);
        json_write_end(&w);
        json_write_int(&w, "bytes", (int64_t)t->bytes);
        json_write_end(&w);
        numbers += t->count;
    }
    json_write_end(&w);
    json_write_int(&w, "numbers", numbers);
    if (request->check)
        json_write_bool(&w, "check", true);
    return output_json_print(&w, err);
}

static void print_tensors(const struct st_file *f)
{
    for (int64_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_tensor(f, i);
        char dims[INFO_DIMS_MAX];
        info_dims(t->dim, t->ndim, dims);
        printf("  %-4s %-20s %12zu bytes  %s\n", st_type_name(t), dims, t->bytes, t->name);
    }
}

static void print_text(const struct info_request *request, const struct st_file *f)
{
    char all[ESTIMATE_COUNT_MAX], size[ESTIMATE_COUNT_MAX];
    int64_t numbers = 0, bytes = 0;
    for (int64_t i = 0; i < st_count(f); i++) {
        numbers += st_tensor(f, i)->count;
        bytes += (int64_t)st_tensor(f, i)->bytes;
    }
    estimate_count(numbers, all);
    estimate_bytes((double)bytes, size);
    printf("%s: safetensors, %lld tensors, %s numbers, %s%s\n", request->path,
           (long long)st_count(f), all, size, request->tensors ? "" : " (--tensors lists them)");
    if (request->tensors)
        print_tensors(f);
    if (request->check)
        printf("check: sizes, shapes and places agree; the format has no checksums\n");
}

enum status info_safetensors(const struct info_request *request, struct error *err)
{
    struct st_file *f = NULL;
    TRY(st_open(&f, request->path, err));
    enum status status = STATUS_OK;
    if (request->json)
        status = print_json(request, f, err);
    else
        print_text(request, f);
    st_close(f);
    return status;
}
