/* Runs of operations recorded as CUDA graphs: a repeated run starts with one call in place of one
 * a kernel. */
#include "record.h"

/* What is behind struct op_record. */
struct recording {
    cudaGraphExec_t exec; /* owns; NULL: nothing recorded yet */
    int64_t work_moves;   /* scratch had been reallocated so often */
};

static void forget(struct recording *r)
{
    if (r->exec != NULL)
        cudaGraphExecDestroy(r->exec);
    r->exec = NULL;
}

/* A key is recorded when it comes the second time in a row: a run of another shape is not worth a
 * graph, and the first run lets scratch memory grow to what the second needs. */
bool cuda_replay(struct backend *be, struct op_record *record, uint64_t key)
{
    struct cuda *cuda = cuda_of(be);
    struct recording *r = static_cast<struct recording *>(record->impl);
    if (key == 0 || be->fault[0] != '\0')
        return false;
    if (r == NULL)
        record->impl = r = new struct recording();
    if (record->key == key && r->exec != NULL && r->work_moves == cuda->work_moves) {
        cuda_note(be, OP_copy, cudaGraphLaunch(r->exec, cuda->stream));
        return true;
    }
    forget(r);
    if (record->key != key) {
        record->key = key;
        return false;
    }
    cudaError_t error = cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal);
    cuda_note(be, OP_copy, error);
    cuda->recording = error == cudaSuccess;
    r->work_moves = cuda->work_moves;
    return false;
}

void cuda_record_end(struct backend *be, struct op_record *record)
{
    struct cuda *cuda = cuda_of(be);
    struct recording *r = static_cast<struct recording *>(record->impl);
    cudaGraph_t graph = NULL;
    if (!cuda->recording)
        return;
    cuda->recording = false;
    cuda_note(be, OP_copy, cudaStreamEndCapture(cuda->stream, &graph));
    if (graph == NULL)
        return;
    cuda_note(be, OP_copy, cudaGraphInstantiate(&r->exec, graph, 0));
    cudaGraphDestroy(graph);
    if (r->exec != NULL) /* what was recorded has not run yet */
        cuda_note(be, OP_copy, cudaGraphLaunch(r->exec, cuda->stream));
}

void cuda_record_free(struct backend *be, struct op_record *record)
{
    (void)be;
    struct recording *r = static_cast<struct recording *>(record->impl);
    if (r == NULL)
        return;
    forget(r);
    delete r;
    record->impl = NULL;
    record->key = 0;
}
