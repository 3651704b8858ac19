/* Shared libraries that are looked for when they are needed, not when the program starts. */
#ifndef DEQ_BASE_LIBRARY_H
#define DEQ_BASE_LIBRARY_H

#include <stddef.h>

/* Opens the first of these libraries that can be, names[..] ending with NULL: a path, or a name
 * that the loader looks for (the program's own list of folders, LD_LIBRARY_PATH, ld.so.conf, /lib
 * and /usr/lib). It stays open; a second call gives the same. NULL if none can: `tried` then says,
 * for each, why. */
void *library_open(const char *const *names, char *tried, size_t size);

/* The function of that name in the first of these libraries that can be opened; NULL if there is
 * none. */
void *library_function(const char *const *names, const char *function);

/* Defines the function `name`, of result `type`: it calls its namesake in a library of `names`, or
 * gives `otherwise` where there is none. Parameters and arguments stand in parentheses. */
#define LIBRARY_FORWARD(names, type, name, parameters, arguments, otherwise)         \
    type name parameters                                                             \
    {                                                                                \
        static type(*real) parameters;                                               \
        if (real == NULL)                                                            \
            *(void **)&real = library_function(names, #name); /* as POSIX's dlsym */ \
        return real == NULL ? (otherwise) : real arguments;                          \
    }

#endif
