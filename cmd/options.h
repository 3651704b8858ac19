/* What is common to the command lines of all subcommands, which read theirs with getopt_long. */
#ifndef DEQ_CMD_OPTIONS_H
#define DEQ_CMD_OPTIONS_H

#include "base/status.h"
#include <getopt.h>
#include <stdint.h>

/* Call before the first getopt_long: starts at argv[1], keeps getopt itself silent. The string of
 * short options must begin with ":" ("+:" to stop at the first operand). */
void options_start(void);

/* The complaint about what getopt_long just returned ('?' or ':'): an unknown option, with the
 * nearest known one, or a missing or unwanted value. STATUS_USAGE. */
enum status options_refuse(int returned, char **argv, const struct option *known,
                           struct error *err);

/* A whole number in decimal, min..max. STATUS_USAGE names `option`. */
enum status options_int(const char *option, const char *text, int64_t min, int64_t max,
                        int64_t *out, struct error *err);
/* A finite number in decimal, min..max. */
enum status options_real(const char *option, const char *text, double min, double max, double *out,
                         struct error *err);

#endif
