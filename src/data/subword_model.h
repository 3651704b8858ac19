/* What a .model file of SentencePiece says, read without the library.
 *
 * The file is a message of Protocol Buffers, of which its pieces and its rules for white space are
 * read here. The library does not tell these rules. What they are needed for is the text form of
 * the vocabulary, with which shards, checkpoints and samples need no library.
 *
 * The text form (vocab.h) has the header of subwords (text_rule.h) and then one piece a line as
 * SentencePiece names it, with U+2581 in place of a blank. A byte is <0x00> to <0xFF>. Behind the
 * name of a piece that is no text stands a tab and what it is:
 *   control  adds nothing to a text, as <s>
 *   unknown  stands for what the model cannot say
 *   hex      the name is its bytes in hex digits, as they hold white space, or read like a byte
 *   raw      the same of a tokenizer.json, where U+2581 among the bytes is no blank
 */
#ifndef DEQ_DATA_SUBWORD_MODEL_H
#define DEQ_DATA_SUBWORD_MODEL_H

#include "base/status.h"
#include "data/text_rule.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUBWORD_BLANK "\xE2\x96\x81" /* U+2581 */

/* What a piece is. Those of the last two kinds are text, as those of the first. */
enum subword_kind {
    SUBWORD_TEXT,
    SUBWORD_BYTE,
    SUBWORD_CONTROL,
    SUBWORD_UNKNOWN,
    SUBWORD_HEX,
    SUBWORD_RAW
};

struct subword_model {
    char *text; /* owns [size], the text form */
    size_t size;
    int64_t pieces;
    uint32_t *width; /* owns [pieces], bytes of text that the piece stands for */
    struct text_rule rule;
    int32_t byte[256];    /* ids of the bytes, -1 for none */
    int32_t sentence_end; /* id of </s>, or -1 */
    int32_t line_end;     /* id of the piece of a line end: a newline, its byte, or </s>; or -1 */
    bool lossless;        /* every text comes back as it was */
    bool blank;           /* a blank alone is a piece */
    bool whole_words;     /* no piece has a blank behind another character */
};

/* Reads model[size]. `name` (a file name) stands in messages. The caller frees *m with
 * subword_model_free, also after an error. Returns STATUS_DATA if the bytes are no model that can
 * be used, or STATUS_NOMEM. */
enum status subword_model_read(struct subword_model *m, const void *model, size_t size,
                               const char *name, struct error *err);
void subword_model_free(struct subword_model *m);

/* What stands behind the name of a piece of this kind, with the tab in front, or "". */
const char *subword_mark(enum subword_kind kind);

/* The value of the two hex digits at `text`, whose letters are capitals, or -1. */
int subword_hex(const char *text);

/* The byte whose piece is named text[len], or -1. */
int subword_byte(const char *text, size_t len);

#endif
