#include "cmd/paths.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#ifndef DEQ_CONFIG_DIR
#define DEQ_CONFIG_DIR "configs"
#endif

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Pipes and devices count: --config /dev/stdin is a file too. */
static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

static bool try_path(char out[PATHS_MAX], const char *folder, const char *name, const char *suffix)
{
    int n = snprintf(out, PATHS_MAX, "%s/%s%s", folder, name, suffix);
    return n > 0 && n < PATHS_MAX && is_file(out);
}

enum status paths_find_config(const char *name, char out[PATHS_MAX], struct error *err)
{
    static const char *const folder[] = {"configs", DEQ_CONFIG_DIR};
    if (strlen(name) >= PATHS_MAX)
        return error_set(err, STATUS_NOINPUT, "%.100s...: name too long", name);
    strcpy(out, name);
    if (is_file(name))
        return STATUS_OK;
    if (strchr(name, '/') != NULL)
        return error_set(err, STATUS_NOINPUT,
                         is_folder(name) ? "%s: a folder; give a configuration in it"
                                         : "%s: no such configuration file",
                         name);
    if (try_path(out, ".", name, ".json"))
        return STATUS_OK;
    for (size_t i = 0; i < sizeof folder / sizeof *folder; i++)
        if (try_path(out, folder[i], name, "") || try_path(out, folder[i], name, ".json"))
            return STATUS_OK;
    bool same = strcmp(folder[0], folder[1]) == 0;
    return error_set(err, STATUS_NOINPUT,
                     "%s: no such configuration file, here or in ./configs%s%s (nor with .json)",
                     name, same ? "" : " or ", same ? "" : folder[1]);
}

void paths_config_name(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".json") == 0)
        n -= 5;
    snprintf(out, size, "%.*s", (int)n, base);
}

enum status paths_check_new(const char *path, bool force, struct error *err)
{
    struct stat info;
    if (force || lstat(path, &info) != 0)
        return STATUS_OK;
    return error_set(err, STATUS_CANTCREATE, "%s: is there already; --force replaces it", path);
}
