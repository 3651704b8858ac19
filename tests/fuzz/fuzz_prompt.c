/* A prompt, for a small vocabulary of words, one without <eos>, and the bytes. An accepted one is
 * all ids of the vocabulary, at least one. */
#include "fuzz.h"

#include "base/mem.h"
#include "data/prompt.h"

static struct vocab *of(const char *text)
{
    struct vocab *v = NULL;
    struct error err;
    if (vocab_from_text(&v, text, strlen(text), "words", &err) != STATUS_OK)
        abort();
    return v;
}

static void try(const struct vocab *v, const char *text, size_t size)
{
    struct prompt_unknown unknown;
    struct error err;
    int32_t *ids = NULL;
    int64_t count = 0;
    enum status status = prompt_encode(v, text, size, &ids, &count, &unknown, &err);
    if (status != STATUS_OK) {
        FUZZ_ASSERT(ids == NULL);
        fuzz_refused(&err, status, STATUS_DATA, "");
        return;
    }
    FUZZ_ASSERT(count >= 1 && count <= (int64_t)size + 1);
    FUZZ_ASSERT(unknown.count <= count && (unknown.count == 0 || vocab_unk(v) >= 0));
    for (int64_t i = 0; i < count; i++)
        FUZZ_ASSERT(ids[i] >= 0 && ids[i] < vocab_size(v));
    mem_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocab *words, *without_eos, *bytes;
    struct error err;
    if (words == NULL) {
        words = of("<eos>\n<unk>\nthe\nking\nof\n@-@\nNebuchadnezzar's\n\xc3\xa9t\xc3\xa9\n");
        without_eos = of("the\nking\n");
        if (vocab_make_bytes(&bytes, &err) != STATUS_OK)
            abort();
    }
    char *text = malloc(size > 0 ? size : 1); /* a sanitizer sees what lies behind its end */
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    try(words, text, size);
    try(without_eos, text, size);
    try(bytes, text, size);
    free(text);
    return 0;
}
