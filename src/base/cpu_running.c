/* Reads the number of running threads from the kernel's line on load. */
#include "base/cpu_running.h"

#include <stdio.h>

int cpu_running_others(const char *loadavg)
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
