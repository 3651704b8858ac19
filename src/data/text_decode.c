/* Joins tokens to a text. */
#include "data/text_decode.h"

#include "data/pieces.h"

#include <assert.h>
#include <string.h>

struct text_decoder text_decoder_begin(const struct vocab *v, enum text_decode_style style)
{
    return (struct text_decoder){.vocab = v, .style = style, .joined = true};
}

static bool is(const struct text_bytes *word, const char *want)
{
    return word->len == strlen(want) && memcmp(word->text, want, word->len) == 0;
}

/* Reads <NAME> or <NAME2> .. <NAME16>, the spelling of a run of one character. Returns the length
 * of the run, or 0 if the word is another one. */
static size_t run_length(const struct text_bytes *word, const char *name)
{
    size_t n = strlen(name), number = 0;
    const char *at = word->text + 1 + n, *end = word->text + word->len - 1;
    if (word->len < n + 2 || word->text[0] != '<' || *end != '>' ||
        memcmp(word->text + 1, name, n) != 0)
        return 0;
    if (at == end)
        return 1;
    for (; at < end && number <= PIECE_RUN; at++) {
        if (*at < '0' || *at > '9' || (number == 0 && *at == '0'))
            return 0;
        number = 10 * number + (size_t)(*at - '0');
    }
    return number >= 2 && number <= PIECE_RUN ? number : 0;
}

/* The runs that are spelled, white space first. */
static const struct run {
    char name[4];
    char text[PIECE_RUN + 1];
} runs[] = {
    {"sp", "                "},
    {"tab", "\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t"},
    {"vt", "\v\v\v\v\v\v\v\v\v\v\v\v\v\v\v\v"},
    {"ff", "\f\f\f\f\f\f\f\f\f\f\f\f\f\f\f\f"},
    {"cr", "\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r"},
    {"at", "@@@@@@@@@@@@@@@@"},
};

enum { RUNS = sizeof runs / sizeof runs[0], RUN_AT = RUNS - 1 };

/* Takes a piece of TEXT_SPLIT_PUNCTUATION (pieces.h). */
static void decode_piece(struct text_decoder *d, struct text_bytes *word)
{
    for (int i = 0; i < RUN_AT && word->text[0] == '<'; i++) {
        size_t n = run_length(word, runs[i].name);
        if (n > 0) {
            *word = (struct text_bytes){.text = runs[i].text, .len = n};
            d->joined = true;
            return;
        }
    }
    bool before = word->len > 1 && word->text[0] == PIECE_MARK;
    word->text += before;
    word->len -= before;
    bool behind = word->len > 1 && word->text[word->len - 1] == PIECE_MARK;
    word->len -= behind;
    word->blank = !d->joined && !before;
    d->joined = behind;
    size_t n = word->text[0] == '<' ? run_length(word, runs[RUN_AT].name) : 0;
    if (n > 0) {
        word->text = runs[RUN_AT].text;
        word->len = n;
    }
}

static bool is_one_of(const struct text_bytes *word, const char *const *list)
{
    while (*list != NULL && !is(word, *list))
        list++;
    return *list != NULL;
}

/* Takes a word of a text in which blanks set off the punctuation. */
static void decode_word(struct text_decoder *d, struct text_bytes *word)
{
    static const char *const closing[] = {",",   ".",   ";",   ":",   "!",   "?",  ")",  "]",
                                          "}",   "%",   "...", "n't", "'s",  "'t", "'m", "'d",
                                          "'re", "'ve", "'ll", "'S",  "N'T", "'",  "''", NULL};
    static const char *const opening[] = {"(", "[", "{", "``", NULL};
    bool joined = d->joined;
    word->blank = !joined;
    d->joined = false;
    if (d->style == TEXT_DECODE_RAW || vocab_rule(d->vocab).split == TEXT_SPLIT_IDS)
        return;
    if (word->len == 3 && word->text[0] == PIECE_MARK && word->text[2] == PIECE_MARK) {
        *word = (struct text_bytes){.text = word->text + 1, .len = 1}; /* @-@ @,@ @.@ */
        d->joined = true;
    } else if (is(word, "\"")) {
        if (d->quoted)
            word->blank = false;
        d->quoted = !d->quoted;
        d->joined = d->quoted;
    } else if (is_one_of(word, closing)) {
        word->blank = false;
    } else if (is_one_of(word, opening)) {
        d->joined = true;
    }
}

/* Takes a piece of TEXT_SPLIT_SUBWORDS as SentencePiece does. The blank that it has put in front of
 * a line goes, and with `trim` so do all that are there. */
static void decode_subword(struct text_decoder *d, struct text_bytes *word, int64_t id)
{
    const struct text_rule rule = vocab_rule(d->vocab);
    word->text = vocab_surface(d->vocab, id, &word->len);
    enum subword_kind kind = vocab_kind(d->vocab, id);
    bool piece = kind == SUBWORD_TEXT || kind == SUBWORD_HEX || kind == SUBWORD_RAW;
    size_t gone = d->joined && rule.prefix && piece && word->len > 0 && word->text[0] == ' ';
    word->text += gone;
    word->len -= gone;
    if (word->len > 0 || (gone > 0 && !rule.trim))
        d->joined = false;
}

struct text_bytes text_decode(struct text_decoder *d, int64_t id)
{
    struct text_bytes word = {0};
    const struct text_rule rule = vocab_rule(d->vocab);
    enum text_split split = rule.split;
    word.text = vocab_word(d->vocab, id, &word.len);
    if (split == TEXT_SPLIT_BYTES)
        return word;
    if (split != TEXT_SPLIT_IDS && id == vocab_eos(d->vocab)) {
        d->joined = !rule.numbers;
        d->quoted = false;
        return (struct text_bytes){.text = "\n", .len = 1};
    }
    if (split == TEXT_SPLIT_SUBWORDS)
        decode_subword(d, &word, id);
    else if (split == TEXT_SPLIT_PUNCTUATION)
        decode_piece(d, &word);
    else
        decode_word(d, &word);
    return word;
}
