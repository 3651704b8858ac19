/* Opening of shared libraries by dlopen. */
#include "base/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *library_open(const char *const *names, char *tried, size_t size)
{
    size_t used = 0;
    tried[0] = '\0';
    for (; *names != NULL; names++) {
        void *library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
        if (library != NULL)
            return library;
        const char *why = dlerror();
        snprintf(tried + used, size - used, "%s%s", used > 0 ? "; " : "",
                 why != NULL ? why : *names);
        used += strlen(tried + used);
    }
    return NULL;
}

void *library_function(const char *const *names, const char *function)
{
    char unwanted[8];
    void *library = library_open(names, unwanted, sizeof unwanted);
    return library == NULL ? NULL : dlsym(library, function);
}
