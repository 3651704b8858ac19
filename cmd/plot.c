#include "plot.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

static const char *terminal_of(const char *path)
{
    size_t n = strlen(path);
    if (n > 4 && strcmp(path + n - 4, ".png") == 0)
        return "pngcairo";
    return n > 4 && strcmp(path + n - 4, ".svg") == 0 ? "svg" : NULL;
}

enum status plot_check(const char *path, struct error *err)
{
    if (terminal_of(path) == NULL)
        return error_set(err, STATUS_USAGE, "--plot: want FILE.png or FILE.svg, got \"%s\"", path);
    return STATUS_OK;
}

enum status plot_begin(FILE **gnuplot, const char *path, int width, int height, struct error *err)
{
    TRY(plot_check(path, err));
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
        return error_set(err, STATUS_DEVICE,
                         "%s: gnuplot did not draw it (exit %d): is it installed? "
                         "scripts/deps.sh plot",
                         path, WIFEXITED(code) ? WEXITSTATUS(code) : -1);
    return STATUS_OK;
}
