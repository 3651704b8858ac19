/* Looks at a text, to choose how its words are divided. */
#ifndef DEQ_DATA_TEXT_LOOK_H
#define DEQ_DATA_TEXT_LOOK_H

#include "data/text_rule.h"
#include "data/text_source.h"

/* Why a split was chosen. The first three choose blanks, the last punctuation. */
enum text_look {
    LOOK_MADE,  /* the text has words <unk> or <eos>, as one that was divided already */
    LOOK_APART, /* blanks set off most of its punctuation that ends a word */
    LOOK_PLAIN, /* no punctuation ends a word */
    LOOK_PROSE  /* most punctuation that ends a word is attached to it */
};

enum { TEXT_LOOK_BYTES = 1 << 20 /* of the text that are looked at */ };

/* Looks at the beginning of a text that can be read again. Returns STATUS_NOINPUT, STATUS_IO or
 * STATUS_NOMEM. What of the text is no UTF-8 is not looked at. */
enum status text_look(const struct text_source *text, enum text_look *found, struct error *err);

enum text_split text_look_split(enum text_look look);

/* The reason as the end of a sentence, "since the text ...". */
const char *text_look_reason(enum text_look look);

#endif
