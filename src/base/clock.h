/* Time for measurements and deadlines. */
#ifndef DEQ_BASE_CLOCK_H
#define DEQ_BASE_CLOCK_H

#include <time.h>

/* Seconds since an arbitrary start, from a clock that never jumps. */
static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
