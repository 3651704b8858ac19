/* The tokens of a text of any length, read in bounded memory from a file or from standard input.
 *
 * The text is divided as deq tokenize divides it, under the rule of the vocabulary. A last line
 * without a newline ends with <eos> too, where tokens are words.
 *
 * Where a text is given by the numbers of its tokens (text_rule.h), a line of numbers is a text,
 * and the bytes, words and pieces are those of the text that they stand for. */
#ifndef DEQ_DATA_TEXT_READER_H
#define DEQ_DATA_TEXT_READER_H

#include "data/text_source.h"
#include "data/vocab.h"

struct text_reader;

/* A token and the bytes of the text that it stands for. */
struct text_token {
    int32_t id;       /* -1 for a line end that the vocabulary has no token for */
    bool line_end;    /* a newline, or the end of a text that does not end with one */
    bool unknown;     /* a word that the vocabulary lacks, or <unk> itself */
    int64_t bytes;    /* its own and those of white space before it */
    const char *text; /* its own bytes, of a line end none, not NUL-terminated */
    size_t len;
};

/* The text of a file, or of standard input where path is -. */
struct text_source text_reader_source(const char *path);

/* Begins a reading for a vocabulary. Source and vocabulary are borrowed. The caller frees *out with
 * text_reader_close. *out is NULL on error. Returns STATUS_NOINPUT, STATUS_IO or STATUS_NOMEM, and
 * STATUS_DATA for a vocabulary that divides no text, of ids or without its model of subwords. */
enum status text_reader_open(struct text_reader **out, const struct text_source *source,
                             const struct vocab *vocab, struct error *err);

/* The next *count tokens of the text in order, none at its end. They are valid until the next call.
 * Returns STATUS_DATA, naming file and line,
 *   - for a word outside the vocabulary if there is no <unk>, and for what subwords_encode refuses
 *   - for NUL and invalid UTF-8, and for a word of megabytes, unless tokens are bytes
 * or STATUS_IO, STATUS_NOMEM, and the other statuses of subwords_encode. */
enum status text_reader_next(struct text_reader *r, const struct text_token **tokens, int *count,
                             struct error *err);

/* Of the text so far, the bytes, and the words as white space separates them. */
int64_t text_reader_bytes(const struct text_reader *r);
int64_t text_reader_words(const struct text_reader *r);

/* The token that stands for a line's beginning, as context of its first one. It is <eos> or the
 * newline byte, -1 if the vocabulary has neither. */
int32_t text_line_start(const struct vocab *vocab);

/* NULL is allowed. */
void text_reader_close(struct text_reader *r);

#endif
