/* A line of fields, of which the less important ones are left out where the window is narrow. */
#ifndef DEQ_CMD_PROGRESS_LINE_H
#define DEQ_CMD_PROGRESS_LINE_H

#include <stddef.h>

enum { PROGRESS_FIELDS_MAX = 16, PROGRESS_FIELD_MAX = 64, PROGRESS_LINE_MAX = 512 };

struct progress_line {
    const char *between; /* borrows, what stands between fields, or NULL for two spaces */
    int count;
    struct {
        int rank; /* those with the highest rank go first, and rank 0 stays */
        char text[PROGRESS_FIELD_MAX];
    } field[PROGRESS_FIELDS_MAX];
};

/* Adds a formatted field behind the others. */
void progress_line_add(struct progress_line *line, int rank, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Writes the fields that fit into `width` columns or all of them if
 * width is 0. What is left is cut where even the fields of rank 0 do not fit. */
void progress_line_write(const struct progress_line *line, int width, char out[PROGRESS_LINE_MAX]);
/* The columns that a line on the terminal of standard error may have, so that it does not wrap. */
int progress_line_width(void);

#endif
