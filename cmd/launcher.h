/* When a command must be done: what the user says, and what a batch system does. Times are those of
 * clock_seconds. */
#ifndef DEQ_CMD_LAUNCHER_H
#define DEQ_CMD_LAUNCHER_H

#include "base/status.h"

/* The value of --time-limit in seconds: 90s, 45m, 3h30m, or plain seconds. STATUS_USAGE. */
enum status deadline_parse(const char *text, double *out, struct error *err);

/* The end of the Slurm job this process runs in, 0 if there is none or it cannot be had:
 * SLURM_JOB_END_TIME, which newer versions set, else squeue is asked, for ten seconds at most. */
double deadline_of_job(void);

/* The earlier of two, where 0 is none. */
double deadline_earlier(double a, double b);

#endif
