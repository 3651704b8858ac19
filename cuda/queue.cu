/* Notes calls and starts them one by one or as a graph (queue.h). */
#include "queue.h"

#include "call_times.h"
#include "ranges.h"

#include <new>
#include <stdio.h>
#include <stdlib.h>

enum {
    NOTE_WORDS = (4 << 20) / 8,   /* of all calls of a run */
    CHANGING_BYTES = 2 << 20,     /* of all calls of a run */
    CHANGING_ALIGN = 64,          /* of those of one call */
    GRAPHS = 256,                 /* kept at most, where a step with tolerances has some 70 */
    GRAPH_WORDS = 8 * NOTE_WORDS, /* and so many words of notes */
    SEEN = 1024,                  /* runs remembered that came once */
    REFUSALS = 8                  /* after so many refusals no more graphs are recorded */
};

/* What is in front of the arguments of a call. */
struct call {
    queue_fn start;
    uint32_t words, id; /* of its arguments, and the operation */
};
enum { CALL_WORDS = sizeof(struct call) / sizeof(uint64_t) };

struct graph {
    cudaGraphExec_t exec; /* owns, NULL if the place is free */
    uint64_t *notes;      /* owns, the notes of the run */
    size_t words;
    uint64_t hash;
    int64_t work_moves; /* scratch had been reallocated so often */
    int64_t used;       /* when it was last launched */
};

struct queue {
    uint64_t *notes; /* owns [NOTE_WORDS], the run so far */
    size_t words;
    struct stage stage[STAGE_SLOTS]; /* changing numbers on the host */
    int now;                         /* the stage in use */
    void *changing;                  /* owns [CHANGING_BYTES] on the device */
    size_t bytes;                    /* of them in use */
    bool direct;                     /* no graphs */
    int refusals;                    /* graphs that CUDA refused so far */
    void (*warn)(const char *text);  /* is told what users should know, may be NULL */
    struct graph graph[GRAPHS];
    uint64_t seen[SEEN]; /* hashes of runs that came once, in turn */
    int next_seen;
    int64_t clock;
};

enum status queue_open(struct cuda *cuda, struct error *err)
{
    struct queue *q = cuda->queue = new (std::nothrow) struct queue();
    if (q != NULL)
        q->notes = static_cast<uint64_t *>(malloc(NOTE_WORDS * sizeof *q->notes));
    if (q == NULL || q->notes == NULL)
        return error_set(err, STATUS_NOMEM, "no memory for the notes of the CUDA backend");
    if (cudaMalloc(&q->changing, CHANGING_BYTES) != cudaSuccess)
        return error_set(err, STATUS_DEVICE,
                         "no device memory for arguments (%d MiB): end what else runs there "
                         "(nvidia-smi)",
                         CHANGING_BYTES >> 20);
    return stage_open(q->stage, CHANGING_BYTES, err);
}

static void forget(struct graph *g)
{
    if (g->exec != NULL)
        cudaGraphExecDestroy(g->exec);
    free(g->notes);
    *g = {};
}

void queue_close(struct cuda *cuda)
{
    struct queue *q = cuda->queue;
    if (q == NULL)
        return;
    for (int i = 0; i < GRAPHS; i++)
        forget(&q->graph[i]);
    stage_close(q->stage);
    if (q->changing != NULL)
        cudaFree(q->changing);
    free(q->notes);
    delete q;
    cuda->queue = NULL;
}

extern "C" void cuda_use_graphs(struct backend *be, bool use)
{
    queue_run(be);
    cuda_of(be)->queue->direct = !use;
}

extern "C" void cuda_on_refusal(struct backend *be, void (*warn)(const char *text))
{
    cuda_of(be)->queue->warn = warn;
}

void queue_tell(struct backend *be, const char *text)
{
    void (*warn)(const char *) = cuda_of(be)->queue->warn;
    if (warn != NULL)
        warn(text);
}

/* --- noting ----------------------------------------------------------------------------------- */

uint64_t *queue_note(struct backend *be, queue_fn start, size_t words, size_t bytes, void **host,
                     size_t *at)
{
    struct queue *q = cuda_of(be)->queue;
    assert(bytes <= QUEUE_CHANGING_MOST && CALL_WORDS + words < NOTE_WORDS);
    if (q->words + CALL_WORDS + words > NOTE_WORDS || q->bytes + bytes > CHANGING_BYTES)
        queue_run(be);
    if (q->words == 0) /* decides how products are made, so it belongs to the run */
        q->notes[q->words++] = (uint64_t)be->precision;
    struct call call = {start, (uint32_t)words, (uint32_t)be->op};
    memcpy(q->notes + q->words, &call, sizeof call);
    uint64_t *args = q->notes + q->words + CALL_WORDS;
    q->words += CALL_WORDS + words;
    if (bytes > 0) {
        struct stage *s = &q->stage[q->now];
        if (q->bytes == 0)
            stage_wait(be, s, OP_upload);
        *host = static_cast<char *>(s->host) + q->bytes;
        *at = q->bytes;
        q->bytes += (bytes + CHANGING_ALIGN - 1) / CHANGING_ALIGN * CHANGING_ALIGN;
    }
    return args;
}

const void *queue_changing(struct backend *be, size_t at)
{
    return static_cast<const char *>(cuda_of(be)->queue->changing) + at;
}

/* --- starting --------------------------------------------------------------------------------- */

/* Changing numbers to the device, in front of the run that reads them. */
static void send_changing(struct backend *be)
{
    struct cuda *cuda = cuda_of(be);
    struct queue *q = cuda->queue;
    struct stage *s = &q->stage[q->now];
    if (q->bytes == 0)
        return;
    cuda_note(
        be, OP_upload,
        cudaMemcpyAsync(q->changing, s->host, q->bytes, cudaMemcpyHostToDevice, cuda->stream));
    stage_sent(be, s, OP_upload);
    q->now = (q->now + 1) % STAGE_SLOTS;
    q->bytes = 0;
}

static void start_calls(struct backend *be)
{
    struct queue *q = cuda_of(be)->queue;
    for (size_t at = 1; at < q->words && be->fault[0] == '\0';) {
        struct call call;
        memcpy(&call, q->notes + at, sizeof call);
        call_begins(be, (enum op_id)call.id);
        call.start(be, q->notes + at + CALL_WORDS);
        call_ends(be);
        at += CALL_WORDS + call.words;
    }
}

static uint64_t hash_of(const uint64_t *notes, size_t words)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a, by words */
    for (size_t i = 0; i < words; i++) {
        hash = (hash ^ notes[i]) * UINT64_C(1099511628211);
        hash ^= hash >> 32;
    }
    return hash;
}

static struct graph *find_graph(struct queue *q, uint64_t hash)
{
    for (int i = 0; i < GRAPHS; i++) {
        struct graph *g = &q->graph[i];
        if (g->exec != NULL && g->hash == hash && g->words == q->words &&
            memcmp(g->notes, q->notes, q->words * sizeof *q->notes) == 0)
            return g;
    }
    return NULL;
}

static bool came_before(struct queue *q, uint64_t hash)
{
    for (int i = 0; i < SEEN; i++)
        if (q->seen[i] == hash)
            return true;
    q->seen[q->next_seen] = hash;
    q->next_seen = (q->next_seen + 1) % SEEN;
    return false;
}

/* A free place for a graph of `words`, those launched longest ago having given way. */
static struct graph *find_place(struct queue *q, size_t words)
{
    for (;;) {
        struct graph *free_place = NULL, *oldest = NULL;
        size_t kept = 0;
        for (int i = 0; i < GRAPHS; i++) {
            struct graph *g = &q->graph[i];
            kept += g->words;
            if (g->exec == NULL)
                free_place = g;
            else if (oldest == NULL || g->used < oldest->used)
                oldest = g;
        }
        if (free_place != NULL && kept + words <= GRAPH_WORDS)
            return free_place;
        forget(oldest);
    }
}

/* Between beginning and end of a capture, which starts nothing. Operations may latch a fault. */
static cudaError_t capture(struct backend *be, cudaGraph_t *graph)
{
    struct cuda *cuda = cuda_of(be);
    cudaError_t error = cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess)
        return error;
    cuda->recording = true;
    start_calls(be);
    cuda->recording = false;
    return cudaStreamEndCapture(cuda->stream, graph);
}

/* A graph could not be made or launched. Nothing has started, so the fault is dropped and the run
 * can start directly. An error that stays belongs to the device and is a fault all the same. */
static void note_refusal(struct backend *be, cudaError_t error)
{
    struct queue *q = cuda_of(be)->queue;
    char text[500];
    cudaGetLastError();
    cudaError_t lasting = cudaGetLastError();
    if (lasting != cudaSuccess) {
        cuda_note(be, OP_copy, lasting);
        return;
    }
    snprintf(text, sizeof text,
             "CUDA refused to record operations as a graph (%s). They start one by one instead, "
             "with the same results. DEQ_CUDA_GRAPHS=0 records none",
             be->fault[0] != '\0' ? be->fault : cudaGetErrorString(error));
    be->fault[0] = '\0';
    if (q->refusals++ == 0)
        queue_tell(be, text);
}

/* Records the run into a new graph. NULL if there is no memory for its notes, or after a refusal.
 */
static struct graph *record(struct backend *be, uint64_t hash)
{
    struct cuda *cuda = cuda_of(be);
    struct queue *q = cuda->queue;
    cudaGraph_t graph = NULL;
    size_t bytes = q->words * sizeof *q->notes;
    uint64_t *notes = static_cast<uint64_t *>(malloc(bytes));
    if (notes == NULL)
        return NULL;
    memcpy(notes, q->notes, bytes);
    struct graph *g = find_place(q, q->words);
    *g = {NULL, notes, q->words, hash, cuda->work_moves, 0};
    cudaError_t error = capture(be, &graph);
    if (error == cudaSuccess && be->fault[0] == '\0')
        error = cudaGraphInstantiate(&g->exec, graph, 0);
    if (graph != NULL)
        cudaGraphDestroy(graph);
    if (error == cudaSuccess && be->fault[0] == '\0')
        return g;
    forget(g);
    note_refusal(be, error);
    return NULL;
}

/* The graph of the run, which is one that is kept or a new one if the run comes again. NULL if
 * there is none. */
static struct graph *graph_of_run(struct backend *be)
{
    struct cuda *cuda = cuda_of(be);
    struct queue *q = cuda->queue;
    if (q->direct || cuda->times != NULL || q->refusals >= REFUSALS || be->fault[0] != '\0')
        return NULL;
    uint64_t hash = hash_of(q->notes, q->words);
    struct graph *g = find_graph(q, hash);
    if (g != NULL && g->work_moves == cuda->work_moves)
        return g;
    if (g != NULL) /* it holds an old address */
        forget(g);
    return came_before(q, hash) ? record(be, hash) : NULL;
}

/* False if CUDA refuses, which starts nothing. */
static bool launch_graph(struct backend *be, struct graph *g)
{
    struct cuda *cuda = cuda_of(be);
    range_begins("graph");
    cudaError_t error = cudaGraphLaunch(g->exec, cuda->stream);
    range_ends();
    g->used = ++cuda->queue->clock;
    if (error != cudaSuccess)
        note_refusal(be, error);
    return error == cudaSuccess;
}

void queue_run(struct backend *be)
{
    struct queue *q = cuda_of(be)->queue;
    if (q->words == 0)
        return;
    send_changing(be);
    struct graph *g = graph_of_run(be);
    if (g == NULL || !launch_graph(be, g))
        start_calls(be);
    q->words = 0;
}
