/* The version, in a file of its own since every commit has another one. */
#include "lib/deq.h"

const char *deq_version(void)
{
    return DEQ_VERSION;
}
