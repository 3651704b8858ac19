#include "options.h"

#include "base/strdist.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64 };

void options_start(void)
{
    optind = 0; /* glibc: forget the state of an earlier scan */
    opterr = 0;
}

enum status options_refuse(int returned, char **argv, const struct option *known, struct error *err)
{
    const char *arg = argv[optind - 1];
    if (strncmp(arg, "--", 2) != 0) {
        const char *what = returned == ':' ? "wants a value" : "unknown option; see --help";
        return error_set(err, STATUS_USAGE, "-%c: %s", optopt, what);
    }
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg, "="), arg);
    if (returned == ':')
        return error_set(err, STATUS_USAGE, "%s: wants a value", name);
    const char *names[MAX_OPTIONS];
    size_t count = 0, same = 0;
    for (; known[count].name != NULL && count < MAX_OPTIONS; count++) {
        names[count] = known[count].name;
        same += strncmp(name + 2, names[count], strlen(name + 2)) == 0;
        if (strcmp(name + 2, names[count]) == 0)
            return error_set(err, STATUS_USAGE, "%s: takes no value", name);
    }
    if (same > 1)
        return error_set(err, STATUS_USAGE, "%s: more than one option begins so; see --help", name);
    const char *nearest = strdist_nearest(name + 2, names, count);
    if (nearest == NULL)
        return error_set(err, STATUS_USAGE, "%s: unknown option; see --help", name);
    return error_set(err, STATUS_USAGE, "%s: unknown option; did you mean --%s?", name, nearest);
}

enum status options_int(const char *option, const char *text, int64_t min, int64_t max,
                        int64_t *out, struct error *err)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool digits = strspn(text, "-0123456789") == strlen(text);
    if (!digits || end == text || *end != '\0' || errno != 0 || value < min || value > max)
        return error_set(err, STATUS_USAGE, "%s: want an integer in %lld..%lld, got \"%.100s\"",
                         option, (long long)min, (long long)max, text);
    *out = value;
    return STATUS_OK;
}

enum status options_real(const char *option, const char *text, double min, double max, double *out,
                         struct error *err)
{
    char *end = NULL;
    double value = strtod(text, &end);
    bool digits = strspn(text, "+-.eE0123456789") == strlen(text);
    if (!digits || end == text || *end != '\0' || !(value >= min && value <= max) ||
        !isfinite(value))
        return error_set(err, STATUS_USAGE, "%s: want a number in %g..%g, got \"%.100s\"", option,
                         min, max, text);
    *out = value;
    return STATUS_OK;
}
