/* Runs gnuplot and checks, before any work, that it will be able to draw. */
#include "cmd/bench/plot.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *terminal_of(const char *path)
{
    size_t n = strlen(path);
    if (n > 4 && strcmp(path + n - 4, ".png") == 0)
        return "pngcairo";
    return n > 4 && strcmp(path + n - 4, ".svg") == 0 ? "svg" : NULL;
}

/* Whether a file can be written there. errno says why not. */
static bool can_create(const char *path)
{
    char copy[PATH_MAX];
    if (access(path, F_OK) == 0)
        return access(path, W_OK) == 0;
    snprintf(copy, sizeof copy, "%s", path);
    return access(dirname(copy), W_OK) == 0;
}

enum status plot_check(const char *path, struct error *err)
{
    if (terminal_of(path) == NULL)
        return error_set(err, STATUS_USAGE, "--plot: want FILE.png or FILE.svg, got \"%s\"", path);
    if (!can_create(path))
        return error_set(err, STATUS_CANTCREATE, "--plot: %s: cannot create: %s", path,
                         strerror(errno));
    if (system("command -v gnuplot >/dev/null 2>&1") != 0)
        return error_set(err, STATUS_DEVICE,
                         "--plot: gnuplot is not installed: scripts/deps.sh plot");
    return STATUS_OK;
}

enum status plot_begin(FILE **gnuplot, const char *path, int width, int height, struct error *err)
{
    *gnuplot = popen("gnuplot", "w");
    if (*gnuplot == NULL)
        return error_set(err, STATUS_DEVICE, "cannot start gnuplot: %s", strerror(errno));
    fprintf(*gnuplot, "set terminal %s size %d,%d\nset output '", terminal_of(path), width, height);
    for (const char *c = path; *c != '\0'; c++)
        fprintf(*gnuplot, *c == '\'' ? "''" : "%c", *c);
    fputs("'\n", *gnuplot);
    return STATUS_OK;
}

enum status plot_end(FILE *gnuplot, const char *path, struct error *err)
{
    int code = pclose(gnuplot);
    if (code != 0)
        return error_set(err, STATUS_DEVICE, "%s: gnuplot did not draw it (exit %d)", path,
                         WIFEXITED(code) ? WEXITSTATUS(code) : -1);
    return STATUS_OK;
}
