/* Collective operations on device memory, over processes that train together with a device each.
 *
 * They are what the device's maker has for it (NCCL), as a table that a backend may offer. A
 * backend without one keeps its tensors in the host's memory. The calls come in this order:
 *   available
 *   invite, by one process
 *   join
 *   any number of times begin, reduce_scatter and all_gather, wait
 *   leave
 * All processes that joined make the same calls from begin to wait, in the same order. A failure
 * there is latched as a fault (backend_check). It gives up what is under way in this process, and
 * the other processes wait until somebody ends them. */
#ifndef DEQ_BACKEND_COLLECTIVES_H
#define DEQ_BACKEND_COLLECTIVES_H

#include "backend/tensor.h"
#include "base/status.h"
#include <stdbool.h>

struct backend;

enum { COLLECTIVES_INVITATION = 128 /* bytes */ };

struct collectives {
    /* Whether this machine has the library. `text` receives its name and version, or what is
     * missing. */
    bool (*available)(char *text, size_t size);
    /* Makes what all other processes need to join. STATUS_DEVICE. */
    enum status (*invite)(unsigned char invitation[COLLECTIVES_INVITATION], struct error *err);
    /* Waits until all `size` processes have come. be->device_free becomes what is left then.
     * STATUS_DEVICE, STATUS_NOMEM. */
    enum status (*join)(struct backend *be, const unsigned char invitation[COLLECTIVES_INVITATION],
                        int rank, int size, struct error *err);
    /* Gives up what is under way. */
    void (*leave)(struct backend *be);

    /* What follows starts when the operations called so far have run, beside those called later. */
    void (*begin)(struct backend *be);
    /* parts[rank] is the part of every process. Parts are F32, lie one behind the other in memory,
     * and may be empty. reduce_scatter makes each process's own part its sum over all processes,
     * and leaves its other parts as they are. all_gather makes all parts those of the processes
     * they belong to. */
    void (*reduce_scatter)(struct backend *be, const struct tensor *parts);
    void (*all_gather)(struct backend *be, const struct tensor *parts);
    /* Waits until it is done. */
    void (*wait)(struct backend *be);
};

#endif
