/* In place of the CUDA backend where it is not built. */
#include "cuda/cuda.h"

bool cuda_built(void)
{
    return false;
}

size_t cuda_scratch(const struct backend *be)
{
    (void)be;
    return 0;
}

void cuda_use_graphs(struct backend *be, bool use)
{
    (void)be;
    (void)use;
}

void cuda_on_refusal(struct backend *be, void (*warn)(const char *text))
{
    (void)be;
    (void)warn;
}

enum status cuda_open(struct backend *be, struct error *err)
{
    return cuda_open_nth(be, 0, err);
}

enum status cuda_open_nth(struct backend *be, int nth, struct error *err)
{
    (void)be;
    (void)nth;
    return error_set(err, STATUS_DEVICE,
                     "this program was built without CUDA: build it with make CUDA=1 where the "
                     "CUDA Toolkit is installed, or use --device cpu");
}
