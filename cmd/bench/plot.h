/* Plots by gnuplot, which is asked for only when one is wanted. */
#ifndef DEQ_CMD_BENCH_PLOT_H
#define DEQ_CMD_BENCH_PLOT_H

#include "base/status.h"
#include <stdio.h>

/* Checks --plot before any work. STATUS_USAGE unless the name ends with .png or .svg,
 * STATUS_CANTCREATE where nothing can be written, STATUS_DEVICE without gnuplot. */
enum status plot_check(const char *path, struct error *err);
/* Starts a gnuplot that draws to `path`. The caller writes commands to it. STATUS_DEVICE. */
enum status plot_begin(FILE **gnuplot, const char *path, int width, int height, struct error *err);
/* Waits for gnuplot to end. STATUS_DEVICE if it did not draw. */
enum status plot_end(FILE *gnuplot, const char *path, struct error *err);

#endif
