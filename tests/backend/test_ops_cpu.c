/* The suite over the CPU backend, with one thread and with several. */
#include "backend/suite_run.h"

#include "backend/cpu/cpu.h"

static enum status open_single(struct backend *be, struct error *err)
{
    return cpu_open(be, 1, err);
}

static enum status open_many(struct backend *be, struct error *err)
{
    return cpu_open(be, 3, err);
}

int main(void)
{
    int failed = suite_main("ops on cpu, 1 thread", open_single);
    return failed + suite_main("ops on cpu, 3 threads", open_many);
}
