/* Sizes, names and limits that the writer and the reader of checkpoints share. */
#include "store/checkpoint.h"

#include "store/checkpoint_format.h"

#include <string.h>

size_t checkpoint_type_size(enum checkpoint_type type)
{
    switch (type) {
    case CHECKPOINT_U8:
        return 1;
    case CHECKPOINT_F32:
        return 4;
    case CHECKPOINT_F64:
    case CHECKPOINT_I64:
        return 8;
    }
    return 0;
}

const char *checkpoint_type_name(enum checkpoint_type type)
{
    switch (type) {
    case CHECKPOINT_U8:
        return "u8";
    case CHECKPOINT_F32:
        return "f32";
    case CHECKPOINT_F64:
        return "f64";
    case CHECKPOINT_I64:
        return "i64";
    }
    return "unknown type";
}

bool checkpoint_name_ok(const char *name)
{
    size_t n = strnlen(name, CHECKPOINT_NAME_MAX);
    if (n == 0 || n == CHECKPOINT_NAME_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    for (size_t i = n; i < CHECKPOINT_NAME_MAX; i++)
        if (name[i] != '\0')
            return false;
    return true;
}

int64_t checkpoint_elements(enum checkpoint_type type, int64_t ndim, const int64_t *dims)
{
    if (ndim < 0 || ndim > CHECKPOINT_MAX_DIMS)
        return -1;
    int64_t count = 1, bytes = 0;
    bool empty = false;
    for (int64_t i = 0; i < ndim; i++) {
        if (dims[i] < 0)
            return -1;
        /* A zero must not hide an overflow of the other dims. */
        empty |= dims[i] == 0;
        if (dims[i] != 0 && __builtin_mul_overflow(count, dims[i], &count))
            return -1;
    }
    if (__builtin_mul_overflow(count, (int64_t)checkpoint_type_size(type), &bytes))
        return -1;
    return empty ? 0 : count;
}
