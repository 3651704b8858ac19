/* What a training takes, in the one line that every command says it with. */
#ifndef DEQ_CMD_ESTIMATE_H
#define DEQ_CMD_ESTIMATE_H

#include "backend/backend.h"

enum { ESTIMATE_MAX = 128, ESTIMATE_COUNT_MAX = 32 };

struct estimate {
    int64_t steps, tokens; /* still to do, and of a step */
    double seconds;        /* for all steps, or NaN where no speed is known */
    const char *where;     /* of that time, NULL for "here" */
    double bytes, machine; /* that the training takes (run_memory), and that the device has */
};

/* Writes "3,600 steps of 1,024 tokens: about 2 min 40 s here; 37 MiB of 24 GiB" without a newline.
 * The time is left out where it is not known. */
void estimate_text(const struct estimate *e, char out[ESTIMATE_MAX]);
/* Writes a number with commas between its thousands. */
void estimate_count(int64_t count, char out[ESTIMATE_COUNT_MAX]);
/* Writes "45 s", "2 min 40 s", "3 h 20 min" or "4 days 3 h". */
void estimate_duration(double seconds, char out[ESTIMATE_COUNT_MAX]);
/* Writes bytes as "37 MiB" or "1.5 GiB". */
void estimate_bytes(double bytes, char out[ESTIMATE_COUNT_MAX]);
/* The bytes that the backend's device has for a training. That is what was free when it was opened,
 * or the machine's memory for a backend in the memory of the host. */
double estimate_machine(const struct backend *be);

#endif
