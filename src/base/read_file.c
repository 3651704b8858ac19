/* Opening and reading of regular files. */
#include "base/read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status check_file(int fd, int64_t *bytes, const char *path, const char *wanted,
                              struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(err, STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, STATUS_NOINPUT, "%s: not a file but a folder; name %s in it", path,
                         wanted);
    if (!S_ISREG(st.st_mode))
        return error_set(err, STATUS_NOINPUT, "%s: not a file", path);
    *bytes = st.st_size;
    return STATUS_OK;
}

enum status read_file_open(int *fd, int64_t *bytes, const char *path, const char *wanted,
                           struct error *err)
{
    /* Without O_NONBLOCK a pipe of that name would block here. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    enum status status = check_file(*fd, bytes, path, wanted, err);
    if (status != STATUS_OK) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

enum status read_file_at(int fd, const char *path, void *to, size_t size, int64_t offset,
                         struct error *err)
{
    char *at = to;
    while (size > 0) {
        ssize_t n = pread(fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, STATUS_IO, "%s: cannot read at byte %lld: %s", path,
                             (long long)offset, strerror(errno));
        if (n == 0)
            return error_set(err, STATUS_DATA, "%s: ends at byte %lld, cut short while it was read",
                             path, (long long)offset);
        at += n;
        size -= (size_t)n;
        offset += n;
    }
    return STATUS_OK;
}
