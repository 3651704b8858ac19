/* Fits a line of fields into a window. */
#include "cmd/progress_line.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The columns of a terminal that does not tell. */
enum { WIDTH_UNKNOWN = 80 };

void progress_line_add(struct progress_line *line, int rank, const char *format, ...)
{
    va_list args;
    assert(line->count < PROGRESS_FIELDS_MAX);
    va_start(args, format);
    vsnprintf(line->field[line->count].text, PROGRESS_FIELD_MAX, format, args);
    va_end(args);
    line->field[line->count++].rank = rank;
}

/* Writes the fields up to this rank. Returns their length. */
static int write_fields(const struct progress_line *line, int rank, char out[PROGRESS_LINE_MAX])
{
    const char *between = line->between != NULL ? line->between : "  ";
    int n = 0;
    out[0] = '\0';
    for (int i = 0; i < line->count; i++)
        if (line->field[i].rank <= rank && n < PROGRESS_LINE_MAX)
            n += snprintf(out + n, PROGRESS_LINE_MAX - (size_t)n, "%s%s", n > 0 ? between : "",
                          line->field[i].text);
    return n;
}

void progress_line_write(const struct progress_line *line, int width, char out[PROGRESS_LINE_MAX])
{
    int rank = 0;
    for (int i = 0; i < line->count; i++)
        rank = line->field[i].rank > rank ? line->field[i].rank : rank;
    while (write_fields(line, rank, out) > width && width > 0 && rank > 0)
        rank--;
    if (width > 0 && width < PROGRESS_LINE_MAX)
        out[width] = '\0';
}

int progress_line_width(void)
{
    struct winsize size;
    bool told = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    /* some terminals wrap when the last column is filled */
    return (told ? size.ws_col : WIDTH_UNKNOWN) - 1;
}
