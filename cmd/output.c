#include "cmd/output.h"

#include "base/mem.h"

#include <stdio.h>

void report_json_begin(struct json_writer *w)
{
    json_write_begin(w, false);
    json_write_object(w, NULL);
}

enum status report_json_print(struct json_writer *w, struct error *err)
{
    char *text = NULL;
    json_write_end(w);
    TRY(json_write_finish(w, &text, err));
    puts(text);
    mem_free(text);
    return STATUS_OK;
}
