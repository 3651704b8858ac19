/* Device memory and transfers.
 *
 * Transfers pass through pinned pieces of host memory, two in turn. An upload returns as soon as
 * its numbers have been copied there, and the device fetches them when it comes to it. */
#include "call_times.h"
#include "cuda_impl.h"
#include "memory.h"
#include "queue.h"

#include <stdio.h>
#include <string.h>

int cuda_vec(int64_t width, const void *const *pointers, int count)
{
    if (width % 4 != 0)
        return 1;
    for (int i = 0; i < count; i++)
        if (!is_aligned(pointers[i], sizeof(float4)))
            return 1;
    return 4;
}

void cuda_note(struct backend *be, enum op_id id, cudaError_t error)
{
    char text[200];
    if (error == cudaSuccess || be->fault[0] != '\0')
        return;
    if (error == cudaErrorMemoryAllocation)
        snprintf(text, sizeof text,
                 "out of device memory: lower train.batch or raise "
                 "train.accumulate");
    else
        snprintf(text, sizeof text,
                 "%s (%s); checkpoints written before are good: look at nvidia-smi and the "
                 "kernel log, then run the same command again",
                 cudaGetErrorString(error), cudaGetErrorName(error));
    backend_fault(be, id, text);
}

static double mib(size_t bytes)
{
    return (double)bytes / (1 << 20);
}

enum status cuda_alloc(struct backend *be, void **out, size_t bytes, struct error *err)
{
    *out = NULL;
    cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1);
    if (error == cudaSuccess)
        return STATUS_OK;
    *out = NULL;
    size_t left = 0, all = 0;
    cudaGetLastError(); /* not to be found again by the next launch */
    if (error != cudaErrorMemoryAllocation || cudaMemGetInfo(&left, &all) != cudaSuccess)
        return error_set(err, STATUS_DEVICE, "device memory: %s", cudaGetErrorString(error));
    return error_set(err, STATUS_DEVICE,
                     "out of device memory: %.1f MiB more are wanted, this run holds %.1f, and "
                     "%.1f of the device's %.1f MiB are left: lower train.batch or raise "
                     "train.accumulate, or end what else runs there (nvidia-smi)",
                     mib(bytes), mib(be->bytes), mib(left), mib(all));
}

void cuda_release(struct backend *be, void *ptr)
{
    queue_run(be);
    /* waits for the device, so nothing that is still queued loses its memory */
    cuda_note(be, OP_copy, cudaFree(ptr));
}

extern "C" size_t cuda_scratch(const struct backend *be)
{
    return static_cast<const struct cuda *>(be->impl)->work_bytes;
}

void *cuda_work(struct backend *be, size_t bytes, enum op_id id)
{
    struct cuda *cuda = cuda_of(be);
    if (bytes <= cuda->work_bytes)
        return cuda->work;
    if (cuda->recording) {
        backend_fault(be, id, "scratch memory was asked for while a graph was recorded");
        return NULL;
    }
    cuda_note(be, id, cudaStreamSynchronize(cuda->stream));
    cuda_note(be, id, cudaFree(cuda->work));
    cuda->work = NULL;
    cuda->work_bytes = 0;
    cuda->work_moves++;
    cudaError_t error = cudaMalloc(&cuda->work, bytes);
    if (error != cudaSuccess) {
        cuda->work = NULL;
        cudaGetLastError();
        cuda_note(be, id, error);
        return NULL;
    }
    cuda->work_bytes = bytes;
    return cuda->work;
}

enum status stage_open(struct stage stage[STAGE_SLOTS], size_t bytes, struct error *err)
{
    for (int i = 0; i < STAGE_SLOTS; i++)
        if (cudaMallocHost(&stage[i].host, bytes) != cudaSuccess ||
            cudaEventCreateWithFlags(&stage[i].done, cudaEventDisableTiming) != cudaSuccess)
            return error_set(err, STATUS_DEVICE, "no pinned host memory for transfers");
    return STATUS_OK;
}

void stage_close(struct stage stage[STAGE_SLOTS])
{
    for (int i = 0; i < STAGE_SLOTS; i++) {
        if (stage[i].done != NULL)
            cudaEventDestroy(stage[i].done);
        if (stage[i].host != NULL)
            cudaFreeHost(stage[i].host);
    }
}

void stage_wait(struct backend *be, struct stage *s, enum op_id id)
{
    if (s->used)
        cuda_note(be, id, cudaEventSynchronize(s->done));
    s->used = false;
}

void stage_sent(struct backend *be, struct stage *s, enum op_id id)
{
    cuda_note(be, id, cudaEventRecord(s->done, cuda_of(be)->stream));
    s->used = true;
}

/* Converts between the two floating types. Equal types are copied as bytes. */
static void convert(void *dst, enum dtype dst_type, const void *src, enum dtype src_type,
                    int64_t count)
{
    if (dst_type == src_type) {
        memcpy(dst, src, (size_t)count * dtype_size(src_type));
    } else if (dst_type == DTYPE_F32 && src_type == DTYPE_F64) {
        for (int64_t i = 0; i < count; i++)
            static_cast<float *>(dst)[i] = (float)static_cast<const double *>(src)[i];
    } else {
        assert(dst_type == DTYPE_F64 && src_type == DTYPE_F32);
        for (int64_t i = 0; i < count; i++)
            static_cast<double *>(dst)[i] = (double)static_cast<const float *>(src)[i];
    }
}

/* Numbers of either type that fit into a stage. */
static int64_t stage_count(enum dtype a, enum dtype b)
{
    size_t size = dtype_size(a) > dtype_size(b) ? dtype_size(a) : dtype_size(b);
    return (int64_t)(STAGE_BYTES / size);
}

/* The next stage, once the device has done with it. */
static struct stage *take_stage(struct backend *be, enum op_id id)
{
    struct cuda *cuda = cuda_of(be);
    struct stage *s = &cuda->stage[cuda->next_stage];
    cuda->next_stage = (cuda->next_stage + 1) % STAGE_SLOTS;
    stage_wait(be, s, id);
    return s;
}

/* A small upload is part of the run, its numbers come with the others that change. */
static void start_upload(struct backend *be, size_t at, const struct tensor *dst)
{
    cuda_note(be, OP_upload,
              cudaMemcpyAsync(dst->data, queue_changing(be, at), tensor_bytes(dst),
                              cudaMemcpyDeviceToDevice, cuda_of(be)->stream));
}

static void upload_large(struct backend *be, const struct tensor *dst, const void *src,
                         enum dtype src_type)
{
    int64_t count = tensor_count(dst), piece = stage_count(dst->dtype, src_type);
    size_t to_size = dtype_size(dst->dtype), from_size = dtype_size(src_type);
    queue_run(be);
    for (int64_t at = 0; at < count && be->fault[0] == '\0'; at += piece) {
        int64_t n = at_most(count - at, piece);
        struct stage *s = take_stage(be, OP_upload);
        convert(s->host, dst->dtype, static_cast<const char *>(src) + (size_t)at * from_size,
                src_type, n);
        call_begins(be, OP_upload);
        cuda_note(be, OP_upload,
                  cudaMemcpyAsync(static_cast<char *>(dst->data) + (size_t)at * to_size, s->host,
                                  (size_t)n * to_size, cudaMemcpyHostToDevice,
                                  cuda_of(be)->stream));
        call_ends(be);
        stage_sent(be, s, OP_upload);
    }
}

void cuda_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type)
{
    size_t bytes = tensor_bytes(dst);
    if (bytes > QUEUE_CHANGING_MOST)
        upload_large(be, dst, src, src_type);
    else if (bytes > 0)
        convert(queued_changing<start_upload>::note(be, bytes, dst), dst->dtype, src, src_type,
                tensor_count(dst));
}

/* After a fault the numbers are zeros. Whoever reads them asks backend_check before using them. */
void cuda_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src)
{
    int64_t count = tensor_count(src), piece = stage_count(src->dtype, dst_type);
    size_t to_size = dtype_size(dst_type), from_size = dtype_size(src->dtype);
    cudaStream_t stream = cuda_of(be)->stream;
    queue_run(be);
    for (int64_t at = 0; at < count; at += piece) {
        int64_t n = at_most(count - at, piece);
        char *to = static_cast<char *>(dst) + (size_t)at * to_size;
        memset(to, 0, (size_t)n * to_size);
        if (be->fault[0] != '\0')
            continue;
        struct stage *s = take_stage(be, OP_download);
        call_begins(be, OP_download);
        cuda_note(be, OP_download,
                  cudaMemcpyAsync(s->host, static_cast<char *>(src->data) + (size_t)at * from_size,
                                  (size_t)n * from_size, cudaMemcpyDeviceToHost, stream));
        call_ends(be);
        cuda_note(be, OP_download, cudaStreamSynchronize(stream));
        if (be->fault[0] == '\0')
            convert(to, dst_type, s->host, src->dtype, n);
    }
}

void cuda_copy(struct backend *be, const struct tensor *dst, const struct tensor *src)
{
    size_t bytes = tensor_bytes(src);
    if (bytes > 0)
        cuda_note(be, OP_copy,
                  cudaMemcpyAsync(dst->data, src->data, bytes, cudaMemcpyDeviceToDevice,
                                  cuda_of(be)->stream));
}
