/* No line editor: the build found no libedit. */
#include "cmd/sample/editor.h"

enum status editor_open(struct editor **out, int interrupts, struct error *err)
{
    (void)interrupts;
    (void)err;
    *out = NULL;
    return STATUS_OK;
}

void editor_close(struct editor *e)
{
    (void)e;
}

enum status editor_read(struct editor *e, const char *prompt, const char **line, size_t *size,
                        struct error *err)
{
    (void)e;
    (void)prompt;
    (void)size;
    *line = NULL;
    return error_set(err, STATUS_INTERNAL, "this build has no line editor");
}
