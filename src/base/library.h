/* Shared libraries that are looked for when they are needed, not when the program starts. */
#ifndef DEQ_BASE_LIBRARY_H
#define DEQ_BASE_LIBRARY_H

#include <stddef.h>

/* Opens the first library of names[], which ends with NULL, that can be opened. An entry is a path
 * or a name that the loader searches for (run path of the program, LD_LIBRARY_PATH, ld.so.conf,
 * /lib and /usr/lib). The library stays open, and a second call gives the same handle. Returns NULL
 * if none can be opened, and tried[size] then holds the reason for each. */
void *library_open(const char *const *names, char *tried, size_t size);

/* The address of `function` in the first library of names[] that can be opened. Returns NULL if no
 * library opens or it has no such function. */
void *library_function(const char *const *names, const char *function);

/* Defines the function `name` with result `type`. It calls the function of the same name in a
 * library of `names`, or returns `otherwise` if there is none. `parameters` and `arguments` are
 * given in parentheses. */
#define LIBRARY_FORWARD(names, type, name, parameters, arguments, otherwise)         \
    type name parameters                                                             \
    {                                                                                \
        static type(*real) parameters;                                               \
        if (real == NULL)                                                            \
            *(void **)&real = library_function(names, #name); /* as POSIX's dlsym */ \
        return real == NULL ? (otherwise) : real arguments;                          \
    }

#endif
