/* Finds the checkpoint that a command line means. */
#include "cmd/find_checkpoint.h"

#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Writes the path of the run's checkpoint to `out`. Returns false if there is none. */
static bool find_in_run(const char *dir, char out[PATHS_MAX], struct stat *info)
{
    static const char *const names[] = {"best.bin", "last.bin"};
    for (int i = 0; i < 2; i++) {
        int n = snprintf(out, PATHS_MAX, "%s/%s", dir, names[i]);
        if (n > 0 && n < PATHS_MAX && stat(out, info) == 0)
            return true;
    }
    return false;
}

static bool is_newer(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* Finds the newest one under ./runs. */
static enum status find_newest(char out[PATHS_MAX], struct error *err)
{
    glob_t found;
    struct timespec newest = {0};
    char path[PATHS_MAX];
    struct stat info;
    out[0] = '\0';
    if (glob("runs/*", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            if (!find_in_run(found.gl_pathv[i], path, &info) || !is_newer(&info.st_mtim, &newest))
                continue;
            newest = info.st_mtim;
            strcpy(out, path);
        }
        globfree(&found);
    }
    if (out[0] != '\0')
        return STATUS_OK;
    return error_set(err, STATUS_NOINPUT,
                     "no runs/*/best.bin or last.bin here; name one with "
                     "--checkpoint, or train a model");
}

/* Takes last.bin where best.bin is named and missing. */
static enum status find_named(const char *name, char out[PATHS_MAX], struct error *err)
{
    static const char best[] = "best.bin";
    size_t len = strlen(name), folder = len < sizeof best - 1 ? 0 : len - (sizeof best - 1);
    struct stat info;
    if (len >= PATHS_MAX)
        return error_set(err, STATUS_NOINPUT, "%.100s...: path too long", name);
    strcpy(out, name);
    if (stat(name, &info) == 0 || strcmp(name + folder, best) != 0 ||
        (folder > 0 && name[folder - 1] != '/'))
        return STATUS_OK;
    strcpy(out + folder, "last.bin");
    if (stat(out, &info) != 0)
        strcpy(out, name);
    return STATUS_OK;
}

enum status find_checkpoint(const char *name, char out[PATHS_MAX], struct error *err)
{
    struct stat info;
    if (name == NULL) {
        TRY(find_newest(out, err));
    } else if (stat(name, &info) == 0 && S_ISDIR(info.st_mode)) {
        if (!find_in_run(name, out, &info))
            return error_set(err, STATUS_NOINPUT, "%s: a folder without best.bin or last.bin",
                             name);
    } else {
        TRY(find_named(name, out, err));
    }
    if (name == NULL || strcmp(name, out) != 0)
        fprintf(stderr, "using %s\n", out);
    return STATUS_OK;
}
