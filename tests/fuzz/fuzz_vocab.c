/* A vocabulary. Every word of an accepted one is found again under its id, and its text form is one
 * that gives the same vocabulary. */
#include "fuzz.h"

#include "data/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vocab *v = NULL, *again = NULL;
    struct error err;
    const char *path = fuzz_file(data, size);
    enum status status = vocab_load(&v, path, &err);
    FUZZ_ASSERT((v != NULL) == (status == STATUS_OK));
    if (status != STATUS_OK) {
        fuzz_refused(&err, status, STATUS_DATA, path);
        return 0;
    }
    FUZZ_ASSERT(vocab_size(v) >= 1);
    for (int64_t i = 0; i < vocab_size(v); i++) {
        size_t len = 0;
        const char *word = vocab_word(v, i, &len);
        FUZZ_ASSERT(len >= 1);
        FUZZ_ASSERT(vocab_find(v, word, len) == i);
        FUZZ_ASSERT(vocab_find(v, word, len - 1) != i);
    }
    const char *text = vocab_text(v, &size);
    FUZZ_ASSERT(vocab_from_text(&again, text, size, "again", &err) == STATUS_OK);
    FUZZ_ASSERT(vocab_hash(again) == vocab_hash(v));
    vocab_free(again);
    vocab_free(v);
    return 0;
}
