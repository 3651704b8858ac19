/* Choosing the backend a command runs on. */
#ifndef DEQ_CMD_DEVICE_H
#define DEQ_CMD_DEVICE_H

#include "backend/backend.h"

/* Opens the device of that name. "auto" is cuda if there is a GPU that can be used, and cpu
 * otherwise. A program built with CUDA says on stderr which it took and why. "ref" is the float64
 * reference. `threads` is for the processor, and 0 takes all. The environment
 * variable DEQ_CUDA_GRAPHS=0 does without CUDA graphs. STATUS_USAGE for another name, for more
 * threads than OPTION_THREADS_MAX and for another value of that variable. STATUS_DEVICE if the
 * device is not there. */
enum status device_open(struct backend *be, const char *name, int threads, struct error *err);
/* What else a process of a training says about its device. */
struct device_choice {
    const char *name; /* borrows; as for device_open */
    int threads;      /* of the processor, 0 for all */
    /* Of the GPUs that are visible, counted around, since each of several processes on this machine
     * may see only its own. */
    int nth;
    bool quiet; /* what "auto" took is not said */
};
/* As device_open, whose statuses it returns. */
enum status device_open_choice(struct backend *be, const struct device_choice *choice,
                               struct error *err);
/* Says on stderr how to go on where `others` threads of other programs run on the same processors,
 * unless the user has said how threads wait. They were counted before the device was opened, since
 * its own threads then wait awake. */
void device_tell_of_others(const struct backend *be, int others);

#endif
