/* Divides a text at blanks, or at blanks and punctuation. */
#include "data/pieces.h"

#include <assert.h>
#include <stdio.h>
#include <utf8proc.h>

enum { KIND_MARK, KIND_WORD, KIND_SPACE, KIND_HIGH, KIND_QUOTE };

/* The kind of each byte. KIND_MARK is ASCII punctuation and control characters, KIND_HIGH begins a
 * character outside ASCII, and KIND_QUOTE is the apostrophe. */
static const unsigned char kinds[256] = {
    ['0' ... '9'] = KIND_WORD,   ['A' ... 'Z'] = KIND_WORD,    ['a' ... 'z'] = KIND_WORD,
    ['_'] = KIND_WORD,           ['\t' ... '\r'] = KIND_SPACE, [' '] = KIND_SPACE,
    [0x80 ... 0xFF] = KIND_HIGH, ['\''] = KIND_QUOTE,
};

static int kind_of(char c)
{
    return kinds[(unsigned char)c];
}

size_t pieces_cut(enum text_split split, const char *text, size_t size)
{
    size_t cut = size;
    for (; cut > 0; cut--) {
        bool last = cut == size || word_is_space(text[cut]); /* more of a run may follow */
        if (text[cut - 1] == '\n' ||
            (word_is_space(text[cut - 1]) && (split == TEXT_SPLIT_BLANKS || !last)))
            break;
    }
    return cut;
}

void pieces_begin(struct pieces *p, enum text_split split, const char *text, size_t size)
{
    assert(split != TEXT_SPLIT_BYTES);
    p->at = text;
    p->end = text + size;
    p->split = split;
    p->attached = p->open = false;
    p->count = 0;
    p->lines = p->words = 0;
}

void pieces_begin_open(struct pieces *p, enum text_split split, const char *text, size_t size)
{
    pieces_begin(p, split, text, size);
    p->open = true;
}

/* Adds a piece that stands in the text as in the vocabulary. */
static inline void add_word(struct pieces *p, struct word word)
{
    int i = p->count++;
    p->word[i] = word;
    p->from[i] = p->at;
    p->at += word.len;
    p->until[i] = p->at;
    p->words += !p->attached;
}

static inline void add_line_end(struct pieces *p, const char *from)
{
    int i = p->count++;
    p->word[i] = (struct word){.text = p->at};
    p->from[i] = from;
    p->until[i] = ++p->at;
    p->lines++;
    p->attached = false;
}

static void next_at_blanks(struct pieces *p)
{
    while (p->at < p->end && p->count < WORD_BATCH) {
        if (!word_is_space(*p->at))
            add_word(p, word_scan(p->at));
        else if (*p->at == '\n' && p->split != TEXT_SPLIT_IDS)
            add_line_end(p, p->at);
        else
            p->at++;
    }
}

/* The character at `at`, of at least one byte, and its length. */
static int32_t character(const char *at, const char *end, int *len)
{
    utf8proc_int32_t c = (unsigned char)*at;
    *len = 1;
    if (c >= 0x80)
        *len = (int)utf8proc_iterate((const unsigned char *)at, end - at, &c);
    assert(*len > 0); /* the text is UTF-8 */
    return c;
}

static bool is_word_character(int32_t c)
{
    if (c < 0x80)
        return kinds[c] == KIND_WORD;
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO;
}

/* Whether the text at `at` goes on with a character of a word. */
static inline bool word_follows(const char *at, const char *end)
{
    if (at == end)
        return false;
    int kind = kind_of(*at), len;
    return kind == KIND_WORD || (kind == KIND_HIGH && is_word_character(character(at, end, &len)));
}

/* Bytes of the apostrophe at `at`, 0 if there is none. */
static int apostrophe(const char *at, const char *end)
{
    static const char high[] = "\xE2\x80\x99"; /* U+2019 */
    if (kind_of(*at) == KIND_QUOTE)
        return 1;
    int n = (int)sizeof high - 1;
    return end - at >= n && memcmp(at, high, (size_t)n) == 0 ? n : 0;
}

/* How many bytes at the start of the eight in w are of KIND_WORD, found without a branch that the
 * lengths of words would mislead. A byte of 7 bits plus 0x80 - low has its top bit set if it is at
 * least low. */
static inline unsigned word_bytes(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), top = 0x80 * ones;
    uint64_t seven = w & ~top, small = seven | 0x20 * ones, line = seven ^ '_' * ones;
    uint64_t letter = (small + (0x80 - 'a') * ones) & ~(small + (0x7F - 'z') * ones);
    uint64_t digit = (seven + (0x80 - '0') * ones) & ~(seven + (0x7F - '9') * ones);
    uint64_t other = (~(letter | digit | ~(line + 0x7F * ones)) | w) & top;
    return other == 0 ? 8 : (unsigned)__builtin_ctzll(other) / 8;
}

/* The end of the word at `at`. */
static const char *word_end(const char *at, const char *end)
{
    for (;;) {
        for (unsigned n = 8; n == 8; at += n)
            n = word_bytes(word_load(at));
        if (at >= end)
            return end;
        int kind = kind_of(*at), len;
        if (kind == KIND_HIGH && is_word_character(character(at, end, &len))) {
            at += len;
            continue;
        }
        if (kind != KIND_QUOTE && kind != KIND_HIGH)
            return at;
        len = apostrophe(at, end);
        if (len == 0 || !word_follows(at + len, end))
            return at;
        at += len;
    }
}

static void add_run_of_word(struct pieces *p)
{
    uint64_t w = word_load(p->at);
    unsigned n = word_bytes(w);
    struct word word = {.text = p->at, .len = n};
    int next = kind_of(p->at[n]);
    if (n > 0 && n < WORD_SHORT && next != KIND_QUOTE && next != KIND_HIGH) {
        word.key = word_head(w, n);
    } else {
        size_t len = (size_t)(word_end(p->at, p->end) - p->at);
        word.len = (uint32_t)len;
        word.key = word_key(p->at, len);
    }
    add_word(p, word);
    p->attached = true;
}

/* Adds a piece of `bytes` bytes of the text, spelled as the short text[len] of which `key` is the
 * key. */
static void add_short(struct pieces *p, uint64_t key, unsigned len, size_t bytes)
{
    int i = p->count++;
    memcpy(p->spelled[i], &key, sizeof key);
    p->word[i] = (struct word){.text = p->spelled[i], .key = key, .len = len};
    p->from[i] = p->at;
    p->at += bytes;
    p->until[i] = p->at;
}

/* Adds a piece that is spelled in its place of p->spelled. */
static void add_spelled(struct pieces *p, size_t len, size_t bytes)
{
    int i = p->count++;
    const char *text = p->spelled[i];
    p->word[i] = (struct word){.text = text, .key = word_key(text, len), .len = (uint32_t)len};
    p->from[i] = p->at;
    p->at += bytes;
    p->until[i] = p->at;
}

/* Writes <name>, or with a number above 1 <name4>. */
static size_t spell(char *to, const char *name, int number)
{
    return (size_t)(number > 1 ? sprintf(to, "<%s%d>", name, number) : sprintf(to, "<%s>", name));
}

/* Adds a run of white space, which *p->at begins. */
static void add_space(struct pieces *p)
{
    char c = *p->at;
    int n = 1;
    while (n < PIECE_RUN && p->at + n < p->end && p->at[n] == c &&
           !(c == '\r' && p->at[n + 1] == '\n'))
        n++;
    const char *name = c == ' '    ? "sp"
                       : c == '\t' ? "tab"
                       : c == '\v' ? "vt"
                       : c == '\f' ? "ff"
                                   : "cr";
    add_spelled(p, spell(p->spelled[p->count], name, n), (size_t)n);
    p->attached = false;
}

/* Whether the mark of a piece at the end of a text that is to be continued joins it with what
 * follows, which an opening bracket or a quotation mark without a word before it does. */
static bool opens(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_PS || k == UTF8PROC_CATEGORY_PI || c == '"' || c == '\'';
}

/* Adds a run of the punctuation character c of `len` bytes. */
static void add_punctuation(struct pieces *p, int32_t c, int len)
{
    const char *at = p->at, *until = at + len;
    int n = 1;
    while (n < PIECE_RUN && p->end - until >= len && memcmp(until, at, (size_t)len) == 0) {
        n++;
        until += len;
    }
    bool before = p->attached, behind = word_follows(until, p->end);
    if (until == p->end && p->open)
        behind = !before && opens(c);
    p->words += !p->attached;
    p->attached = true;
    if (n == 1 && len == 1 && c != PIECE_MARK) {
        uint64_t key = (uint64_t)c | (behind ? (uint64_t)PIECE_MARK << 8 : 0);
        add_short(p, before ? key << 8 | PIECE_MARK : key, 1U + before + behind, 1);
        return;
    }
    char *to = p->spelled[p->count];
    size_t size = 0, bytes = (size_t)(until - at);
    if (before)
        to[size++] = PIECE_MARK;
    if (c == PIECE_MARK) {
        size += spell(to + size, "at", n);
    } else {
        memcpy(to + size, at, bytes);
        size += bytes;
    }
    if (behind)
        to[size++] = PIECE_MARK;
    add_spelled(p, size, bytes);
}

/* Takes the white space at p->at. One blank between two pieces is none of its own. */
static void take_space(struct pieces *p)
{
    const char *at = p->at;
    bool more = at + 1 < p->end;
    if (*at == '\n')
        add_line_end(p, at);
    else if (*at == '\r' && at[1] == '\n' && more) {
        p->at++;
        add_line_end(p, at);
    } else if (*at == ' ' && p->attached && (!more || kind_of(at[1]) != KIND_SPACE)) {
        p->at++;
        p->attached = false;
    } else {
        add_space(p);
    }
}

static void next_at_punctuation(struct pieces *p)
{
    while (p->at < p->end && p->count < WORD_BATCH) {
        int kind = kind_of(*p->at), len = 1;
        if (kind == KIND_WORD) {
            add_run_of_word(p);
        } else if (kind == KIND_SPACE) {
            take_space(p);
        } else {
            int32_t c = character(p->at, p->end, &len);
            if (kind == KIND_HIGH && is_word_character(c))
                add_run_of_word(p);
            else
                add_punctuation(p, c, len);
        }
    }
}

bool pieces_next(struct pieces *p)
{
    p->count = 0;
    if (p->split == TEXT_SPLIT_PUNCTUATION)
        next_at_punctuation(p);
    else
        next_at_blanks(p);
    return p->count > 0;
}
