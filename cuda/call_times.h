/* The time that each call takes on the device, by events around it, and its name for profilers. */
#ifndef DEQ_CUDA_CALL_TIMES_H
#define DEQ_CUDA_CALL_TIMES_H

#include "cuda_impl.h"

/* To be called around what an operation puts into the stream. */
void call_begins(struct backend *be, enum op_id id);
void call_ends(struct backend *be);

void call_times_close(struct cuda *cuda);

/* Timing begins and ends here. In between no graph is recorded or launched. */
extern const struct device_clock cuda_clock;

#endif
