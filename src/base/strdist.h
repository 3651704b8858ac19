/* The edit distance of two names, to suggest the nearest one for an unknown one. */
#ifndef DEQ_BASE_STRDIST_H
#define DEQ_BASE_STRDIST_H

#include <stddef.h>

/* The number of insertions, deletions, replacements and swaps of neighbouring bytes that turn `a`
 * into `b` (optimal string alignment). Only the first 63 bytes of each are compared. */
int strdist(const char *a, const char *b);

/* The nearest of names[count] to `name`, and the first one among equals. A name is not suggested if
 * its distance is above 2 and above a third of the longer name. Returns NULL if none is left. */
const char *strdist_nearest(const char *name, const char *const *names, size_t count);

#endif
