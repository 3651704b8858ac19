/* A model of SentencePiece, as this program reads it. The vocabulary of an accepted one is read
 * from its text form again, and any of its tokens are text. */
#include "fuzz.h"

#include "data/text_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vocab *v = NULL, *again = NULL;
    struct error err;
    enum status status = vocab_from_model(&v, data, size, "model", &err);
    FUZZ_ASSERT((v != NULL) == (status == STATUS_OK));
    if (status != STATUS_OK) {
        fuzz_refused(&err, status, STATUS_DATA, "model");
        return 0;
    }
    const char *text = vocab_text(v, &size);
    FUZZ_ASSERT(vocab_from_text(&again, text, size, "again", &err) == STATUS_OK);
    FUZZ_ASSERT(vocab_hash(again) == vocab_hash(v) && vocab_eos(again) == vocab_eos(v));
    struct text_decoder d = text_decoder_begin(again, TEXT_DECODE_RAW);
    size_t all = 0;
    for (int64_t i = 0; i < vocab_size(v); i++) {
        struct text_bytes b = text_decode(&d, i);
        for (size_t k = 0; k < b.len; k++)
            all += (unsigned char)b.text[k];
    }
    FUZZ_ASSERT(all < SIZE_MAX);
    vocab_free(again);
    vocab_free(v);
    return 0;
}
