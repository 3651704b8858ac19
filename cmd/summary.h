/* What a person is told when a training is done: the result, what it took, and what to do next. */
#ifndef DEQ_CMD_SUMMARY_H
#define DEQ_CMD_SUMMARY_H

#include "train/trainer.h"

/* Prints it on stderr. `dir` is the folder of the run, and `seconds` are those of this call. */
void summary_print(const char *dir, double seconds, const struct trainer *t);

/* Writes text as a shell takes it for one word, with quotes where it needs them. It is cut if it is
 * longer than `size`. */
void summary_quote(const char *text, char *out, size_t size);

#endif
