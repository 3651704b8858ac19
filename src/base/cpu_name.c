/* Reads the name of the processor from /proc/cpuinfo. */
#include "base/cpu_name.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

void cpu_name(char out[CPU_NAME_MAX])
{
    char line[256];
    struct utsname machine;
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, CPU_NAME_MAX, "%s", uname(&machine) == 0 ? machine.machine : "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *name = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (name == NULL)
            continue;
        name += 1 + strspn(name + 1, " ");
        snprintf(out, CPU_NAME_MAX, "%.*s", (int)strcspn(name, "\n"), name);
        break;
    }
    if (file != NULL)
        fclose(file);
}
