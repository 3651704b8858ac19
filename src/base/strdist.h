/* How far two names are apart, to name the nearest one in a complaint about an unknown one. */
#ifndef DEQ_BASE_STRDIST_H
#define DEQ_BASE_STRDIST_H

#include <stddef.h>

/* Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal
 * string alignment), in bytes. Only the first 63 bytes of each are compared. */
int strdist(const char *a, const char *b);

/* The nearest of names[count] to `name`, or NULL if none is near: more than a third of the longer
 * name, and more than 2, would have to change. The first of equals. */
const char *strdist_nearest(const char *name, const char *const *names, size_t count);

#endif
