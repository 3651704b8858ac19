/* The runtime's functions about the device, errors and copies. */
#include "emu/stream.h"

#include <stdarg.h>
#include <stdio.h>

static cudaError_t last_error;
static bool lost;
static int current; /* device */

/* ---- Errors ---------------------------------------------------------------------------------- */
cudaError_t emu_health()
{
    const emu_config &c = emu_conf();
    if (c.driver < CUDART_VERSION / 1000 * 1000)
        return cudaErrorInsufficientDriver;
    if (c.devices <= 0)
        return cudaErrorNoDevice;
    return lost ? cudaErrorLaunchFailure : cudaSuccess;
}

void emu_lose()
{
    lost = true;
}

void emu_restart(void)
{
    lost = false;
    last_error = cudaSuccess;
    emu_streams_reset();
    emu_memory_reset();
}

cudaError_t emu_latch(cudaError_t error)
{
    last_error = error;
    return error;
}

cudaError_t emu_refuse(cudaError_t error, const char *format, ...)
{
    emu_latch(error);
    if (emu_conf().quiet)
        return error;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "emulator: %s: ", cudaGetErrorName(error));
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return error;
}

#define ERRORS(X)                                                                            \
    X(cudaSuccess, "no error")                                                               \
    X(cudaErrorInvalidValue, "invalid argument")                                             \
    X(cudaErrorMemoryAllocation, "out of memory")                                            \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                       \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime "   \
                                   "version")                                                \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                               \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                      \
    X(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the "  \
                                       "device")                                             \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                             \
    X(cudaErrorNotReady, "device not ready")                                                 \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                  \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing") \
    X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during "  \
                                         "capture")                                          \
    X(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture "  \
                                   "sequences")                                              \
    X(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it "     \
                                       "began")                                              \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                  \
    X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another "   \
                                       "stream")                                             \
    X(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a "  \
                                      "capturing blocking stream")                           \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a "      \
                              "capturing stream")

extern "C" {

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define X(name, text) \
    case name:        \
        return #name;
        ERRORS(X)
#undef X
    default:
        return "cudaErrorUnknown";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define X(name, text) \
    case name:        \
        return text;
        ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error, health = emu_health();
    last_error = cudaSuccess;
    return health != cudaSuccess ? health : error;
}

/* ---- Devices --------------------------------------------------------------------------------- */
cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t health = emu_health();
    *count = health == cudaSuccess ? emu_conf().devices : 0;
    return health;
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t health = emu_health();
    if (health != cudaSuccess)
        return health;
    if (device < 0 || device >= emu_conf().devices)
        return emu_refuse(cudaErrorInvalidDevice, "device %d of %d", device, emu_conf().devices);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return emu_health();
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = emu_conf().driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
    cudaError_t health = emu_health();
    if (health != cudaSuccess)
        return health;
    if (attribute != cudaDevAttrMaxSharedMemoryPerBlockOptin)
        return emu_refuse(cudaErrorInvalidValue, "cudaDeviceGetAttribute: no attribute %d",
                          static_cast<int>(attribute));
    *value = emu_chip_shared();
    return cudaSuccess;
}

/* What the backend reads of them. */
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    *p = {};
    cudaError_t status = emu_health();
    if (status != cudaSuccess)
        return status;
    if (device < 0 || device >= emu_conf().devices)
        return emu_refuse(cudaErrorInvalidDevice, "device %d of %d", device, emu_conf().devices);
    memcpy(p->uuid.bytes, "emulated device", sizeof p->uuid.bytes);
    p->uuid.bytes[15] = static_cast<char>(emu_conf().visible + device);
    p->major = emu_conf().major;
    p->minor = emu_conf().minor;
    snprintf(p->name, sizeof p->name, "emulated sm_%d%d (runs on the processor)", p->major,
             p->minor);
    return cudaSuccess;
}

/* ---- Copies ---------------------------------------------------------------------------------- */
/* Whether `bytes` bytes at p lie where the caller says, on the device or on the host. */
static cudaError_t check_end(const void *p, size_t bytes, bool device)
{
    if (device ? emu_on_device(p, bytes) : !emu_near_device(p))
        return cudaSuccess;
    return emu_refuse(cudaErrorInvalidValue, "cudaMemcpyAsync: the %zu bytes at %p are not in %s",
                      bytes, p, device ? "one allocation of the device" : "the host's memory");
}

/* Until it is copied, what a copy brings to the host is not there. */
static void spoil(void *dst, size_t bytes, cudaStream_t stream)
{
    if (!emu_near_device(dst) && emu_stream(stream)->capture == nullptr &&
        !emu_pending_read(dst, bytes))
        memset(dst, 0xFF, bytes);
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (width == 0 || height == 0)
        return emu_health();
    if (dpitch < width || spitch < width)
        return emu_refuse(cudaErrorInvalidValue, "cudaMemcpy2DAsync: rows of %zu, pitch %zu, %zu",
                          width, dpitch, spitch);
    size_t dst_bytes = dpitch * (height - 1) + width, src_bytes = spitch * (height - 1) + width;
    bool any = kind == cudaMemcpyDefault;
    bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    cudaError_t status = check_end(dst, dst_bytes, any ? emu_near_device(dst) : to);
    if (status == cudaSuccess)
        status = check_end(src, src_bytes, any ? emu_near_device(src) : from);
    if (status != cudaSuccess)
        return status;
    for (size_t row = 0; row < height; row++)
        spoil(static_cast<char *>(dst) + row * dpitch, width, stream);
    auto copy = [=] {
        emu_conf().counts.copies++;
        emu_conf().counts.device_ms += 1;
        for (size_t row = 0; row < height; row++)
            memmove(static_cast<char *>(emu_real(dst)) + row * dpitch,
                    static_cast<const char *>(emu_real(src)) + row * spitch, width);
    };
    return emu_enqueue(stream, "cudaMemcpyAsync", copy, emu_near_device(src) ? nullptr : src,
                       src_bytes);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return cudaMemcpy2DAsync(dst, bytes, src, bytes, bytes, 1, kind, stream);
}

/* On the default stream, and waits for it. */
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    if (emu_capture_forbids())
        return emu_refuse(cudaErrorStreamCaptureUnsupported, "cudaMemcpy during a capture");
    cudaError_t status = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    return status != cudaSuccess ? status : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0)
        return emu_health();
    if (!emu_on_device(p, bytes))
        return emu_refuse(cudaErrorInvalidValue,
                          "cudaMemset: %zu bytes at %p are not in one allocation of the device",
                          bytes, p);
    return emu_enqueue(stream, "cudaMemsetAsync", [=] { memset(emu_real(p), value, bytes); });
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}
}
