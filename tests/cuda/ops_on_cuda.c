/* The suite over the CUDA backend, on the device that is here. Run by make test-cuda. */
#include "backend/suite_run.h"

#include "cuda/cuda.h"

int main(void)
{
    struct backend be;
    struct error err;
    if (cuda_open(&be, &err) != STATUS_OK) {
        printf("1..0 # SKIP %s\n", err.text);
        return 77;
    }
    print_message("# %s\n", be.device_name);
    backend_close(&be);
    return suite_main("ops on cuda", cuda_open);
}
