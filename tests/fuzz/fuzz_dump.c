/* A reference dump, as deq verify takes it: configuration, sizes, tensors of a computation that
 * then runs on the plain backend. Whatever it says, there is a report or a refusal. */
#include "fuzz.h"

#include "backend/ref/ref.h"
#include "verify/verify.h"

/* The header's length, as in fuzz_safetensors.c, and nothing that only makes a long computation. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    uint64_t length = 0;
    if (size <= sizeof length || seed % 8 == 0)
        return LLVMFuzzerMutate(data, size, max);
    memcpy(&length, data, sizeof length);
    size_t header = length < size - sizeof length ? (size_t)length : size - sizeof length;
    if (header == 0)
        return size;
    /* in place: what is behind the header stays where it is said to be */
    size_t changed = LLVMFuzzerMutate(data + sizeof length, header, header);
    memset(data + sizeof length + changed, ' ', header - changed);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct st_file *f = NULL;
    struct verify_report report = {0};
    struct backend be;
    struct error err;
    const char *path = fuzz_file(data, size);
    if (st_open(&f, path, &err) != STATUS_OK)
        return 0;
    if (ref_open(&be, &err) != STATUS_OK)
        abort();
    enum status status = verify_file(&report, &be, f, path, 0, &err);
    if (status != STATUS_OK)
        FUZZ_ASSERT(status == err.status && err.text[0] != '\0');
    for (int64_t i = 0; i < report.count; i++)
        FUZZ_ASSERT(memchr(report.rows[i].name, '\0', sizeof report.rows[i].name) != NULL);
    verify_report_free(&report);
    backend_close(&be);
    st_close(f);
    return 0;
}
