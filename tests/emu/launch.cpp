/* Launches, with the shape of a grid checked against the limits of the chip. */
#include "emu/internal.h"

#include <map>

static std::map<const void *, int> opted_in; /* bytes of dynamic shared memory by kernel */

int emu_chip_shared()
{
    const emu_config &c = emu_conf();
    int kib = c.major >= 9 ? 227 : c.major == 8 && c.minor == 0 ? 163 : 99;
    return kib * 1024;
}

static size_t dynamic_limit(const void *entry)
{
    auto it = opted_in.find(entry);
    return static_cast<size_t>(it == opted_in.end() ? EMU_SHARED_BYTES : it->second);
}

size_t emu_shared_limit(const void *entry)
{
    return opted_in.count(entry) == 0 ? EMU_SHARED_BYTES : static_cast<size_t>(emu_chip_shared());
}

static cudaError_t check_shape(const emu_kernel &k)
{
    uint64_t threads = static_cast<uint64_t>(k.block.x) * k.block.y * k.block.z;
    if (threads == 0 || threads > EMU_BLOCK_THREADS || k.block.z > 64)
        return emu_refuse(cudaErrorInvalidConfiguration,
                          "launch of %s: block of %u x %u x %u threads (at most 1024, 64 in z)",
                          k.name, k.block.x, k.block.y, k.block.z);
    if (k.grid.x == 0 || k.grid.y == 0 || k.grid.z == 0 || k.grid.x > 0x7fffffffu ||
        k.grid.y > 65535 || k.grid.z > 65535)
        return emu_refuse(cudaErrorInvalidConfiguration,
                          "launch of %s: grid of %u x %u x %u blocks (1 to 2^31-1, 65535, 65535)",
                          k.name, k.grid.x, k.grid.y, k.grid.z);
    if (k.dynamic > dynamic_limit(k.entry))
        return emu_refuse(cudaErrorInvalidValue,
                          "launch of %s: %zu bytes of dynamic shared memory, %zu allowed (more by "
                          "cudaFuncSetAttribute)",
                          k.name, k.dynamic, dynamic_limit(k.entry));
    return cudaSuccess;
}

void emu_launch(emu_kernel kernel, cudaStream_t stream)
{
    if (emu_health() != cudaSuccess || check_shape(kernel) != cudaSuccess)
        return;
    if (emu_conf().major < 8) {
        emu_refuse(cudaErrorNoKernelImageForDevice, "launch of %s: no code for this chip",
                   kernel.name);
        return;
    }
    emu_enqueue(stream, kernel.name, [kernel] {
        emu_conf().counts.launches++;
        emu_conf().counts.device_ms += 1;
        if (emu_conf().lose_at > 0 && --emu_conf().lose_at == 0)
            emu_lose();
        else
            emu_run_kernel(kernel);
    });
}

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *entry, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > emu_chip_shared())
        return emu_refuse(cudaErrorInvalidValue,
                          "cudaFuncSetAttribute: %d bytes of shared memory, the chip has %d", value,
                          emu_chip_shared());
    opted_in[entry] = value;
    return cudaSuccess;
}
}
