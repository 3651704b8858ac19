/* Writes text in roff, for manual pages with the macros of man(7). */
#ifndef DEQ_CMD_MANUAL_ROFF_H
#define DEQ_CMD_MANUAL_ROFF_H

#include <stdio.h>

/* Sentences as the help has them. A sentence begins a line of the source. What stands in backquotes
 * is set as a command line, options in bold, and words in capitals that are in `values`, such as
 * "FILE DIR N", in italics. Ends with a newline. */
void roff_prose(FILE *out, const char *text, const char *values);
/* Literal text in the font that is set, without a newline. Nothing in it is changed into another
 * character, so that it can be copied. */
void roff_literal(FILE *out, const char *text);
/* The same with a newline. A line of the source is broken at a blank where it would be too long. */
void roff_literal_line(FILE *out, const char *text);
/* A command line as a synopsis has it, without a newline. Words in capitals are in italics,
 * brackets and bars upright, and the rest in bold. */
void roff_usage(FILE *out, const char *text);
/* A command line to be typed, with a newline. It is broken where it is wider than a terminal. */
void roff_example(FILE *out, const char *text);

#endif
