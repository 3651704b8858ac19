/* Reads the quota of processor time from the files of control groups. */
#include "base/cpu_quota.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

/* Reads the first words of DIR/NAME as numbers. Returns how many there were. */
static int read_numbers(const char *dir, const char *name, double *a, double *b)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "re");
    int count = file != NULL ? fscanf(file, "%lf %lf", a, b) : 0;
    if (file != NULL)
        fclose(file);
    return count < 0 ? 0 : count;
}

/* The quota that the folder of one group sets, or 0. */
static double quota_of(const char *dir)
{
    double quota = 0, period = 0, ignored;
    /* "max 100000" is no quota, and no number. */
    if (read_numbers(dir, "cpu.max", &quota, &period) == 2 && period > 0)
        return quota / period;
    if (read_numbers(dir, "cpu.cfs_quota_us", &quota, &ignored) == 1 && quota > 0 &&
        read_numbers(dir, "cpu.cfs_period_us", &period, &ignored) == 1 && period > 0)
        return quota / period;
    return 0;
}

/* Lowers *least to the quotas of the group at `path` and of those above it. In a container the path
 * may be one that only the host has, and then the quota is that of `root` itself. */
static void look_upwards(const char *root, const char *path, double *least)
{
    char dir[PATH_BYTES];
    int n = snprintf(dir, sizeof dir, "%s%s", root, path);
    if (n < 0 || n >= PATH_BYTES)
        return;
    for (;;) {
        double quota = quota_of(dir);
        if (quota > 0 && (*least == 0 || quota < *least))
            *least = quota;
        char *slash = strrchr(dir, '/');
        if (slash == NULL || (size_t)(slash - dir) < strlen(root))
            return;
        *slash = '\0';
    }
}

/* Whether "cpu" is in a list such as "cpu,cpuacct". */
static bool names_cpu(const char *list)
{
    for (const char *p = list; *p != '\0'; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == 3 && strncmp(p, "cpu", 3) == 0)
            return true;
    return false;
}

double cpu_quota(const char *groups, const char *root)
{
    char line[PATH_BYTES], base[PATH_BYTES];
    double least = 0;
    FILE *file = fopen(groups, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':'), *path = list != NULL ? strchr(list + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        list++;
        if (*list != '\0' && !names_cpu(list))
            continue;
        int n = snprintf(base, sizeof base, "%s%s%s", root, *list != '\0' ? "/" : "", list);
        if (n > 0 && n < PATH_BYTES)
            look_upwards(base, path, &least);
        n = snprintf(base, sizeof base, "%s/cpu", root);
        if (*list != '\0' && n > 0 && n < PATH_BYTES)
            look_upwards(base, path, &least);
    }
    if (file != NULL)
        fclose(file);
    return least;
}
