#include "nn/clusters.h"

#include "base/mem.h"

void clusters_init(struct clusters *c, const int64_t *cutoffs, int n, int64_t vocab, int64_t width,
                   int64_t div_val)
{
    assert(n + 1 <= CLUSTERS_MAX);
    c->count = n + 1;
    c->end[0] = 0;
    for (int i = 0; i < n; i++)
        c->end[i + 1] = cutoffs[i];
    c->end[n + 1] = vocab;
    int64_t divisor = 1;
    for (int i = 0; i <= n; i++) {
        c->width[i] = width / divisor;
        divisor *= div_val;
    }
}

int clusters_find(const struct clusters *c, int64_t token)
{
    int i = 0;
    while (i + 1 < c->count && token >= c->end[i + 1])
        i++;
    return i;
}

enum status cluster_index_create(struct cluster_index *ix, struct workspace *ws, int64_t capacity,
                                 struct lifetime life, struct error *err)
{
    struct buffer b = {.name = "places of tokens",
                       .dtype = DTYPE_I32,
                       .ndim = 1,
                       .dim = {capacity},
                       .life = life,
                       .part = PART_LOGITS};
    *ix = (struct cluster_index){.capacity = capacity};
    workspace_declare(ws, &ix->pos, &b);
    b.name = "tokens within clusters";
    workspace_declare(ws, &ix->local, &b);
    TRY(mem_alloc((void **)&ix->host_pos, (size_t)capacity, sizeof *ix->host_pos, err));
    return mem_alloc((void **)&ix->host_local, (size_t)capacity, sizeof *ix->host_local, err);
}

void cluster_index_free(struct cluster_index *ix)
{
    mem_free(ix->host_pos);
    mem_free(ix->host_local);
    *ix = (struct cluster_index){0};
}

void cluster_index_set(struct cluster_index *ix, struct backend *be, const struct clusters *c,
                       const int32_t *tokens, int64_t n)
{
    assert(n <= ix->capacity);
    int64_t next[CLUSTERS_MAX] = {0};
    for (int64_t i = 0; i < n; i++) {
        assert(tokens[i] >= 0 && tokens[i] < c->end[c->count]);
        next[clusters_find(c, tokens[i])]++;
    }
    ix->start[0] = 0;
    for (int k = 0; k < c->count; k++) {
        ix->start[k + 1] = ix->start[k] + next[k];
        next[k] = ix->start[k];
    }
    for (int64_t i = 0; i < n; i++) {
        int k = clusters_find(c, tokens[i]);
        int64_t at = next[k]++;
        ix->host_pos[at] = (int32_t)i;
        ix->host_local[at] = (int32_t)(tokens[i] - c->end[k]);
    }
    struct tensor pos = tensor_prefix(&ix->pos, 1, n, 1, 1, 1);
    struct tensor local = tensor_prefix(&ix->local, 1, n, 1, 1, 1);
    op_upload(be, &pos, ix->host_pos, DTYPE_I32);
    op_upload(be, &local, ix->host_local, DTYPE_I32);
}
