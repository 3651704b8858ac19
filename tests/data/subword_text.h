/* A text and models of subwords for tests. */
#ifndef DEQ_TESTS_DATA_SUBWORD_TEXT_H
#define DEQ_TESTS_DATA_SUBWORD_TEXT_H

#include "data/spm_peer.h"
#include "data/text_decode.h"
#include "data/text_encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A text of `lines` lines of made words. The caller frees it. */
static inline char *subword_text(int lines, size_t *size)
{
    static const char *const part[] = {"king",      "dom", "un",           "said", "the",
                                       "ly",        "er",  "well",         "go",   "ing",
                                       "\xC3\xA9t", "na",  "\xE4\xB8\xAD", "12"};
    static const char *const end[] = {" ", " ", " ", ", ", ". ", "  ", "-", "\t", "! "};
    uint64_t draw = 1;
    char *text = calloc((size_t)lines, 400);
    if (text == NULL)
        abort();
    for (int i = 0; i < lines; i++) {
        for (int words = 0; words < 12; words++) {
            draw = draw * 6364136223846793005u + 1442695040888963407u;
            unsigned r = (unsigned)(draw >> 33);
            for (unsigned parts = 1 + r % 3; parts > 0; parts--)
                *size += (size_t)sprintf(text + *size, "%s", part[(r >> 3 * parts) % 14]);
            *size += (size_t)sprintf(text + *size, "%s", end[(r >> 20) % 9]);
        }
        *size += (size_t)sprintf(text + *size, "\n");
    }
    return text;
}

/* The text of ids. The caller frees it. */
static inline char *subword_decode(const struct vocab *v, const int32_t *ids, int64_t count,
                                   size_t *size)
{
    struct text_decoder d = text_decoder_begin(v, TEXT_DECODE_RAW);
    char *text = calloc(1, 1);
    *size = 0;
    for (int64_t i = 0; i < count; i++) {
        struct text_bytes b = text_decode(&d, ids[i]);
        text = realloc(text, *size + b.len + 1);
        if (text == NULL || b.blank)
            abort();
        memcpy(text + *size, b.text, b.len);
        *size += b.len;
    }
    return text;
}

/* Whether text[size] comes back from its tokens, and every byte is in the range of one token. */
static inline bool subword_round_trip(const struct vocab *v, const char *text, size_t size)
{
    struct text_encoding e;
    struct error err;
    size_t got;
    if (text_encode(&e, v, text, size, TEXT_CLOSED, true, &err) != STATUS_OK)
        abort();
    char *back = subword_decode(v, e.ids, e.count, &got);
    if (size == 0) /* a line end stands for nothing */
        size = got = 0;
    bool same = got == size && memcmp(back, text, size) == 0;
    size_t at = 0;
    for (int64_t i = 0; i < e.count && same; i++) {
        same = e.ranges[i].from == at;
        at = e.ranges[i].until;
    }
    free(back);
    text_encoding_free(&e);
    return same && at == size;
}

#endif
