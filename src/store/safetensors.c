/* Reads and checks safetensors files. */
#include "store/safetensors.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/read_file.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are copied as they lie in files");

enum { HEADER_MAX = 100000000, ALIGN = 64, TYPE_NAME_MAX = 20 };

#define METADATA "__metadata__"

/* Where a tensor lies among the data bytes of the file. */
struct range {
    int64_t begin, end;
    int64_t index;             /* of the tensor */
    const struct cJSON *place; /* borrows, for messages */
};

struct st_file {
    char *path; /* owns */
    int fd;
    int64_t bytes;             /* of the file */
    int64_t data_at;           /* first data byte */
    struct json *doc;          /* owns, the header with all names */
    const struct cJSON *meta;  /* borrows, NULL if there is none */
    struct st_tensor *list;    /* owns [count] */
    struct range *range;       /* owns [count], sorted by place */
    struct st_tensor **sorted; /* owns [count], by name */
    int64_t count;
    uint8_t *data; /* owns, all tensors, each aligned */
};

static const struct {
    char name[8];
    size_t size;
} types[] = {
    [ST_F64] = {"F64", 8},   [ST_F32] = {"F32", 4}, [ST_F16] = {"F16", 2}, [ST_BF16] = {"BF16", 2},
    [ST_I64] = {"I64", 8},   [ST_I32] = {"I32", 4}, [ST_I16] = {"I16", 2}, [ST_I8] = {"I8", 1},
    [ST_U64] = {"U64", 8},   [ST_U32] = {"U32", 4}, [ST_U16] = {"U16", 2}, [ST_U8] = {"U8", 1},
    [ST_BOOL] = {"BOOL", 1}, [ST_OTHER] = {"", 0},
};

size_t st_type_size(enum st_type type)
{
    return types[type].size;
}

const char *st_type_name(const struct st_tensor *t)
{
    return t->type == ST_OTHER ? t->other : types[t->type].name;
}

bool st_is_real(const struct st_tensor *t)
{
    return t->type <= ST_BF16;
}

/* Reports a file that does not begin as this format does. Files of other kinds that people try are
 * told by their first bytes. */
static enum status refuse_kind(const struct st_file *f, const void *head, const char *why,
                               struct error *err)
{
    static const char convert[] = "save its state_dict in Python: "
                                  "safetensors.torch.save_file(state_dict, \"w.safetensors\"), "
                                  "or run scripts/from_torch.py";
    if (memcmp(head, "PK\3\4", 4) == 0)
        return error_set(err, STATUS_DATA,
                         "%s: not a safetensors file but a zip archive, as torch.save and numpy "
                         "make; %s",
                         f->path, convert);
    if (memcmp(head, "\x80\x02", 2) == 0 || memcmp(head, "\x80\x04", 2) == 0)
        return error_set(err, STATUS_DATA, "%s: not a safetensors file but a pickle of Python; %s",
                         f->path, convert);
    if (memcmp(head, "\211DEQ", 4) == 0)
        return error_set(err, STATUS_DATA,
                         "%s: not a safetensors file but a checkpoint; deq export makes one of it",
                         f->path);
    return error_set(err, STATUS_DATA, "%s: %s", f->path, why);
}

static enum status read_header(struct st_file *f, struct error *err)
{
    uint64_t length = 0;
    if (f->bytes < (int64_t)sizeof length)
        return error_set(err, STATUS_DATA,
                         "%s: not a safetensors file: %lld bytes, a header's length takes 8",
                         f->path, (long long)f->bytes);
    TRY(read_file_at(f->fd, f->path, &length, sizeof length, 0, err));
    if (length > HEADER_MAX || length > (uint64_t)f->bytes - sizeof length) {
        char why[160];
        snprintf(why, sizeof why,
                 "truncated, or not a safetensors file: its header would be %llu bytes long, the "
                 "file is %lld",
                 (unsigned long long)length, (long long)f->bytes);
        return refuse_kind(f, &length, why, err);
    }
    void *p = NULL;
    TRY(mem_alloc(&p, (size_t)length + 1, 1, err));
    char *text = p;
    enum status status;
    TRY_OUT(read_file_at(f->fd, f->path, text, (size_t)length, sizeof length, err));
    if (text[0] != '{') {
        status =
            error_set(err, STATUS_DATA,
                      "%s: not a safetensors file: its header does not begin with '{'", f->path);
        goto out;
    }
    TRY_OUT(json_parse(&f->doc, text, (size_t)length, f->path, STATUS_DATA, err));
    f->data_at = (int64_t)(sizeof length + length);
out:
    mem_free(text);
    return status;
}

static enum status parse_metadata(struct st_file *f, const struct cJSON *value, struct error *err)
{
    const char *text = NULL;
    if (json_kind(value) != JSON_OBJECT)
        return json_complain(f->doc, value, err, METADATA ": want an object, got %s",
                             json_kind_name(value));
    for (const struct cJSON *m = json_first(value); m != NULL; m = json_next(m))
        TRY(json_string(f->doc, m, &text, err));
    f->meta = value;
    return STATUS_OK;
}

/* Takes any name that a type could have, since new ones are added to the format. */
static enum status parse_type(const struct st_file *f, const struct cJSON *entry,
                              struct st_tensor *t, struct error *err)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    TRY(json_get_string(f->doc, entry, "dtype", &t->other, err));
    t->type = ST_F64;
    while (t->type < ST_OTHER && strcmp(t->other, types[t->type].name) != 0)
        t->type++;
    size_t len = strlen(t->other);
    if (t->type < ST_OTHER)
        t->other = NULL;
    else if (len == 0 || len > TYPE_NAME_MAX || strspn(t->other, letters) != len)
        return json_complain(f->doc, json_get(entry, "dtype"), err,
                             "dtype: want a type such as F32, got \"%.20s\"", t->other);
    return STATUS_OK;
}

/* The member of that name, which must be an array. */
static enum status get_array(const struct st_file *f, const struct cJSON *entry, const char *key,
                             const struct cJSON **out, struct error *err)
{
    *out = json_get(entry, key);
    if (*out == NULL)
        return json_complain(f->doc, entry, err, "%s is missing", key);
    if (json_kind(*out) != JSON_ARRAY)
        return json_complain(f->doc, *out, err, "%s: want an array, got %s", key,
                             json_kind_name(*out));
    return STATUS_OK;
}

static enum status parse_shape(const struct st_file *f, const struct cJSON *entry,
                               struct st_tensor *t, struct error *err)
{
    const struct cJSON *shape = NULL;
    TRY(get_array(f, entry, "shape", &shape, err));
    int64_t bytes = t->type == ST_OTHER ? 1 : (int64_t)st_type_size(t->type);
    bool empty = false;
    t->count = 1;
    for (const struct cJSON *d = json_first(shape); d != NULL; d = json_next(d)) {
        int64_t n = 0;
        if (t->ndim == ST_MAX_DIMS)
            return json_complain(f->doc, shape, err, "shape: more than %d dimensions", ST_MAX_DIMS);
        TRY(json_int(f->doc, d, &n, err));
        if (n < 0)
            return json_complain(f->doc, d, err, "shape: want sizes >= 0, got %lld", (long long)n);
        t->dim[t->ndim++] = n;
        empty |= n == 0;
        /* A zero must not hide an overflow. */
        if (n != 0 && (__builtin_mul_overflow(t->count, n, &t->count) ||
                       __builtin_mul_overflow(bytes, n, &bytes)))
            return json_complain(f->doc, shape, err, "shape: more bytes than any file has");
    }
    t->count = empty ? 0 : t->count;
    t->bytes = empty ? 0 : (size_t)bytes;
    return STATUS_OK;
}

static enum status parse_range(const struct st_file *f, const struct cJSON *entry,
                               struct st_tensor *t, struct range *r, struct error *err)
{
    const struct cJSON *pair = NULL;
    r->place = entry;
    TRY(get_array(f, entry, "data_offsets", &pair, err));
    if (json_size(pair) != 2)
        return json_complain(f->doc, pair, err, "data_offsets: want 2 numbers, got %lld",
                             (long long)json_size(pair));
    TRY(json_int(f->doc, json_first(pair), &r->begin, err));
    TRY(json_int(f->doc, json_next(json_first(pair)), &r->end, err));
    if (r->begin < 0 || r->end < r->begin || r->end > f->bytes - f->data_at)
        return json_complain(f->doc, pair, err,
                             "data_offsets: [%lld, %lld) is not within the %lld data bytes of the "
                             "file: truncated?",
                             (long long)r->begin, (long long)r->end,
                             (long long)(f->bytes - f->data_at));
    if (t->type == ST_OTHER) {
        t->bytes = (size_t)(r->end - r->begin);
        if ((uint64_t)t->count / 8 > t->bytes)
            return json_complain(f->doc, pair, err, "data_offsets: %zu bytes for %lld elements",
                                 t->bytes, (long long)t->count);
        return STATUS_OK;
    }
    if ((uint64_t)(r->end - r->begin) != t->bytes)
        return json_complain(f->doc, pair, err,
                             "data_offsets: %lld bytes, dtype and shape need %zu",
                             (long long)(r->end - r->begin), t->bytes);
    return STATUS_OK;
}

static enum status parse_tensor(struct st_file *f, const struct cJSON *entry, struct error *err)
{
    static const char *const known[] = {"dtype", "shape", "data_offsets"};
    struct st_tensor *t = &f->list[f->count];
    struct range *r = &f->range[f->count];
    if (json_kind(entry) != JSON_OBJECT)
        return json_complain(f->doc, entry, err, "want an object, got %s", json_kind_name(entry));
    for (const struct cJSON *m = json_first(entry); m != NULL; m = json_next(m)) {
        bool found = false;
        for (int i = 0; i < 3; i++)
            found |= strcmp(json_key(m), known[i]) == 0;
        if (!found)
            return json_complain(f->doc, m, err, "want dtype, shape and data_offsets, got %.50s",
                                 json_key(m));
    }
    t->name = json_key(entry);
    TRY(parse_type(f, entry, t, err));
    TRY(parse_shape(f, entry, t, err));
    TRY(parse_range(f, entry, t, r, err));
    r->index = f->count++;
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty tensors first */
}

/* Checks that the ranges cover the data bytes exactly once. */
static enum status check_ranges(struct st_file *f, struct error *err)
{
    int64_t at = 0;
    qsort(f->range, (size_t)f->count, sizeof *f->range, by_place);
    for (int64_t i = 0; i < f->count; i++) {
        const struct range *r = &f->range[i];
        if (r->begin != at)
            return json_complain(f->doc, r->place, err,
                                 "data_offsets: begins at byte %lld, %s %lld", (long long)r->begin,
                                 r->begin < at ? "inside the tensor that ends at"
                                               : "leaves a hole after",
                                 (long long)at);
        at = r->end;
    }
    if (at != f->bytes - f->data_at)
        return error_set(err, STATUS_DATA, "%s: %lld bytes after the last tensor", f->path,
                         (long long)(f->bytes - f->data_at - at));
    return STATUS_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct st_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum status parse_header(struct st_file *f, struct error *err)
{
    const struct cJSON *root = json_root(f->doc);
    size_t most = (size_t)json_size(root);
    void *p = NULL;
    TRY(mem_alloc(&p, most, sizeof *f->list, err));
    f->list = p;
    TRY(mem_alloc(&p, most, sizeof *f->range, err));
    f->range = p;
    TRY(mem_alloc(&p, most, sizeof *f->sorted, err));
    f->sorted = p;
    for (const struct cJSON *m = json_first(root); m != NULL; m = json_next(m))
        TRY(strcmp(json_key(m), METADATA) == 0 ? parse_metadata(f, m, err)
                                               : parse_tensor(f, m, err));
    for (int64_t i = 0; i < f->count; i++)
        f->sorted[i] = &f->list[i];
    qsort(f->sorted, (size_t)f->count, sizeof *f->sorted, by_name);
    return check_ranges(f, err);
}

static enum status read_data(struct st_file *f, struct error *err)
{
    size_t total = 0;
    void *p = NULL;
    for (int64_t i = 0; i < f->count; i++)
        total += (f->list[i].bytes + ALIGN - 1) / ALIGN * ALIGN;
    TRY(mem_alloc(&p, total, 1, err));
    f->data = p;
    uint8_t *to = f->data;
    for (int64_t i = 0; i < f->count; i++) {
        struct st_tensor *t = &f->list[f->range[i].index];
        TRY(read_file_at(f->fd, f->path, to, t->bytes, f->data_at + f->range[i].begin, err));
        t->data = to;
        to += (t->bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    return STATUS_OK;
}

enum status st_open(struct st_file **out, const char *path, struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct st_file), err));
    struct st_file *f = p;
    f->fd = -1;
    TRY_OUT(mem_strdup(&f->path, path, err));
    TRY_OUT(read_file_open(&f->fd, &f->bytes, path, "a safetensors file", err));
    TRY_OUT(read_header(f, err));
    TRY_OUT(parse_header(f, err));
    TRY_OUT(read_data(f, err));
    close(f->fd);
    f->fd = -1;
    *out = f;
    return STATUS_OK;
out:
    st_close(f);
    return status;
}

void st_close(struct st_file *f)
{
    if (f == NULL)
        return;
    if (f->fd >= 0)
        close(f->fd);
    json_free(f->doc);
    mem_free(f->list);
    mem_free(f->range);
    mem_free(f->sorted);
    mem_free(f->data);
    mem_free(f->path);
    mem_free(f);
}

const char *st_path(const struct st_file *f)
{
    return f->path;
}

int64_t st_count(const struct st_file *f)
{
    return f->count;
}

const struct st_tensor *st_tensor(const struct st_file *f, int64_t index)
{
    assert(index >= 0 && index < f->count);
    return &f->list[index];
}

const struct st_tensor *st_find(const struct st_file *f, const char *name)
{
    int64_t low = 0, high = f->count;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        int order = strcmp(f->sorted[mid]->name, name);
        if (order == 0)
            return f->sorted[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

const char *st_meta(const struct st_file *f, const char *key)
{
    const struct cJSON *value = f->meta == NULL ? NULL : json_get(f->meta, key);
    const char *text = NULL;
    struct error none; /* st_open checked that all members are strings */
    return value != NULL && json_string(f->doc, value, &text, &none) == STATUS_OK ? text : NULL;
}

/* A bfloat16 is the upper half of a float32. */
static double bfloat(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* IEEE 754 binary16 has 1 sign, 5 exponent and 10 fraction bits. */
static double half(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 0    ? ldexp(fraction, -24)
                  : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                   : ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -size : size;
}

double st_value(const struct st_tensor *t, int64_t index)
{
    assert(index >= 0 && index < t->count);
    switch (t->type) {
    case ST_F64:
        return ((const double *)t->data)[index];
    case ST_F32:
        return ((const float *)t->data)[index];
    case ST_F16:
        return half(((const uint16_t *)t->data)[index]);
    case ST_BF16:
        return bfloat(((const uint16_t *)t->data)[index]);
    case ST_I64:
        return (double)((const int64_t *)t->data)[index];
    case ST_I32:
        return ((const int32_t *)t->data)[index];
    case ST_I16:
        return ((const int16_t *)t->data)[index];
    case ST_I8:
        return ((const int8_t *)t->data)[index];
    case ST_U64:
        return (double)((const uint64_t *)t->data)[index];
    case ST_U32:
        return ((const uint32_t *)t->data)[index];
    case ST_U16:
        return ((const uint16_t *)t->data)[index];
    case ST_U8:
        return ((const uint8_t *)t->data)[index];
    case ST_BOOL:
        return ((const uint8_t *)t->data)[index] != 0;
    case ST_OTHER:
        break;
    }
    return NAN;
}
