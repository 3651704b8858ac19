/* A tokenizer.json. An accepted one is a vocabulary whose text form says the same again, and in
 * which every token has a text. */
#include "fuzz.h"

#include "base/mem.h"
#include "data/text_decode.h"
#include "data/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vocab *v = NULL;
    struct error err;
    char *text;
    size_t len;
    const char *path = fuzz_file(data, size);
    enum status status = tokenizer_json_text(&text, &len, path, &err);
    FUZZ_ASSERT((text != NULL) == (status == STATUS_OK));
    if (status != STATUS_OK) {
        fuzz_refused(&err, status, STATUS_DATA, path);
        return 0;
    }
    FUZZ_ASSERT(vocab_from_text(&v, text, len, "text", &err) == STATUS_OK);
    FUZZ_ASSERT(vocab_rule(v).numbers);
    const char *form = vocab_text(v, &size);
    FUZZ_ASSERT(size == len && memcmp(form, text, len) == 0);
    struct text_decoder d = text_decoder_begin(v, TEXT_DECODE_RAW);
    size_t bytes = 0, ends = 0;
    for (int64_t id = 0; id < vocab_size(v); id++) {
        struct text_bytes word = text_decode(&d, id);
        for (size_t i = 0; i < word.len; i++)
            ends += word.text[i] == '\n'; /* all of it can be read */
        bytes += word.len;
    }
    FUZZ_ASSERT(ends <= bytes);
    vocab_free(v);
    mem_free(text);
    return 0;
}
