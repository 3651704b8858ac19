/* What surrounds a call of the library: settings of its thread, errors, structs that may grow. */
#include "lib/context.h"

#include <omp.h>
#include <string.h>

enum status lib_begin(const struct deq *d, struct lib_call *call, struct error *err)
{
    if (d->bound && !pthread_equal(d->owner, pthread_self()))
        return error_set(err, STATUS_USAGE,
                         "a model on a GPU is used by the thread that loaded it; load it again in "
                         "this one");
    call->threads = omp_get_max_threads();
    call->dynamic = omp_get_dynamic();
    call->locale = uselocale(d->plain);
    if (d->open) { /* oneDNN divides a product by the setting of the thread */
        omp_set_dynamic(0);
        omp_set_num_threads(d->be.threads);
    }
    return STATUS_OK;
}

void lib_end(const struct lib_call *call)
{
    omp_set_dynamic(call->dynamic);
    omp_set_num_threads(call->threads);
    (void)uselocale(call->locale);
}

int lib_fail(const struct error *err, struct deq_error *out)
{
    if (out != NULL) {
        out->status = (int32_t)err->status;
        memcpy(out->text, err->text, sizeof out->text);
    }
    return -(int)err->status;
}

enum status lib_read_struct(void *to, size_t known, const void *from, const char *name,
                            struct error *err)
{
    size_t size;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size)
        return error_set(err, STATUS_USAGE, "%s.size: want sizeof (struct %s), got %zu", name, name,
                         size);
    for (size_t i = known; i < size; i++)
        if (((const char *)from)[i] != 0)
            return error_set(err, STATUS_USAGE,
                             "%s: byte %zu is of a field that this version of libdeq does not know",
                             name, i);
    memset(to, 0, known);
    memcpy(to, from, size < known ? size : known);
    return STATUS_OK;
}

enum status lib_check_tokens(const struct deq *d, const int32_t *tokens, size_t count,
                             struct error *err)
{
    int64_t vocab = vocab_size(d->from.vocab);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return error_set(err, STATUS_USAGE, "token %zu: want 0..%lld, got %ld", i,
                             (long long)vocab - 1, (long)tokens[i]);
    return STATUS_OK;
}

const char *deq_status_text(int64_t status)
{
    return status_text((enum status)(status < 0 ? -status : status));
}
