/* Sums and shares of device memory over the processes that train together, each with a device of
 * its own: what the device's maker has for it (NCCL), as a table that a backend may offer. One that
 * offers none keeps its tensors in the host's memory.
 *
 *   available ; invite (by one process) ; join ; { begin ; sum or share... ; wait } ; leave
 *
 * All processes that joined make the same calls from begin to wait, in the same order. What fails
 * there is latched as a fault (backend_check), and gives up what is under way in this process; the
 * others wait until somebody ends them. */
#ifndef DEQ_BACKEND_COLLECTIVES_H
#define DEQ_BACKEND_COLLECTIVES_H

#include "backend/tensor.h"
#include "base/status.h"
#include <stdbool.h>

struct backend;

enum { COLLECTIVES_INVITATION = 128 /* bytes */ };

struct collectives {
    /* Whether this machine has it. `text` receives its name and version, or what is missing. */
    bool (*available)(char *text, size_t size);
    /* What all others need to join. */
    enum status (*invite)(unsigned char invitation[COLLECTIVES_INVITATION], struct error *err);
    /* Waits until all `size` processes have come. be->device_free becomes what is left then. */
    enum status (*join)(struct backend *be, const unsigned char invitation[COLLECTIVES_INVITATION],
                        int rank, int size, struct error *err);
    /* Gives up what is under way. */
    void (*leave)(struct backend *be);

    /* What follows starts when the operations called so far have run, beside those called later. */
    void (*begin)(struct backend *be);
    /* parts[rank] of every process: F32, one behind the other in memory, maybe empty.
     *   sum    each process's own part <- its sum over all; its other parts stay
     *   share  all parts <- those of the processes they belong to */
    void (*sum)(struct backend *be, const struct tensor *parts);
    void (*share)(struct backend *be, const struct tensor *parts);
    /* Until it is done. */
    void (*wait)(struct backend *be);
};

#endif
