#include "nn/adaptive_softmax.h"

#include "base/mem.h"

static int64_t head_size(const struct adaptive_softmax *s)
{
    return s->clusters.end[1] + s->clusters.count - 1;
}

static int64_t class_count(const struct adaptive_softmax *s, int i)
{
    return i == 0 ? head_size(s) : s->clusters.end[i + 1] - s->clusters.end[i];
}

/* Every chunk reads a cluster's table, and reads and writes its gradient: 3 numbers for each of its
 * classes times width. With half as many rows as the table is wide that is no more than the passes
 * over the logits themselves, in an eighth of the memory that table, gradient and moments take. */
static int64_t logit_numbers(const struct adaptive_softmax *s, int64_t capacity)
{
    int64_t numbers = s->chunk_numbers, most = 0;
    for (int i = 0; i < s->clusters.count; i++) {
        int64_t classes = class_count(s, i), rows = (s->clusters.width[i] + 1) / 2;
        numbers = classes * rows > numbers ? classes * rows : numbers;
        most = classes * capacity > most ? classes * capacity : most;
    }
    return numbers < most ? numbers : most;
}

enum status adaptive_softmax_create(struct adaptive_softmax *s, struct backend *be,
                                    int64_t capacity, const struct tensor *scratch,
                                    struct error *err)
{
    enum dtype real = be->ops->real;
    int64_t e = s->clusters.width[0], numbers = logit_numbers(s, capacity);
    s->logits_borrowed = scratch->data != NULL && tensor_count(scratch) >= numbers;
    enum memory_part before = op_part(be, PART_LOGITS);
    if (s->logits_borrowed)
        s->logits = tensor_prefix(scratch, 1, numbers, 1, 1, 1);
    else
        TRY(op_alloc(be, &s->logits, real, 1, numbers, 1, 1, 1, err));
    op_part(be, before);
    TRY(op_alloc(be, &s->head_bias, real, 1, head_size(s), 1, 1, 1, err));
    TRY(op_alloc(be, &s->head_dbias, real, 1, head_size(s), 1, 1, 1, err));
    if (s->clusters.count > 1) {
        TRY(op_alloc(be, &s->hidden, real, 2, capacity, s->d_model, 1, 1, err));
        TRY(op_alloc(be, &s->dhidden, real, 2, capacity, s->d_model, 1, 1, err));
    }
    if (s->clusters.count > 1 || s->proj[0].w.data != NULL) {
        TRY(op_alloc(be, &s->low, real, 2, capacity, e, 1, 1, err));
        TRY(op_alloc(be, &s->dlow, real, 2, capacity, e, 1, 1, err));
    }
    TRY(op_alloc(be, &s->target, DTYPE_I32, 1, capacity, 1, 1, 1, err));
    return mem_alloc((void **)&s->host_target, (size_t)capacity, sizeof *s->host_target, err);
}

void adaptive_softmax_free(struct adaptive_softmax *s, struct backend *be)
{
    struct tensor *all[] = {&s->head_bias, &s->head_dbias, &s->hidden, &s->dhidden,
                            &s->low,       &s->dlow,       &s->target};
    if (!s->logits_borrowed)
        op_release(be, &s->logits);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
    mem_free(s->host_target);
    s->host_target = NULL;
}

static void refresh_head_bias(const struct adaptive_softmax *s, struct backend *be)
{
    int64_t first = s->clusters.end[1];
    struct tensor words = tensor_slice(&s->head_bias, 0, first);
    op_copy(be, &words, &s->bias[0].w);
    if (s->clusters.count > 1) {
        struct tensor rows = tensor_slice(&s->head_bias, first, s->clusters.count - 1);
        op_copy(be, &rows, &s->cluster_bias.w);
    }
}

/* logits[n,C] of one cluster's classes (for cluster 0 the head) for projected rows low[n,E_i]. */
static void cluster_logits(const struct adaptive_softmax *s, struct backend *be, int i,
                           const struct tensor *low, const struct tensor *logits)
{
    if (i > 0 || s->clusters.count == 1) {
        weight_apply(be, &s->table[i], low, 0.0, logits);
        return;
    }
    int64_t n = low->dim[0], size = head_size(s), first = s->clusters.end[1];
    size_t skip = (size_t)first * dtype_size(logits->dtype);
    struct gemm words = {
        .trans_b = true, .alpha = 1, .a = *low, .b = s->table[0].w, .c_stride = size};
    words.c = tensor_make(logits->data, logits->dtype, 2, n, first, 1, 1);
    op_gemm_block(be, &words);
    struct gemm rows = words;
    rows.b = s->cluster_rows.w;
    rows.c = tensor_make((char *)logits->data + skip, logits->dtype, 2, n, size - first, 1, 1);
    op_gemm_block(be, &rows);
}

/* From dlogits to dlow and the gradients of the tables. */
static void cluster_logits_vjp(const struct adaptive_softmax *s, struct backend *be, int i,
                               const struct tensor *low, const struct tensor *dlogits,
                               const struct tensor *dlow)
{
    if (i > 0 || s->clusters.count == 1) {
        weight_vjp(be, &s->table[i], dlogits, 0.0, dlow);
        weight_gradient(be, &s->table[i], dlogits, low);
        return;
    }
    int64_t n = low->dim[0], size = head_size(s), first = s->clusters.end[1];
    size_t skip = (size_t)first * dtype_size(dlogits->dtype);
    struct tensor part[2] = {
        tensor_make(dlogits->data, dlogits->dtype, 2, n, first, 1, 1),
        tensor_make((char *)dlogits->data + skip, dlogits->dtype, 2, n, size - first, 1, 1),
    };
    const struct weight *table[2] = {&s->table[0], &s->cluster_rows};
    for (int k = 0; k < 2; k++) {
        struct gemm back = {
            .alpha = 1, .beta = k, .a = part[k], .b = table[k]->w, .c = *dlow, .a_stride = size};
        op_gemm_block(be, &back);
        struct gemm grad = {.trans_a = true,
                            .alpha = 1,
                            .beta = 1,
                            .a = part[k],
                            .b = *low,
                            .c = table[k]->dw,
                            .a_stride = size};
        op_gemm_block(be, &grad);
    }
}

/* Loss of one cluster over its projected rows, chunk by chunk. target, pos I32 [n]; pos NULL for
 * the head. dlow NULL: no gradient. */
static void cluster_nll(const struct adaptive_softmax *s, struct backend *be, int i,
                        const struct tensor *low, const struct tensor *target,
                        const struct tensor *pos, double scale, const struct tensor *nll,
                        const struct tensor *dlow)
{
    int64_t n = low->dim[0];
    int64_t classes = class_count(s, i);
    int64_t chunk = tensor_count(&s->logits) / classes;
    for (int64_t at = 0; at < n; at += chunk) {
        int64_t rows = n - at < chunk ? n - at : chunk;
        struct tensor logits = tensor_prefix(&s->logits, 2, rows, classes, 1, 1);
        struct tensor part = tensor_slice(low, at, rows);
        cluster_logits(s, be, i, &part, &logits);
        struct softmax_xent xent = {
            .logits = logits,
            .bias = i == 0 ? s->head_bias : s->bias[i].w,
            .target = tensor_slice(target, at, rows),
            .nll = pos != NULL ? *nll : tensor_slice(nll, at, rows),
            .gradient = dlow != NULL,
            .scale = scale,
        };
        if (pos != NULL)
            xent.pos = tensor_slice(pos, at, rows);
        op_softmax_xent(be, &xent);
        if (dlow == NULL)
            continue;
        op_col_sum(be, i == 0 ? &s->head_dbias : &s->bias[i].dw, &logits);
        struct tensor dpart = tensor_slice(dlow, at, rows);
        cluster_logits_vjp(s, be, i, &part, &logits, &dpart);
    }
}

static void add_head_bias_gradient(const struct adaptive_softmax *s, struct backend *be)
{
    int64_t first = s->clusters.end[1];
    struct tensor words = tensor_slice(&s->head_dbias, 0, first);
    op_axpby(be, &s->bias[0].dw, 1.0, &words, 1.0);
    if (s->clusters.count > 1) {
        struct tensor rows = tensor_slice(&s->head_dbias, first, s->clusters.count - 1);
        op_axpby(be, &s->cluster_bias.dw, 1.0, &rows, 1.0);
    }
}

/* low[n,E_i] = q Q_i, or q itself where the projection is the identity. */
static struct tensor project(const struct adaptive_softmax *s, struct backend *be, int i,
                             const struct tensor *q)
{
    if (s->proj[i].w.data == NULL)
        return *q;
    struct tensor low = tensor_prefix(&s->low, 2, q->dim[0], s->proj[i].w.dim[1], 1, 1);
    op_gemm(be, false, false, 1.0, q, &s->proj[i].w, 0.0, &low);
    return low;
}

/* dq = dlow Q_i^T and the projection's gradient; nothing to do for the identity. */
static void project_vjp(const struct adaptive_softmax *s, struct backend *be, int i,
                        const struct tensor *q, const struct tensor *dlow, const struct tensor *dq)
{
    if (s->proj[i].w.data == NULL)
        return;
    op_gemm(be, false, true, 1.0, dlow, &s->proj[i].w, 0.0, dq);
    op_gemm(be, true, false, 1.0, q, dlow, 1.0, &s->proj[i].dw);
}

static void head_nll(const struct adaptive_softmax *s, struct backend *be, const struct tensor *q,
                     const int32_t *targets, double scale, const struct tensor *nll,
                     const struct tensor *dq)
{
    int64_t n = q->dim[0];
    for (int64_t i = 0; i < n; i++) {
        int k = clusters_find(&s->clusters, targets[i]);
        s->host_target[i] = (int32_t)(k == 0 ? targets[i] : head_size(s) - k);
    }
    struct tensor target = tensor_prefix(&s->target, 1, n, 1, 1, 1);
    op_upload(be, &target, s->host_target, DTYPE_I32);
    refresh_head_bias(s, be);
    struct tensor low = project(s, be, 0, q);
    if (dq == NULL) {
        cluster_nll(s, be, 0, &low, &target, NULL, scale, nll, NULL);
        return;
    }
    struct tensor dlow = *dq;
    if (s->proj[0].w.data != NULL)
        dlow = tensor_prefix(&s->dlow, 2, n, low.dim[1], 1, 1);
    op_fill(be, &s->head_dbias, 0.0);
    cluster_nll(s, be, 0, &low, &target, NULL, scale, nll, &dlow);
    add_head_bias_gradient(s, be);
    project_vjp(s, be, 0, q, &dlow, dq);
}

static void tail_nll(const struct adaptive_softmax *s, struct backend *be, int i,
                     const struct tensor *q, const struct cluster_index *index, double scale,
                     const struct tensor *nll, const struct tensor *dq)
{
    int64_t n = cluster_size(index, i);
    if (n == 0)
        return;
    struct tensor pos = cluster_pos(index, i), target = cluster_local(index, i);
    struct tensor hidden = tensor_prefix(&s->hidden, 2, n, s->d_model, 1, 1);
    op_gather_rows(be, &hidden, q, &pos, 1.0);
    struct tensor low = project(s, be, i, &hidden);
    if (dq == NULL) {
        cluster_nll(s, be, i, &low, &target, &pos, scale, nll, NULL);
        return;
    }
    struct tensor dhidden = tensor_prefix(&s->dhidden, 2, n, s->d_model, 1, 1), dlow = dhidden;
    if (s->proj[i].w.data != NULL)
        dlow = tensor_prefix(&s->dlow, 2, n, low.dim[1], 1, 1);
    cluster_nll(s, be, i, &low, &target, &pos, scale, nll, &dlow);
    project_vjp(s, be, i, &hidden, &dlow, &dhidden);
    op_scatter_add_rows(be, dq, &dhidden, &pos, 1.0);
}

void adaptive_softmax_nll(const struct adaptive_softmax *s, struct backend *be,
                          const struct tensor *q, const int32_t *targets,
                          const struct cluster_index *index, double scale, const struct tensor *nll,
                          const struct tensor *dq)
{
    op_fill(be, nll, 0.0);
    head_nll(s, be, q, targets, scale, nll, dq);
    if (s->clusters.count == 1)
        return;
    op_end_run(be); /* how many rows each cluster has is another number in every batch */
    for (int i = 1; i < s->clusters.count; i++)
        tail_nll(s, be, i, q, index, scale, nll, dq);
    op_end_run(be);
}

/* logp[row*V + first ...] <- log-softmax of cluster i (for 0: the head's words), plus the head's
 * log-probability of the cluster where i > 0. */
static void cluster_logp(const struct adaptive_softmax *s, struct backend *be, int i,
                         const struct tensor *low, double *logp, double *cluster_prob)
{
    int64_t vocab = s->clusters.end[s->clusters.count], first = s->clusters.end[i];
    int64_t words = s->clusters.end[i + 1] - first;
    int64_t classes = i == 0 ? head_size(s) : words, extra = classes - words;
    int tails = s->clusters.count - 1;
    for (int64_t row = 0; row < low->dim[0]; row++) {
        struct tensor logits = tensor_prefix(&s->logits, 2, 1, classes, 1, 1);
        struct tensor one = tensor_slice(low, row, 1);
        cluster_logits(s, be, i, &one, &logits);
        op_log_softmax(be, &logits, i == 0 ? &s->head_bias : &s->bias[i].w);
        double *to = logp + row * vocab + first;
        struct tensor part = tensor_make(logits.data, logits.dtype, 1, words, 1, 1, 1);
        op_download(be, to, DTYPE_F64, &part);
        if (i == 0 && extra > 0) {
            struct tensor flat = tensor_shape(&logits, 1, classes, 1, 1, 1);
            struct tensor cols = tensor_slice(&flat, words, extra);
            op_download(be, cluster_prob + row * tails, DTYPE_F64, &cols);
        }
        if (i > 0) /* cluster i stands at head column head_size - i */
            for (int64_t k = 0; k < words; k++)
                to[k] += cluster_prob[row * tails + tails - i];
    }
}

enum status adaptive_softmax_logp(const struct adaptive_softmax *s, struct backend *be,
                                  const struct tensor *q, double *logp, struct error *err)
{
    double *cluster_prob = NULL;
    size_t tails = (size_t)s->clusters.count - 1;
    TRY(mem_alloc((void **)&cluster_prob, (size_t)q->dim[0] * tails, sizeof *cluster_prob, err));
    refresh_head_bias(s, be);
    for (int i = 0; i < s->clusters.count; i++) {
        struct tensor low = project(s, be, i, q);
        cluster_logp(s, be, i, &low, logp, cluster_prob);
    }
    mem_free(cluster_prob);
    return STATUS_OK;
}
