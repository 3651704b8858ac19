/* The processes that mpirun or srun launched together with this one. */
#ifndef DEQ_CMD_GROUP_H
#define DEQ_CMD_GROUP_H

#include "dist/dist.h"

/* Joins them, if the environment says that there are any; else *out is NULL. */
enum status group_open(struct dist **out, struct error *err);

/* How the work of this process ended becomes how the group ended: an error of one process is told
 * and ends all of them at once (this does not return). Otherwise waits for the others; rank 0
 * passes `status` on with its message, others return STATUS_OK. */
enum status group_close(struct dist *d, const char *command, enum status status, struct error *err);

#endif
