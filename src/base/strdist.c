/* Edit distance by dynamic programming over three rows. */
#include "base/strdist.h"

#include <string.h>

enum { LONGEST = 63 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

int strdist(const char *a, const char *b)
{
    size_t na = strnlen(a, LONGEST), nb = strnlen(b, LONGEST);
    /* Rows i - 2, i - 1 and i of the table of prefix distances. */
    int row[3][LONGEST + 1];
    for (size_t j = 0; j <= nb; j++)
        row[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        const int *before = row[(i + 1) % 3], *last = row[(i - 1) % 3];
        int *now = row[i % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int replace = last[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = least(replace, least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    return row[na % 3][nb];
}

const char *strdist_nearest(const char *name, const char *const *names, size_t count)
{
    const char *best = NULL;
    int least_distance = 0;
    for (size_t i = 0; i < count; i++) {
        int distance = strdist(name, names[i]);
        size_t longer = strlen(name) > strlen(names[i]) ? strlen(name) : strlen(names[i]);
        if (distance > 2 && (size_t)distance * 3 > longer)
            continue;
        if (best == NULL || distance < least_distance) {
            best = names[i];
            least_distance = distance;
        }
    }
    return best;
}
