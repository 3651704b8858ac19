/* Error messages and what statuses mean. */
#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *status_text(enum status status)
{
    switch (status) {
#define X(name, code, text) \
    case STATUS_##name:     \
        return text;
        STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

/* Names and words in a message may come from a hostile file. They must not move the cursor of a
 * terminal or begin another line. */
static void make_printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f; /* U+0080 .. U+009F */
        if (*p < ' ' || *p == 0x7f || c1)
            *p = '?';
        if (c1)
            p[1] = '?';
    }
}

enum status error_set(struct error *err, enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err->status = status;
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    make_printable(err->text);
    return status;
}

void error_prefix(struct error *err, const char *format, ...)
{
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof err->text)
        return;
    snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
    make_printable(err->text);
}
