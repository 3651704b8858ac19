/* Token ids as text, one after the other as they come.
 *
 * What a token adds is known when it comes: blanks that separate it from the token before it, and
 * its own bytes. <eos> is a newline, and <unk> is the word <unk>. The rule of the vocabulary says
 * how (vocab_rule, pieces.h):
 *   - TEXT_SPLIT_BYTES: a token is its byte.
 *   - TEXT_SPLIT_SUBWORDS: what SentencePiece's own decoder gives for each line, except that bytes
 *     that are no UTF-8 stay as they are.
 *   - TEXT_SPLIT_PUNCTUATION: exactly the text that was encoded.
 *   - TEXT_SPLIT_IDS: numbers, each behind a blank, the one that ends a text too.
 *   - TEXT_SPLIT_BLANKS: words are joined by one blank. With TEXT_DECODE_PRETTY a text that sets
 *     its punctuation off by blanks, as WikiText, Moses and the Penn Treebank do, looks like text
 *     again, which is a guess for the eye.
 * A decoder begins at the start of a line. It holds no memory, and a copy of it is one that goes on
 * from the same place.
 */
#ifndef DEQ_DATA_TEXT_DECODE_H
#define DEQ_DATA_TEXT_DECODE_H

#include "data/vocab.h"

enum text_decode_style {
    TEXT_DECODE_RAW,   /* as it was encoded, or words as the vocabulary has them */
    TEXT_DECODE_PRETTY /* no blank before , . ; : ! ? ) ] 's n't, nor after ( [, @-@ and @,@
                          without marks and blanks, and quotation marks close to what they quote */
};

struct text_decoder {
    const struct vocab *vocab; /* borrows */
    enum text_decode_style style;
    bool joined; /* the next token follows without a blank */
    bool quoted; /* TEXT_DECODE_PRETTY of blanks: a quotation mark is open in this line */
};

/* What a token adds to a text: a blank if `blank`, and then text[len]. It borrows from the
 * vocabulary, or from constants, and is not NUL-terminated. */
struct text_bytes {
    bool blank;
    const char *text;
    size_t len;
};

struct text_decoder text_decoder_begin(const struct vocab *v, enum text_decode_style style);

/* The bytes of token `id` (0 <= id < V), behind those that were taken before. */
struct text_bytes text_decode(struct text_decoder *d, int64_t id);

#endif
