/* A text under TEXT_SPLIT_PUNCTUATION, encoded with a vocabulary of all its pieces and decoded. */
#ifndef DEQ_TESTS_DATA_ROUND_TRIP_H
#define DEQ_TESTS_DATA_ROUND_TRIP_H

#include "data/text_decode.h"
#include "data/text_encode.h"
#include "data/word_count.h"

#include <stdlib.h>
#include <string.h>

/* The vocabulary of all pieces of the text, or of the one piece x if it has none. */
static inline struct vocab *round_trip_vocab(const char *text, size_t size, bool lower)
{
    const struct text_rule rule = {.split = TEXT_SPLIT_PUNCTUATION, .lower = lower};
    const struct vocab_limits limits = {0};
    struct word_count *t = NULL;
    struct vocab *v = NULL;
    struct error err;
    struct vocab_choice choice;
    char *copy = calloc(size + 8 + WORD_PADDING, 1);
    if (copy == NULL || word_count_new(&t, rule, &err) != STATUS_OK)
        abort();
    size_t skip = size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    if (size > skip)
        memcpy(copy, text + skip, size - skip);
    size -= skip;
    for (size_t i = 0; lower && i < size; i++)
        copy[i] |= (char)((copy[i] >= 'A' && copy[i] <= 'Z') << 5);
    copy[size] = '\n';
    if (word_count_text(t, copy, size + 1, 0, &err) != STATUS_OK)
        abort();
    if (word_count_words(t) == 0 && word_count_text(t, "x\n        ", 2, 0, &err) != STATUS_OK)
        abort();
    if (word_count_choose(t, &limits, "text", &v, &choice, &err) != STATUS_OK)
        abort();
    word_count_free(t);
    free(copy);
    return v;
}

/* The text that is to come back: without a byte order mark and without carriage returns before line
 * feeds, with a last newline. *size changes with it. The caller frees it. */
static inline char *round_trip_want(const char *text, size_t *size, bool lower)
{
    size_t n = 0, skip = *size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    char *want = calloc(*size + 2, 1);
    if (want == NULL)
        abort();
    for (size_t i = skip; i < *size; i++) {
        char c = text[i];
        if (c == '\r' && (i + 1 == *size || text[i + 1] == '\n'))
            continue;
        want[n++] = (char)(c | (lower && c >= 'A' && c <= 'Z') << 5);
    }
    if (n == 0 || *size == skip || text[*size - 1] != '\n')
        want[n++] = '\n';
    *size = n;
    return want;
}

/* The text of the ids. The caller frees it. */
static inline char *round_trip_decode(const struct vocab *v, const struct text_encoding *e,
                                      enum text_decode_style style, size_t *size)
{
    struct text_decoder d = text_decoder_begin(v, style);
    char *text = NULL;
    size_t capacity = 0;
    *size = 0;
    for (int64_t i = 0; i < e->count; i++) {
        struct text_bytes b = text_decode(&d, e->ids[i]);
        if (*size + 1 + b.len > capacity) {
            capacity = 2 * (*size + 1 + b.len);
            text = realloc(text, capacity);
            if (text == NULL)
                abort();
        }
        if (b.blank)
            text[(*size)++] = ' ';
        memcpy(text + *size, b.text, b.len);
        *size += b.len;
    }
    return text;
}

/* Whether the text comes back in both styles, and no token of it is unknown. */
static inline bool round_trip(const char *text, size_t size, bool lower)
{
    struct vocab *v = round_trip_vocab(text, size, lower);
    struct text_encoding e;
    struct error err;
    size_t wanted = size, got;
    char *want = round_trip_want(text, &wanted, lower);
    if (text_encode(&e, v, text, size, TEXT_CLOSED, false, &err) != STATUS_OK)
        abort();
    bool same = e.unknown.count == 0;
    for (int style = TEXT_DECODE_RAW; same && style <= TEXT_DECODE_PRETTY; style++) {
        char *back = round_trip_decode(v, &e, (enum text_decode_style)style, &got);
        same = got == wanted && memcmp(back, want, got) == 0;
        free(back);
    }
    free(want);
    text_encoding_free(&e);
    vocab_free(v);
    return same;
}

#endif
