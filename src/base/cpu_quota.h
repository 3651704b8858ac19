/* How many processors at a time a container or a service may use. */
#ifndef DEQ_BASE_CPU_QUOTA_H
#define DEQ_BASE_CPU_QUOTA_H

/* The smallest quota of the control groups that this process is in, in processors, such as 1.5.
 * Returns 0 if there is none. `groups` is /proc/self/cgroup and `root` is /sys/fs/cgroup. Both
 * versions of control groups are read. Threads beyond the quota are paused, all together. */
double cpu_quota(const char *groups, const char *root);

#endif
