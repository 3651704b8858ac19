/* What started this process. mpirun or srun may have started others together with it, and a batch
 * system ends its job at a set time. */
#ifndef DEQ_CMD_LAUNCHER_H
#define DEQ_CMD_LAUNCHER_H

#include "dist/dist.h"

/* Joins the other processes, if the environment says that there are any. *out is NULL otherwise.
 * `command` names this one in a message, and must last until launcher_leave. A process that has not
 * been heard of for `silence` seconds, or hangs for 30 times as long, ends all with STATUS_DEVICE,
 * 0 lets them wait. Statuses as for dist_open. */
enum status launcher_join(const char *command, double silence, struct dist **out,
                          struct error *err);

/* Turns how the work of this process ended into how the group ended, and closes `d`. An error of
 * one process is printed and ends all of them at once, so this does not return then. Otherwise it
 * waits for the others. Rank 0 passes `status` on with its message, the others return STATUS_OK. */
enum status launcher_leave(struct dist *d, const char *command, enum status status,
                           struct error *err);

/* The end of the Slurm job that this process runs in, as a time of clock_seconds, or 0 if there is
 * none or it cannot be found out. Newer versions of Slurm set SLURM_JOB_END_TIME. Without it,
 * squeue is asked, for ten seconds at most. */
double launcher_job_end(void);

#endif
