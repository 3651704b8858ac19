/* What every manual page consists of. */
#ifndef DEQ_CMD_MANUAL_PAGE_H
#define DEQ_CMD_MANUAL_PAGE_H

#include <stdio.h>

/* The title with its section, and the line that apropos(1) finds. */
void page_begin(FILE *out, const char *name, int section, const char *summary);
/* A heading by the macro ".SH", which is set in capitals, or ".SS". */
void page_section(FILE *out, const char *macro, const char *title);
/* Paragraphs that a newline divides. `values` as roff_prose takes them. */
void page_paragraphs(FILE *out, const char *text, const char *values);
/* A file of the section FILES. Words in capitals in its name are in italics. */
void page_file(FILE *out, const char *name, const char *help);
/* Command lines, ended by NULL. */
void page_examples(FILE *out, const char *const *lines);

#endif
