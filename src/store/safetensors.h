/* safetensors files: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
 *
 * The reader takes nothing on trust: the header is read by the strict JSON reader (no duplicate
 * names, integers only), shapes must agree with byte ranges, and the ranges must cover the data
 * exactly, without overlap or hole. Messages name the file and, for the header, line and column.
 *
 * Errors: STATUS_NOINPUT when a file cannot be opened; STATUS_DATA for its content; STATUS_IO,
 * STATUS_CANTCREATE, STATUS_NOMEM.
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
    int ndim; /* 0: a single number */
    int64_t dim[ST_MAX_DIMS];
    int64_t count; /* elements: the product of the dims; ignored by st_write */
    size_t bytes;  /* ignored by st_write */
    /* borrows; row-major. From the reader: aligned to 64 bytes wherever it lay in the file. */
    const void *data;
};

struct st_meta {
    const char *key, *value; /* borrows */
};

struct st_file;

size_t st_type_size(enum st_type type);
/* "F64", ... as in the header */
const char *st_type_name(enum st_type type);

/* Reads a whole file into memory. The caller frees *out with st_close; NULL on error. */
enum status st_open(struct st_file **out, const char *path, struct error *err);
void st_close(struct st_file *f); /* NULL is allowed */

/* Tensors in the order of the header, an array; valid until st_close. */
int64_t st_count(const struct st_file *f);
const struct st_tensor *st_tensor(const struct st_file *f, int64_t index);
/* The tensor of that name, or NULL. */
const struct st_tensor *st_find(const struct st_file *f, const char *name);
/* The string under that key of "__metadata__", or NULL. */
const char *st_meta(const struct st_file *f, const char *key);
/* Element `index` of a tensor as a double. */
double st_value(const struct st_tensor *t, int64_t index);

/* Writes tensors (those of larger elements first, so that all are aligned; otherwise in the order
 * given) and metadata, whole or not at all. A name that occurs twice, is empty or "__metadata__" is
 * STATUS_DATA. */
enum status st_write(const char *path, const struct st_tensor *list, int64_t count,
                     const struct st_meta *meta, int64_t meta_count, struct error *err);

#endif
