/* Says what a training takes. */
#include "cmd/estimate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void estimate_count(int64_t count, char out[ESTIMATE_COUNT_MAX])
{
    char digits[ESTIMATE_COUNT_MAX];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)count), at = 0;
    for (size_t i = 0; i < n; i++) {
        bool border = i > 0 && digits[i - 1] != '-' && (n - i) % 3 == 0;
        if (border)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
}

void estimate_duration(double seconds, char out[ESTIMATE_COUNT_MAX])
{
    static const struct {
        double from, large, small; /* seconds: from which it is used, and of its two units */
        const char *large_name, *small_name;
    } scale[] = {{100 * 3600.0, 86400, 3600, "days", "h"},
                 {3600, 3600, 60, "h", "min"},
                 {60, 60, 1, "min", "s"}};
    double whole = round(fmax(seconds, 0));
    for (size_t i = 0; i < sizeof scale / sizeof *scale; i++) {
        double units = round(whole / scale[i].small), each = scale[i].large / scale[i].small;
        if (whole < scale[i].from)
            continue;
        int n =
            snprintf(out, ESTIMATE_COUNT_MAX, "%.0f %s", floor(units / each), scale[i].large_name);
        if (fmod(units, each) > 0)
            snprintf(out + n, ESTIMATE_COUNT_MAX - (size_t)n, " %.0f %s", fmod(units, each),
                     scale[i].small_name);
        return;
    }
    snprintf(out, ESTIMATE_COUNT_MAX, "%.0f s", whole);
}

void estimate_bytes(double bytes, char out[ESTIMATE_COUNT_MAX])
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    /* 1023.6 MiB would round to the four digits of 1024 */
    for (; i < 4 && bytes >= 1023.5; i++)
        bytes /= 1024;
    snprintf(out, ESTIMATE_COUNT_MAX, i > 0 && bytes < 9.95 ? "%.1f %s" : "%.0f %s", bytes,
             unit[i]);
}

double estimate_machine(const struct backend *be)
{
    if (be->device_free > 0)
        return (double)be->device_free;
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

void estimate_text(const struct estimate *e, char out[ESTIMATE_MAX])
{
    char steps[ESTIMATE_COUNT_MAX], tokens[ESTIMATE_COUNT_MAX], time[ESTIMATE_COUNT_MAX];
    char bytes[ESTIMATE_COUNT_MAX], machine[ESTIMATE_COUNT_MAX];
    bool timed = isfinite(e->seconds);
    const char *where = e->where != NULL ? e->where : "here";
    estimate_count(e->steps, steps);
    estimate_count(e->tokens, tokens);
    estimate_bytes(e->bytes, bytes);
    estimate_bytes(e->machine, machine);
    if (timed)
        estimate_duration(e->seconds, time);
    snprintf(out, ESTIMATE_MAX, "%s step%s of %s token%s: %s%s%s%s%s%s of %s", steps,
             e->steps == 1 ? "" : "s", tokens, e->tokens == 1 ? "" : "s", timed ? "about " : "",
             timed ? time : "", timed ? " " : "", timed ? where : "", timed ? "; " : "", bytes,
             machine);
}
