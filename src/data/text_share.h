/* Draws a validation and a test text from a training text.
 *
 * The units that are drawn are whole paragraphs if at least ten are, or else lines. A
 * paragraph is lines that are not blank, with the blank lines behind them. The N units are divided
 * into as many stretches of equal length as units are to be drawn, and each stretch gives one. The
 * share thus holds in short texts, and in every part of long ones. Each part keeps the order of the
 * text, and no unit is lost or in two parts.
 */
#ifndef DEQ_DATA_TEXT_SHARE_H
#define DEQ_DATA_TEXT_SHARE_H

#include "data/text_source.h"

enum text_part { PART_REST, PART_VALID, PART_TEST, PARTS };

/* What was drawn. */
struct text_drawn {
    bool paragraphs;      /* the units, or else lines */
    int64_t units;        /* of the text */
    int64_t drawn[PARTS]; /* units of each part */
    int64_t bytes[PARTS];
};

/* Writes the parts of `text` to spools in folder `dir`. share[PART_VALID] and share[PART_TEST] are
 * above 0 and below 1, or 0 for no such part, whose out[] then holds nothing. The caller closes all
 * out[PARTS] with text_source_close. The same text, shares and seed give the same parts. Returns
 *   - STATUS_DATA if the text has too few units
 *   - STATUS_IO, STATUS_NOINPUT, STATUS_CANTCREATE or STATUS_NOMEM */
enum status text_share(const struct text_source *text, const double share[PARTS], uint64_t seed,
                       const char *dir, struct text_source out[PARTS], struct text_drawn *drawn,
                       struct error *err);

#endif
