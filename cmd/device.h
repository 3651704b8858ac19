/* Choosing the backend a command runs on. */
#ifndef DEQ_CMD_DEVICE_H
#define DEQ_CMD_DEVICE_H

#include "backend/backend.h"

/* Opens the device of that name: "cpu", "cuda", "auto" (cuda if there is a device that can be used,
 * else cpu; a program built with CUDA says on stderr which, and why), and "ref", the float64
 * reference, for checks. threads 0: all; for the processor. STATUS_USAGE for another name,
 * for more threads than OPTION_THREADS_MAX and for a DEQ_CUDA_GRAPHS that is neither 0 nor 1 (0: no
 * CUDA graphs). STATUS_DEVICE if the device is not there. */
enum status device_open(struct backend *be, const char *name, int threads, struct error *err);
/* The same for one of several processes on this machine: the GPU number `nth` of those visible,
 * counted around (each process may see one only, its own). */
enum status device_open_nth(struct backend *be, const char *name, int threads, int nth,
                            struct error *err);

#endif
