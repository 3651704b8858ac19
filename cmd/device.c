/* Opens the backend that --device names. */
#include "cmd/device.h"

#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/cpu_quota.h"
#include "cmd/options.h"
#include "cuda/cuda.h"
#include <math.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Opens the processor. Says so when it lends fewer threads than were asked for, or when they have
 * to share processors and wait for each other. */
static enum status open_cpu(struct backend *be, int threads, struct error *err)
{
    int wanted = threads > 0 ? threads : omp_get_max_threads();
    TRY(cpu_open(be, threads, err));
    /* ONEDNN_DEFAULT_FPMATH_MODE in the environment is not heard by any product of this program. */
    (void)dnnl_set_default_fpmath_mode(dnnl_fpmath_mode_strict);
    if (be->threads < wanted)
        fprintf(stderr,
                "threads: %d instead of %d, which is what OMP_THREAD_LIMIT or "
                "OMP_MAX_ACTIVE_LEVELS allows\n",
                be->threads, wanted);
    if (be->threads > omp_get_num_procs())
        fprintf(stderr,
                "threads: %d share %d processors and wait for each other; --threads %d is faster\n",
                be->threads, omp_get_num_procs(), omp_get_num_procs());
    double quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota > 0 && be->threads > ceil(quota))
        fprintf(stderr,
                "threads: %d, but a control group grants the time of %.3g processors and pauses "
                "all of them for the rest; --threads %.0f is faster\n",
                be->threads, quota, ceil(quota));
    return STATUS_OK;
}

static void warn_refusal(const char *text)
{
    fprintf(stderr, "warning: %s\n", text);
}

/* Opens the GPU. DEQ_CUDA_GRAPHS=0 in the environment does without CUDA graphs. */
static enum status open_cuda(struct backend *be, int nth, struct error *err)
{
    const char *graphs = getenv("DEQ_CUDA_GRAPHS");
    if (graphs != NULL && strcmp(graphs, "0") != 0 && strcmp(graphs, "1") != 0)
        return error_set(err, STATUS_USAGE, "DEQ_CUDA_GRAPHS: want 0 or 1, got \"%s\"", graphs);
    TRY(cuda_open_nth(be, nth, err));
    cuda_use_graphs(be, graphs == NULL || graphs[0] == '1');
    cuda_on_refusal(be, warn_refusal);
    return STATUS_OK;
}

/* Opens the GPU if there is one that can be used. A program built with CUDA says what it took and
 * why, so that whoever expects the GPU does not have to find out by the clock. */
static enum status open_best(struct backend *be, const struct device_choice *choice,
                             struct error *err)
{
    struct error why;
    if (!cuda_built())
        return open_cpu(be, choice->threads, err);
    enum status status = open_cuda(be, choice->nth, &why);
    if (status == STATUS_USAGE) {
        *err = why;
        return status;
    }
    if (status == STATUS_OK) {
        if (!choice->quiet)
            fprintf(stderr, "device: cuda (%s)\n", be->device_name);
        return STATUS_OK;
    }
    if (!choice->quiet)
        fprintf(stderr, "device: cpu (%s)\n", why.text);
    return open_cpu(be, choice->threads, err);
}

enum status device_open(struct backend *be, const char *name, int threads, struct error *err)
{
    return device_open_choice(be, &(struct device_choice){.name = name, .threads = threads}, err);
}

enum status device_open_choice(struct backend *be, const struct device_choice *choice,
                               struct error *err)
{
    if (choice->threads == 0 && omp_get_max_threads() > OPTION_THREADS_MAX)
        return error_set(err, STATUS_USAGE, "OMP_NUM_THREADS: want at most %d threads, got %d",
                         OPTION_THREADS_MAX, omp_get_max_threads());
    if (strcmp(choice->name, "cpu") == 0)
        return open_cpu(be, choice->threads, err);
    if (strcmp(choice->name, "auto") == 0)
        return open_best(be, choice, err);
    if (strcmp(choice->name, "ref") == 0)
        return ref_open(be, err);
    if (strcmp(choice->name, "cuda") == 0) {
        enum status status = open_cuda(be, choice->nth, err);
        if (status == STATUS_DEVICE)
            error_prefix(err, "--device cuda");
        return status;
    }
    return error_set(err, STATUS_USAGE, "--device: want auto, cpu, cuda or ref, got \"%s\"",
                     choice->name);
}

/* Threads that wait for each other stay awake, which is a fifth faster on a machine of one's own
 * and two and a half times slower beside other programs (scripts/side_by_side.sh). */
void device_tell_of_others(const struct backend *be, int others)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    bool chosen = getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL;
    if (strcmp(be->ops->name, "cpu") == 0 && others > 0 && be->threads > 1 && !chosen &&
        be->threads + others > processors)
        fprintf(
            stderr,
            "threads: %d, beside %d of other programs on %ld processors; OMP_WAIT_POLICY=passive "
            "in the environment is faster there\n",
            be->threads, others, processors);
}
