#include "device.h"

#include "cpu/cpu.h"
#include "ref/ref.h"
#include <string.h>

enum status device_open(struct backend *be, const char *name, int threads, struct error *err)
{
    if (strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0)
        return cpu_open(be, threads, err);
    if (strcmp(name, "ref") == 0)
        return ref_open(be, err);
    if (strcmp(name, "cuda") == 0)
        return error_set(err, STATUS_DEVICE,
                         "--device cuda: this program was built without CUDA: use --device cpu");
    return error_set(err, STATUS_USAGE, "--device: want auto, cpu, cuda or ref, got \"%s\"", name);
}
