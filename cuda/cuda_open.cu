/* Opens and closes the CUDA backend. It checks what the machine must have and fills the state and
 * the table. */
#include "cuda_impl.h"

extern "C" {
#include "cuda/cublas_load.h"
#include "cuda/cuda.h"
}
#include "call_times.h"
#include "collectives.h"
#include "gemm.h"
#include "memory.h"
#include "queue.h"

#include <new>
#include <stdio.h>
#include <string.h>

enum { OLDEST_MAJOR = 8, BLAS_WORK_BYTES = 32 << 20, LOGIT_NUMBERS = 32 << 20 };

/* Every device that is let in has all of them. */
static enum status cuda_set_precision(struct backend *be, enum precision, struct error *)
{
    queue_run(be);
    return STATUS_OK;
}

static struct ops make_table(void);

static void cuda_close(struct backend *be)
{
    struct cuda *cuda = cuda_of(be);
    if (cuda->stream != NULL)
        cudaStreamSynchronize(cuda->stream);
    cuda_collectives.leave(be);
    call_times_close(cuda);
    lt_close(cuda->lt);
    if (cuda->blas != NULL)
        cublasDestroy(cuda->blas);
    if (cuda->blas_work != NULL)
        cudaFree(cuda->blas_work);
    if (cuda->work != NULL)
        cudaFree(cuda->work);
    stage_close(cuda->stage);
    queue_close(cuda);
    if (cuda->stream != NULL)
        cudaStreamDestroy(cuda->stream);
    delete cuda;
}

/* What fills a slot. An operation that notes its calls itself stands for itself. */
template <auto op> struct slot : queued<op> {
};
#define NOTES_ITSELF(op)                        \
    template <> struct slot<cuda_##op> {        \
        static constexpr auto note = cuda_##op; \
    };
NOTES_ITSELF(upload)
NOTES_ITSELF(download)
NOTES_ITSELF(dropout_mask)
NOTES_ITSELF(fill_normal)
NOTES_ITSELF(fill_uniform)
NOTES_ITSELF(adam)
NOTES_ITSELF(descend)

static struct ops make_table(void)
{
    struct ops t = {};
    t.name = "cuda";
    t.real = DTYPE_F32;
    t.chunk_numbers = LOGIT_NUMBERS;
    t.low_precision_bf16 = true;
    t.collectives = &cuda_collectives;
    t.clock = &cuda_clock;
    t.alloc = cuda_alloc;
    t.release = cuda_release;
    t.close = cuda_close;
    t.set_precision = cuda_set_precision;
    t.graph_break = queue_run;
#define OP(name, ...) t.name = slot<cuda_##name>::note;
    OP_LIST(OP)
#undef OP
    return t;
}

/* A driver's version as it is spoken of, 13.0 for 13000. */
struct version {
    int major, minor;
};

static struct version version_of(int number)
{
    struct version v = {number / 1000, number % 1000 / 10};
    return v;
}

/* There is a driver, new enough, and a device. */
static enum status find_device(struct error *err)
{
    int driver = 0, runtime = 0, count = 0;
    cudaError_t error = cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    struct version has = version_of(driver), wants = version_of(runtime);
    if (error != cudaSuccess || driver == 0)
        return error_set(err, STATUS_DEVICE,
                         "no NVIDIA driver on this machine (libcuda.so.1): install one for CUDA "
                         "%d.%d or later, or use --device cpu",
                         wants.major, wants.minor);
    error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver)
        return error_set(err, STATUS_DEVICE,
                         "the NVIDIA driver knows CUDA up to %d.%d, and this program was built "
                         "with %d.%d: update the driver, build with an older Toolkit, or use "
                         "--device cpu",
                         has.major, has.minor, wants.major, wants.minor);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
        return error_set(err, STATUS_DEVICE,
                         "no CUDA device is visible: nvidia-smi lists those there are, and "
                         "CUDA_VISIBLE_DEVICES must name one of them or be unset; or use "
                         "--device cpu");
    if (error != cudaSuccess)
        return error_set(err, STATUS_DEVICE, "CUDA cannot start: %s (%s)",
                         cudaGetErrorString(error), cudaGetErrorName(error));
    return STATUS_OK;
}

/* As nvidia-smi -L writes it. */
static void write_id(const struct cudaDeviceProp *prop, char id[40])
{
    for (int i = 0, at = 0; i < 16; i++)
        at += snprintf(id + at, (size_t)(40 - at), "%s%02x",
                       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                       (unsigned char)prop->uuid.bytes[i]);
}

/* Device `nth`, counted around, which becomes that of this thread. */
static enum status take_device(struct backend *be, int nth, struct error *err)
{
    struct cudaDeviceProp prop;
    int limit = 0, count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    int device = count > 0 ? nth % count : 0;
    if (error == cudaSuccess)
        error = cudaSetDevice(device);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&prop, device);
    if (error == cudaSuccess && prop.major < OLDEST_MAJOR)
        return error_set(err, STATUS_DEVICE,
                         "%s has compute capability %d.%d, and 8.0 (A100 and later) is the oldest "
                         "that is supported: choose another with CUDA_VISIBLE_DEVICES, or use "
                         "--device cpu",
                         prop.name, prop.major, prop.minor);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error != cudaSuccess)
        return error_set(err, STATUS_DEVICE, "the CUDA device cannot be used: %s (%s)",
                         cudaGetErrorString(error), cudaGetErrorName(error));
    cuda_of(be)->shared_limit = (size_t)limit;
    snprintf(be->device_name, sizeof be->device_name, "%.100s", prop.name);
    write_id(&prop, be->device_id);
    return STATUS_OK;
}

static enum status open_libraries(struct cuda *cuda, struct error *err)
{
    if (cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking) != cudaSuccess)
        return error_set(err, STATUS_DEVICE, "cannot make a CUDA stream");
    /* cuBLAS needs a workspace of ours, since it would allocate while a graph is recorded. */
    if (cudaMalloc(&cuda->blas_work, BLAS_WORK_BYTES) != cudaSuccess)
        return error_set(err, STATUS_DEVICE,
                         "no device memory for cuBLAS (32 MiB): end what else runs there "
                         "(nvidia-smi)");
    char tried[600];
    if (!cublas_load(tried, sizeof tried))
        return error_set(err, STATUS_DEVICE,
                         "cuBLAS was not found: install the libcublas of CUDA 12 or 13, or name "
                         "its folder in LD_LIBRARY_PATH, or use --device cpu (%s)",
                         tried);
    if (cublasCreate(&cuda->blas) != CUBLAS_STATUS_SUCCESS ||
        cublasSetStream(cuda->blas, cuda->stream) != CUBLAS_STATUS_SUCCESS ||
        cublasSetWorkspace(cuda->blas, cuda->blas_work, BLAS_WORK_BYTES) != CUBLAS_STATUS_SUCCESS)
        return error_set(err, STATUS_DEVICE,
                         "cuBLAS cannot start: is there enough free memory on the device "
                         "(nvidia-smi), and is the driver as new as cuBLAS?");
    cuda->lt = lt_open(cuda->blas_work, BLAS_WORK_BYTES);
    TRY(stage_open(cuda->stage, STAGE_BYTES, err));
    return queue_open(cuda, err);
}

enum status cuda_ask_memory(struct backend *be, struct error *err)
{
    size_t all = 0;
    if (cudaMemGetInfo(&be->device_free, &all) != cudaSuccess)
        return error_set(err, STATUS_DEVICE, "the CUDA device does not tell its memory");
    char *memory = strchr(be->device_name, ',');
    size_t used = memory != NULL ? (size_t)(memory - be->device_name) : strlen(be->device_name);
    snprintf(be->device_name + used, sizeof be->device_name - used, ", %.1f of %.1f GiB free",
             (double)be->device_free / (1 << 30), (double)all / (1 << 30));
    return STATUS_OK;
}

/* Runs one kernel, so that a program built for other devices fails here and not in mid-run. */
static enum status probe(struct backend *be, struct error *err)
{
    struct cuda *cuda = cuda_of(be);
    struct tensor t = tensor_make(cuda->blas_work, DTYPE_F32, 1, 1, 1, 1, 1);
    cuda_fill(be, &t, 1);
    cudaError_t error = cudaStreamSynchronize(cuda->stream);
    if (error == cudaSuccess && be->fault[0] == '\0')
        return STATUS_OK;
    return error_set(err, STATUS_DEVICE,
                     "%s: a first kernel failed: %s; a program built for other devices needs make "
                     "CUDA_ARCH=native",
                     be->device_name, be->fault[0] != '\0' ? be->fault : cudaGetErrorString(error));
}

extern "C" bool cuda_built(void)
{
    return true;
}

extern "C" enum status cuda_open(struct backend *be, struct error *err)
{
    return cuda_open_nth(be, 0, err);
}

extern "C" enum status cuda_open_nth(struct backend *be, int nth, struct error *err)
{
    static const struct ops table = make_table();
    TRY(find_device(err));
    struct cuda *cuda = new (std::nothrow) struct cuda();
    if (cuda == NULL)
        return error_set(err, STATUS_NOMEM, "no memory for the state of the CUDA backend");
    enum status status = backend_init(be, &table, cuda, 1, err);
    if (status == STATUS_OK)
        status = take_device(be, nth, err);
    if (status == STATUS_OK)
        status = open_libraries(cuda, err);
    if (status == STATUS_OK)
        status = cuda_ask_memory(be, err); /* now that the libraries have taken theirs */
    if (status == STATUS_OK)
        status = probe(be, err);
    if (status != STATUS_OK)
        cuda_close(be);
    return status;
}
