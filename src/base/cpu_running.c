/* Reads the number of running threads from the kernel's line on load. */
#include "base/cpu_running.h"

#include <stdio.h>
#include <time.h>

/* Looks, and nanoseconds between two of them. What runs for a moment only is not there in all. */
enum { LOOKS = 6, PAUSE = 20000000 };

static int look(const char *loadavg)
{
    int running = 0;
    FILE *file = fopen(loadavg, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*f %*f %*f %d/", &running) != 1)
        running = 0;
    fclose(file);
    return running > 1 ? running - 1 : 0;
}

int cpu_running_others(const char *loadavg)
{
    int least = look(loadavg);
    for (int i = 1; i < LOOKS && least > 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = PAUSE}, NULL);
        int now = look(loadavg);
        least = now < least ? now : least;
    }
    return least;
}
