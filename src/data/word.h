/* Words, as they are found in text and compared in hash tables.
 *
 * A word is a run of bytes other than ASCII white space (space, \t \n \v \f \r) and NUL. The key of
 * a word of at most eight bytes, as nearly all words of running text are, is these bytes, padded
 * with zeros. The key of a longer word is a hash of its bytes. A short word is thus compared, and
 * most often found, with one load.
 */
#ifndef DEQ_DATA_WORD_H
#define DEQ_DATA_WORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "words are scanned, and shards stored, on little-endian machines");

enum {
    WORD_SHORT = 8,   /* up to this length the key is the word */
    WORD_PADDING = 8, /* bytes that must be readable behind a text that is scanned */
    WORD_BATCH = 64,  /* Words looked up together. Tables are larger than caches, and memory answers
                         many requests in the time of one. */
};

struct word {
    const char *text;
    uint64_t key;
    uint32_t len;
};

static inline bool word_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline uint64_t word_load(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

static inline uint64_t word_mix(uint64_t h, uint64_t w)
{
    h = (h ^ w) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

/* The first n bytes of w, n < 8. */
static inline uint64_t word_head(uint64_t w, unsigned n)
{
    return w & ((UINT64_C(1) << 8 * n) - 1);
}

/* The key of a word of `len` bytes. It reads no byte beyond them. */
static inline uint64_t word_key(const char *text, size_t len)
{
    uint64_t last = 0, h = 0;
    if (len <= WORD_SHORT) {
        memcpy(&last, text, len);
        return last;
    }
    size_t i = 0;
    for (; len - i >= 8; i += 8)
        h = word_mix(h, word_load(text + i));
    memcpy(&last, text + i, len - i);
    return word_mix(h, last);
}

/* The bits of a key that choose the slot of a table of 2^(64 - shift) slots. */
static inline uint64_t word_slot(uint64_t key, int shift)
{
    key ^= key >> 32;
    key *= UINT64_C(0xD6E8FEB86659FD93);
    key ^= key >> 32;
    key *= UINT64_C(0xD6E8FEB86659FD93);
    return key >> shift;
}

/* Finds the word that starts at `p`, which is not white space. The word must be followed by white
 * space, and that by WORD_PADDING readable bytes. The key is word_key(text, len), computed without
 * a second pass over the bytes. */
static inline struct word word_scan(const char *p)
{
    /* A byte below 0x21 sets its top bit in `stop`. Borrows disturb only bytes above the first one.
     */
    const uint64_t ones = UINT64_C(0x0101010101010101);
    struct word word = {.text = p};
    uint64_t h = 0;
    for (const char *q = p;; q += 8) {
        uint64_t w = word_load(q);
        uint64_t stop = (w - 0x21 * ones) & ~w & 0x80 * ones;
        if (stop == 0) {
            h = q == p ? w : word_mix(q == p + 8 ? word_mix(0, h) : h, w);
            continue;
        }
        unsigned n = (unsigned)__builtin_ctzll(stop) / 8;
        if (__builtin_expect(!word_is_space(q[n]),
                             0)) { /* a control character belongs to the word */
            for (q += n; !word_is_space(*q); q++)
                ;
            word.len = (uint32_t)(q - p);
            word.key = word_key(p, word.len);
            return word;
        }
        word.len = (uint32_t)(q - p) + n;
        if (q == p)
            word.key = word_head(w, n);
        else if (q == p + 8)
            word.key = n == 0 ? h : word_mix(word_mix(0, h), word_head(w, n));
        else
            word.key = word_mix(h, word_head(w, n));
        return word;
    }
}

#endif
