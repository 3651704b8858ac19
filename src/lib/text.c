/* Texts as tokens, and tokens as texts. */
#include "lib/context.h"

#include "data/text_decode.h"
#include "data/text_encode.h"

#include <string.h>

int64_t deq_tokenize(struct deq *d, const char *text, size_t len, int32_t *tokens, size_t capacity,
                     struct deq_error *error)
{
    struct text_encoding e;
    struct lib_call call;
    struct error err;
    if (lib_begin(d, &call, &err) != STATUS_OK)
        return lib_fail(&err, error);
    enum status status =
        text_encode(&e, d->from.vocab, len > 0 ? text : "", len, TEXT_OPEN, false, &err);
    lib_end(&call);
    if (status != STATUS_OK)
        return lib_fail(&err, error);
    int64_t count = e.count;
    if ((size_t)count <= capacity)
        memcpy(tokens, e.ids, (size_t)count * sizeof *tokens);
    text_encoding_free(&e);
    return count;
}

/* Writes the text of tokens unless `out` is NULL. Returns its length. */
static size_t decode(const struct vocab *v, const int32_t *tokens, size_t count, char *out)
{
    struct text_decoder decoder = text_decoder_begin(v, TEXT_DECODE_RAW);
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        struct text_bytes word = text_decode(&decoder, tokens[i]);
        if (out != NULL && word.blank)
            out[len] = ' ';
        len += word.blank;
        if (out != NULL && word.len > 0)
            memcpy(out + len, word.text, word.len);
        len += word.len;
    }
    return len;
}

int64_t deq_detokenize(struct deq *d, const int32_t *tokens, size_t count, char *text,
                       size_t capacity, struct deq_error *error)
{
    struct error err;
    if (lib_check_tokens(d, tokens, count, &err) != STATUS_OK)
        return lib_fail(&err, error);
    size_t len = decode(d->from.vocab, tokens, count, NULL);
    if (len > 0 && len <= capacity)
        (void)decode(d->from.vocab, tokens, count, text);
    return (int64_t)len;
}
