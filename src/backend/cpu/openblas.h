/* OpenBLAS, which is loaded when it is first wanted.
 *
 * It takes memory for every thread as soon as it is loaded, and waits without end if there is none,
 * as under ulimit -v. What needs no product of it must not pay for that. */
#ifndef DEQ_BACKEND_CPU_OPENBLAS_H
#define DEQ_BACKEND_CPU_OPENBLAS_H

/* The address of a function of OpenBLAS. Returns NULL if the library cannot be found or the process
 * may not have the memory that it takes. */
void *openblas_function(const char *name);

#endif
