/* The division of a text into the tokens of a word vocabulary.
 *
 * Counting, tokenising and prompts all divide their texts here. Each line becomes its pieces and
 * then a line end, which is <eos>. White space is that of ASCII (space, \t \v \f \r and \n).
 *
 * TEXT_SPLIT_BLANKS: a piece is a run of bytes other than white space, and white space is lost.
 *
 * TEXT_SPLIT_IDS: the same, and line ends are white space too.
 *
 * TEXT_SPLIT_PUNCTUATION: a line can be put together again from its pieces, byte for byte
 * (text_decode.h).
 *   - A word is a run of letters, marks and digits (Unicode classes L, M and N) and of _. An
 *     apostrophe (' or U+2019) between two of these characters belongs to the word.
 *   - Any other character but white space is punctuation. A run of one and the same character is
 *     one piece, of at most PIECE_RUN characters.
 *   - Between two pieces there is one blank, unless a mark @ says that there is nothing. The mark
 *     stands in front of a punctuation piece that follows a piece directly, and behind one that a
 *     word follows directly. `"Hello," he said: well-known` becomes
 *     `"@ Hello @, @" he said @: well @-@ known`.
 *   - White space that is not one blank between two pieces is pieces of its own: runs of one
 *     character, of at most PIECE_RUN. They are spelled <sp>, <tab>, <vt>, <ff> and <cr>, and with
 *     their number if it is not one, as in <sp4>. There is no blank before or behind them.
 *   - Runs of the character @ are spelled <at>, <at2>, ... with marks like other punctuation. These
 *     spellings, <eos> and <unk> cannot come from a text, since < is a piece of its own.
 *   - The carriage return of a line end of CR LF is left out.
 */
#ifndef DEQ_DATA_PIECES_H
#define DEQ_DATA_PIECES_H

#include "data/text_rule.h"
#include "data/word.h"

#define PIECE_MARK '@'

enum {
    PIECE_RUN = 16,                    /* characters of punctuation or white space in one piece */
    PIECE_SPELLED = 4 * PIECE_RUN + 2, /* bytes of such a piece with its marks */
};

/* A text under way, and the pieces that pieces_next found last. */
struct pieces {
    const char *at, *end; /* what is left of the text */
    enum text_split split;
    bool attached; /* at > the start, and no white space lies between the last piece and `at` */
    bool open;     /* the text is to be continued (pieces_begin_open) */

    int count;                     /* at most WORD_BATCH */
    struct word word[WORD_BATCH];  /* as they stand in a vocabulary, a line end has length 0 */
    const char *from[WORD_BATCH];  /* where each begins in the text */
    const char *until[WORD_BATCH]; /* where it ends, a line end with its newline */
    int64_t lines, words; /* of the whole text so far: line ends, and what white space separates */
    char spelled[WORD_BATCH][PIECE_SPELLED + WORD_PADDING];
};

/* The last place where text[size] may be cut in two that are divided one after the other, counted
 * in bytes from its start. It lies behind white space, which no other white space follows unless it
 * is a newline or split is TEXT_SPLIT_BLANKS. Returns 0 if there is none. */
size_t pieces_cut(enum text_split split, const char *text, size_t size);

/* Begins the division of text[size], which is borrowed. It is UTF-8 without NUL (or, with
 * TEXT_SPLIT_BLANKS, any bytes but NUL), is followed by white space or ends with it, and then by
 * WORD_PADDING readable bytes. A text that does not end with a newline ends where pieces_cut found
 * a place. */
void pieces_begin(struct pieces *p, enum text_split split, const char *text, size_t size);

/* The same for a text whose end is to be continued with words. An opening bracket or a quotation
 * mark at its very end, with a blank or nothing before it, belongs to what follows. */
void pieces_begin_open(struct pieces *p, enum text_split split, const char *text, size_t size);

/* Finds the next pieces, at most WORD_BATCH. Returns false if there are no more. The words borrow
 * from the text and from *p, until the next call. */
bool pieces_next(struct pieces *p);

#endif
