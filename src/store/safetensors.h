/* safetensors files, which are an 8-byte little-endian header length, a JSON header and the bytes
 * of the tensors.
 *
 * The reader trusts nothing. The header is read by the strict JSON reader (no duplicate names,
 * integers only), shapes must agree with byte ranges, and the ranges must cover the data exactly,
 * without overlap or hole. Messages name the file and, for the header, line and column.
 */
#ifndef DEQ_STORE_SAFETENSORS_H
#define DEQ_STORE_SAFETENSORS_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum st_type { ST_F64, ST_F32, ST_F16, ST_BF16, ST_I64, ST_I32, ST_U8, ST_BOOL };

enum { ST_MAX_DIMS = 8 };

struct st_tensor {
    const char *name; /* borrows */
    enum st_type type;
    int ndim; /* 0 for a single number */
    int64_t dim[ST_MAX_DIMS];
    int64_t count;    /* the product of the dims, ignored by st_write */
    size_t bytes;     /* ignored by st_write */
    const void *data; /* borrows, row-major, aligned to 64 bytes by st_open */
};

struct st_meta {
    const char *key, *value; /* borrows */
};

struct st_file;

size_t st_type_size(enum st_type type);
/* The type's name in a header ("F64"). */
const char *st_type_name(enum st_type type);

/* Reads a whole file into memory. The caller frees *out with st_close. *out is NULL on error.
 * Returns STATUS_NOINPUT if the file cannot be opened, STATUS_DATA for its content, STATUS_IO or
 * STATUS_NOMEM. */
enum status st_open(struct st_file **out, const char *path, struct error *err);
void st_close(struct st_file *f); /* NULL is allowed */

/* The path given to st_open. */
const char *st_path(const struct st_file *f);
/* Tensors in the order of the header. They lie in one array and are valid until st_close. */
int64_t st_count(const struct st_file *f);
const struct st_tensor *st_tensor(const struct st_file *f, int64_t index);
/* The tensor of that name, or NULL. */
const struct st_tensor *st_find(const struct st_file *f, const char *name);
/* The string under that key of "__metadata__", or NULL. */
const char *st_meta(const struct st_file *f, const char *key);
/* Element `index` of a tensor as a double. */
double st_value(const struct st_tensor *t, int64_t index);

/* Writes list[count] and meta[meta_count], whole or not at all. Tensors of larger elements come
 * first, so that all are aligned, and otherwise in the order given. Returns STATUS_DATA if a name
 * occurs twice, is empty or "__metadata__", STATUS_CANTCREATE, STATUS_IO or STATUS_NOMEM. */
enum status st_write(const char *path, const struct st_tensor *list, int64_t count,
                     const struct st_meta *meta, int64_t meta_count, struct error *err);

#endif
