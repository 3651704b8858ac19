/* Writes safetensors files. */
#include "store/safetensors.h"

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_ALIGN = 8 };

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuses names that are empty, "__metadata__" or there twice, and sorts them. */
static enum status check_names(const char *path, const char **names, int64_t count,
                               struct error *err)
{
    qsort(names, (size_t)count, sizeof *names, by_text);
    for (int64_t i = 0; i < count; i++) {
        if (names[i][0] == '\0' || strcmp(names[i], "__metadata__") == 0)
            return error_set(err, STATUS_DATA, "%s: \"%s\" is no name for a tensor", path,
                             names[i]);
        if (i > 0 && strcmp(names[i - 1], names[i]) == 0)
            return error_set(err, STATUS_DATA, "%s: the name \"%s\" is given twice", path,
                             names[i]);
    }
    return STATUS_OK;
}

static enum status check_all_names(const char *path, const struct st_tensor *list, int64_t count,
                                   const struct st_meta *meta, int64_t meta_count,
                                   struct error *err)
{
    void *p = NULL;
    TRY(mem_alloc(&p, (size_t)(count > meta_count ? count : meta_count), sizeof(char *), err));
    const char **names = p;
    enum status status;
    for (int64_t i = 0; i < count; i++)
        names[i] = list[i].name;
    TRY_OUT(check_names(path, names, count, err));
    for (int64_t i = 0; i < meta_count; i++)
        names[i] = meta[i].key;
    TRY_OUT(check_names(path, names, meta_count, err));
out:
    mem_free(names);
    return status;
}

static int64_t tensor_bytes(const struct st_tensor *t)
{
    int64_t bytes = (int64_t)st_type_size(t->type);
    assert(t->ndim >= 0 && t->ndim <= ST_MAX_DIMS);
    for (int i = 0; i < t->ndim; i++) {
        assert(t->dim[i] >= 0);
        bytes *= t->dim[i];
    }
    return bytes;
}

static void describe(struct json_writer *w, const struct st_tensor *t, int64_t begin)
{
    json_write_object(w, t->name);
    json_write_string(w, "dtype", st_type_name(t->type));
    json_write_array(w, "shape");
    for (int i = 0; i < t->ndim; i++)
        json_write_int(w, NULL, t->dim[i]);
    json_write_end(w);
    json_write_array(w, "data_offsets");
    json_write_int(w, NULL, begin);
    json_write_int(w, NULL, begin + tensor_bytes(t));
    json_write_end(w);
    json_write_end(w);
}

/* Sizes of elements in the order in which their tensors are written. As the header has a multiple
 * of 8 bytes, this aligns all of them. */
static const size_t sizes[] = {8, 4, 2, 1};
enum { SIZES = sizeof sizes / sizeof *sizes };

static enum status make_header(const struct st_tensor *list, int64_t count,
                               const struct st_meta *meta, int64_t meta_count, char **out,
                               struct error *err)
{
    struct json_writer w;
    int64_t at = 0;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    if (meta_count > 0) {
        json_write_object(&w, "__metadata__");
        for (int64_t i = 0; i < meta_count; i++)
            json_write_string(&w, meta[i].key, meta[i].value);
        json_write_end(&w);
    }
    for (int s = 0; s < SIZES; s++)
        for (int64_t i = 0; i < count; i++)
            if (st_type_size(list[i].type) == sizes[s]) {
                describe(&w, &list[i], at);
                at += tensor_bytes(&list[i]);
            }
    json_write_end(&w);
    return json_write_finish(&w, out, err);
}

enum status st_write(const char *path, const struct st_tensor *list, int64_t count,
                     const struct st_meta *meta, int64_t meta_count, struct error *err)
{
    struct atomic_file *file = NULL;
    char *header = NULL;
    enum status status;
    TRY(check_all_names(path, list, count, meta, meta_count, err));
    TRY_OUT(make_header(list, count, meta, meta_count, &header, err));
    size_t length = strlen(header), pad = (HEADER_ALIGN - length % HEADER_ALIGN) % HEADER_ALIGN;
    const uint64_t padded = length + pad;
    TRY_OUT(atomic_file_create(&file, path, err));
    TRY_OUT(atomic_file_write(file, &padded, sizeof padded, err));
    TRY_OUT(atomic_file_write(file, header, length, err));
    TRY_OUT(atomic_file_write(file, "        ", pad, err));
    for (int s = 0; s < SIZES; s++)
        for (int64_t i = 0; i < count; i++)
            if (st_type_size(list[i].type) == sizes[s])
                TRY_OUT(atomic_file_write(file, list[i].data, (size_t)tensor_bytes(&list[i]), err));
    TRY_OUT(atomic_file_commit(&file, err));
out:
    atomic_file_abort(&file);
    mem_free(header);
    return status;
}
