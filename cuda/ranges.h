/* Ranges of the host's time that profilers show beside what was started in them (NVTX). The header
 * of the Toolkit finds a profiler by itself and costs nothing without one. Where it is missing
 * there are no ranges. */
#ifndef DEQ_CUDA_RANGES_H
#define DEQ_CUDA_RANGES_H

#if defined(DEQ_EMULATE)
#include "emu/emu.h"
#elif __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define DEQ_NVTX
#endif

static inline void range_begins(const char *name)
{
#if defined(DEQ_EMULATE)
    emu_range_begins(name);
#elif defined(DEQ_NVTX)
    nvtxRangePushA(name);
#else
    (void)name;
#endif
}

static inline void range_ends(void)
{
#if defined(DEQ_EMULATE)
    emu_range_ends();
#elif defined(DEQ_NVTX)
    nvtxRangePop();
#endif
}

#endif
