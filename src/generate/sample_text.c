/* The text of a sample. */
#include "generate/sample_text.h"

#include "base/mem.h"

#include <string.h>

void sample_text_begin(struct sample_text *t, const struct vocab *vocab,
                       const struct stop_text *stops, bool raw)
{
    enum text_decode_style style = raw ? TEXT_DECODE_RAW : TEXT_DECODE_PRETTY;
    *t = (struct sample_text){.decoder = text_decoder_begin(vocab, style), .stops = *stops};
}

void sample_text_free(struct sample_text *t)
{
    mem_free(t->text);
    *t = (struct sample_text){0};
}

static enum status append(struct sample_text *t, const char *bytes, size_t len, struct error *err)
{
    if (t->len + len > t->capacity) {
        size_t grown = 2 * (t->len + len);
        TRY(mem_grow((void **)&t->text, t->len, grown, 1, err));
        t->capacity = grown;
    }
    if (len > 0)
        memcpy(t->text + t->len, bytes, len);
    t->len += len;
    return STATUS_OK;
}

static enum status append_token(struct sample_text *t, int32_t token, struct error *err)
{
    struct text_bytes word = text_decode(&t->decoder, token);
    if (word.blank)
        TRY(append(t, " ", 1, err));
    return append(t, word.text, word.len, err);
}

enum status sample_text_add_prompt(struct sample_text *t, const int32_t *tokens, int64_t count,
                                   struct error *err)
{
    for (int64_t i = 0; i < count; i++)
        TRY(append_token(t, tokens[i], err));
    t->made = t->len;
    t->tokens = 0;
    t->ended = false;
    return STATUS_OK;
}

void sample_text_skip(struct sample_text *t)
{
    t->shown = t->len;
    t->skip_blank = true;
}

enum status sample_text_add(struct sample_text *t, int32_t token, struct error *err)
{
    size_t known = t->len, at;
    TRY(append_token(t, token, err));
    t->tokens++;
    int found = stop_text_find(&t->stops, t->text, t->len, t->made, known, &at);
    if (found < 0)
        return STATUS_OK;
    t->len = at;
    t->stop = t->stops.text[found];
    t->ended = true;
    return STATUS_OK;
}

const char *sample_text_next(struct sample_text *t, size_t *len)
{
    size_t until = t->len;
    *len = 0;
    if (!t->ended && t->len > t->made)
        until -= stop_text_pending(&t->stops, t->text, t->len, t->made);
    if (until <= t->shown)
        return t->text;
    if (t->skip_blank && t->text[t->shown] == ' ')
        t->shown++;
    t->skip_blank = false;
    const char *text = t->text + t->shown;
    *len = until - t->shown;
    t->shown = until;
    return text;
}
