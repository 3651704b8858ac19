/* Where a token lies in its text. */
#ifndef DEQ_DATA_TEXT_RANGE_H
#define DEQ_DATA_TEXT_RANGE_H

#include <stddef.h>

/* The bytes text[from] .. text[until - 1]. */
struct text_range {
    size_t from, until;
};

#endif
