/* Finding where a growing text is to end, by texts that must not stand in it. */
#ifndef DEQ_GENERATE_STOP_TEXT_H
#define DEQ_GENERATE_STOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct stop_text {
    const char *const *text; /* borrows [count], none of them empty */
    int count;
};

/* Looks for the first stop text in text[len] that ends behind `known`, the length when it was last
 * looked at, and begins at `from` or later. Returns its index, and in *at where it begins, or -1.
 * Of those that begin at the same place the first in the list is meant. */
int stop_text_find(const struct stop_text *s, const char *text, size_t len, size_t from,
                   size_t known, size_t *at);

/* The bytes at the end of text[len], from `from` on, that may be the beginning of a stop text. They
 * must not be shown before more is known. */
size_t stop_text_pending(const struct stop_text *s, const char *text, size_t len, size_t from);

#endif
