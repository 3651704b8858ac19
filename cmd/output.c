/* Prints results as JSON and refuses to overwrite files. */
#include "cmd/output.h"

#include "base/mem.h"

#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

void output_json_begin(struct json_writer *w)
{
    json_write_begin(w, false);
    json_write_object(w, NULL);
}

enum status output_json_print(struct json_writer *w, struct error *err)
{
    char *text = NULL;
    json_write_end(w);
    TRY(json_write_finish(w, &text, err));
    puts(text);
    mem_free(text);
    return STATUS_OK;
}

bool output_reader_gone(int fd)
{
    struct pollfd wait = {.fd = fd};
    return poll(&wait, 1, 0) > 0 && (wait.revents & POLLERR) && !(wait.revents & POLLHUP);
}

enum status output_check_new(const char *path, bool force, struct error *err)
{
    struct stat info;
    if (force || lstat(path, &info) != 0)
        return STATUS_OK;
    return error_set(err, STATUS_CANTCREATE, "%s: is there already; --force replaces it", path);
}
