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
/* As device_open, for one of several processes on this machine. It takes the GPU number `nth` of
 * those visible, counted around, since each process may see only its own. */
enum status device_open_nth(struct backend *be, const char *name, int threads, int nth,
                            struct error *err);

#endif
