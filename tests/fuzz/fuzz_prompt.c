/* A prompt, for small vocabularies of words, one without <eos>, and the bytes. An accepted one is
 * all ids of the vocabulary, at least one. */
#include "fuzz.h"

#include "data/text_encode.h"

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
    struct text_encoding e;
    struct error err;
    enum status status = text_encode(&e, v, text, size, TEXT_OPEN, true, &err);
    if (status != STATUS_OK) {
        FUZZ_ASSERT(e.ids == NULL && e.ranges == NULL);
        fuzz_refused(&err, status, STATUS_DATA, "");
        return;
    }
    FUZZ_ASSERT(e.count >= 1 && e.count <= (int64_t)size + 1);
    FUZZ_ASSERT(e.unknown.count <= e.count && (e.unknown.count == 0 || vocab_unk(v) >= 0));
    for (int64_t i = 0; i < e.count; i++) {
        FUZZ_ASSERT(e.ids[i] >= 0 && e.ids[i] < vocab_size(v));
        FUZZ_ASSERT(e.ranges[i].from <= e.ranges[i].until && e.ranges[i].until <= size);
        FUZZ_ASSERT(i == 0 || e.ranges[i].from >= e.ranges[i - 1].until);
    }
    text_encoding_free(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocab *words, *divided, *without_eos, *bytes;
    struct error err;
    if (words == NULL) {
        words = of("<eos>\n<unk>\nthe\nking\nof\n@-@\nNebuchadnezzar's\n\xc3\xa9t\xc3\xa9\n");
        divided = of("# split: punctuation, lower\n<eos>\n<unk>\nthe\nking\n@-@\n(@\n<sp>\n");
        without_eos = of("the\nking\n");
        if (vocab_make_bytes(&bytes, &err) != STATUS_OK)
            abort();
    }
    char *text = malloc(size > 0 ? size : 1); /* a sanitizer sees what lies behind its end */
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    try(words, text, size);
    try(divided, text, size);
    try(without_eos, text, size);
    try(bytes, text, size);
    free(text);
    return 0;
}
