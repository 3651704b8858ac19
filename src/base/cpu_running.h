/* How much else this machine computes. */
#ifndef DEQ_BASE_CPU_RUNNING_H
#define DEQ_BASE_CPU_RUNNING_H

/* The number of other threads, of any program, that run or want to run: the least of some looks in
 * a tenth of a second. Returns 0 if it is not known. `loadavg` is /proc/loadavg, which counts the
 * calling thread too. */
int cpu_running_others(const char *loadavg);

#endif
