/* Choosing the backend a command runs on. */
#ifndef DEQ_CMD_DEVICE_H
#define DEQ_CMD_DEVICE_H

#include "backend/backend.h"

/* Opens the device of that name. "auto" is cuda if there is a GPU that can be used, and cpu
 * otherwise. A program built with CUDA says on stderr which it took and why. "ref" is the float64
 * reference. `threads` is for the processor, and 0 takes all. STATUS_USAGE for another name and for
 * more threads than OPTION_THREADS_MAX, STATUS_DEVICE if the device is not there. */
enum status device_open(struct backend *be, const char *name, int threads, struct error *err);
/* As device_open, for one of several processes on this machine. It takes the GPU number `nth` of
 * those visible, counted around, since each process may see only its own. */
enum status device_open_nth(struct backend *be, const char *name, int threads, int nth,
                            struct error *err);

#endif
