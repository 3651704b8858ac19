/* The name of the machine's processor. */
#ifndef DEQ_BASE_CPU_NAME_H
#define DEQ_BASE_CPU_NAME_H

enum { CPU_NAME_MAX = 128 };

/* Writes what Linux calls the processor, as in "AMD EPYC 9654 96-Core Processor", or the kind of
 * machine, as in "x86_64", where it does not say. */
void cpu_name(char out[CPU_NAME_MAX]);

#endif
