/* A text of UTF-8. Divided at punctuation it comes back from its tokens, under the vocabulary of
 * its own pieces, and in both styles. Divided into subwords it comes back too, if there are any
 * here. */
#include "fuzz.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/round_trip.h"
#include "data/subword_text.h"
#include "data/subword_train.h"

/* Subwords of a made text, or NULL in a program without SentencePiece. */
static struct vocab *make_subwords(void)
{
    struct subword_sample *s = NULL;
    struct vocab *v = NULL;
    struct error err;
    size_t size = 0, bytes;
    char *text = subword_text(100, &size), *model = NULL;
    enum status status = subword_sample_new(&s, size, 1, &err);
    if (status == STATUS_OK)
        status = subword_sample_add(s, text, size, 0, &err);
    if (status == STATUS_OK)
        status = subword_sample_train(s, "bpe", 400, &model, &bytes, &err);
    if (status == STATUS_OK)
        status = vocab_from_model(&v, model, bytes, "model", &err);
    if (status != STATUS_OK && status != STATUS_DEVICE)
        abort();
    mem_free(model);
    subword_sample_free(s);
    free(text);
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocab *subwords;
    static bool tried;
    const char *text = (const char *)data;
    if (!tried)
        subwords = make_subwords();
    tried = true;
    bool lower = size > 0 && data[size - 1] == '!';
    size = utf8_check(text, size);
    FUZZ_ASSERT(round_trip(text, size, lower));
    size_t mark = 0; /* bytes of byte order marks, of which one at the start is left out */
    while (size - mark >= 3 && memcmp(text + mark, "\xEF\xBB\xBF", 3) == 0)
        mark += 3;
    if (subwords != NULL)
        FUZZ_ASSERT(subword_round_trip(subwords, text + mark, size - mark));
    return 0;
}
