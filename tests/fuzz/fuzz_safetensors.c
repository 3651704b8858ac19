/* A safetensors file. Every number of an accepted one can be read, and its tensors do not overlap.
 */
#include "fuzz.h"

#include "store/safetensors.h"

/* The header's length, which no fuzzer keeps right while it changes the header. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    uint64_t length = 0;
    uint8_t *end = NULL;
    size = LLVMFuzzerMutate(data, size, max);
    if (seed % 8 == 0 || size < sizeof length)
        return size;
    /* behind the last brace that text follows a header with */
    for (size_t i = sizeof length; i + 1 < size && end == NULL; i++)
        if (data[i] == '}' && data[i + 1] == '}')
            end = data + i + 2;
    length = end != NULL ? (uint64_t)(end - data) - sizeof length : size - sizeof length;
    memcpy(data, &length, sizeof length);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct st_file *f = NULL;
    struct error err;
    const char *path = fuzz_file(data, size);
    volatile double sum = 0;
    size_t bytes = 0;
    enum status status = st_open(&f, path, &err);
    FUZZ_ASSERT((f != NULL) == (status == STATUS_OK));
    if (status != STATUS_OK) {
        fuzz_refused(&err, status, STATUS_DATA, path);
        return 0;
    }
    for (int64_t i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_tensor(f, i);
        int64_t count = 1;
        for (int d = 0; d < t->ndim; d++)
            count *= t->dim[d];
        FUZZ_ASSERT(count == t->count);
        FUZZ_ASSERT(t->type == ST_OTHER || t->bytes == (size_t)count * st_type_size(t->type));
        FUZZ_ASSERT(st_find(f, t->name) == t);
        FUZZ_ASSERT(st_type_name(t)[0] != '\0');
        for (int64_t k = 0; k < t->count && t->type != ST_OTHER; k++)
            sum = sum + st_value(t, k);
        bytes += t->bytes;
    }
    FUZZ_ASSERT(bytes <= size);
    (void)st_meta(f, "kind");
    st_close(f);
    return 0;
}
