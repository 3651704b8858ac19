/* The rule of a vocabulary, which says how a text is divided into its words.
 *
 * A vocabulary of words carries its rule in its text form, as a header line before the words:
 *
 *   # split: punctuation
 *   # split: punctuation, lower
 *   # split: blanks, lower
 *   # split: ids
 *   # split: ids, end 50256
 *   # split: subwords, 0123456789abcdef
 *   # split: subwords, 0123456789abcdef, prefix
 *   # split: subwords, 0123456789abcdef, prefix, trim
 *   # split: subwords, 0123456789abcdef, numbers
 *   # split: subwords, 0123456789abcdef, prefix, numbers
 *
 * The number of subwords is the hash of the model that divides texts into them (subwords.h).
 * "prefix" says that it puts a blank in front of every line, and "trim" that blanks in front of a
 * line are lost. "numbers" says that the pieces are those of a tokenizer.json, with which this
 * program can only decode: a text is given as the numbers of its tokens, and "prefix" is then
 * about the first line of a text. The line cannot be a word, since it holds blanks. A vocabulary
 * without a header divides at blanks only and leaves letters as they are. pieces.h says what each
 * split does.
 */
#ifndef DEQ_DATA_TEXT_RULE_H
#define DEQ_DATA_TEXT_RULE_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum text_split {
    TEXT_SPLIT_BLANKS,      /* words are what ASCII white space separates */
    TEXT_SPLIT_PUNCTUATION, /* punctuation is divided from words, reversibly */
    TEXT_SPLIT_SUBWORDS,    /* a model of SentencePiece divides lines into pieces of words */
    TEXT_SPLIT_BYTES,       /* every byte is a token, the rule of the byte vocabulary */
    TEXT_SPLIT_IDS          /* tokens are numbers, whose text only another program knows */
};

struct text_rule {
    enum text_split split;
    bool lower;  /* A..Z become a..z first, and other letters stay as they are */
    int64_t end; /* TEXT_SPLIT_IDS only, the id that ends a text, or -1 */
    /* The fields below are those of subwords. */
    bool prefix, trim, numbers;
    uint64_t model; /* XXH3 (64 bits) of the bytes of the .model file, or of tokenizer.json */
};

enum { TEXT_RULE_LINE = 64 /* bytes of a header line with its newline and a NUL */ };

/* Whether a vocabulary's first line is a header, which begins with # and a blank, and no word. */
bool text_rule_is_header(const char *line, size_t len);

/* Reads the header line[len], without its line end. `name` (a file name) stands in messages.
 * Returns STATUS_DATA for anything but the forms above. */
enum status text_rule_read(struct text_rule *rule, const char *line, size_t len, const char *name,
                           struct error *err);

/* Writes the header with its newline, or "" for a rule that needs none. Returns its length. */
size_t text_rule_write(const struct text_rule *rule, char out[TEXT_RULE_LINE]);

/* The name of a split, "blanks", "punctuation", "subwords", "bytes" or "ids". */
const char *text_split_name(enum text_split split);

#endif
