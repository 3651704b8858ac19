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

/* Every chunk reads a cluster's table, and reads and writes its gradient, 3 numbers for each of its
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

static void declare_low_precision(struct adaptive_softmax *s, struct workspace *ws,
                                  int64_t capacity, struct lifetime life, bool train)
{
    enum dtype low = op_low_precision(ws->be);
    if (low == ws->be->ops->real)
        return;
    for (int i = 0; i < s->clusters.count; i++)
        weight_declare_low_precision(&s->table[i], ws, 0);
    if (train)
        workspace_declare(ws, &s->rounded,
                          &(struct buffer){.name = "gradient of logits, rounded",
                                           .dtype = low,
                                           .ndim = 1,
                                           .dim = {logit_numbers(s, capacity)},
                                           .life = life,
                                           .part = PART_LOGITS});
}

enum status adaptive_softmax_create(struct adaptive_softmax *s, struct workspace *ws,
                                    int64_t capacity, struct lifetime life, bool train,
                                    struct error *err)
{
    int64_t e = s->clusters.width[0], d = s->d_model, head = head_size(s);
    bool tails = s->clusters.count > 1, projects = tails || s->proj[0].w.data != NULL;
    const struct {
        bool wanted;
        struct tensor *t;
        const char *name;
        int64_t rows, cols;
    } all[] = {
        {true, &s->logits, "logits", logit_numbers(s, capacity), 0},
        {true, &s->head_bias, "bias of the head", head, 0},
        {train, &s->head_dbias, "gradient of the head's bias", head, 0},
        {tails, &s->hidden, "rows of a cluster", capacity, d},
        {tails && train, &s->dhidden, "their gradient", capacity, d},
        {projects, &s->low, "rows projected for the softmax", capacity, e},
        {projects && train, &s->dlow, "gradient of rows projected", capacity, e},
    };
    struct buffer b = {.life = life, .part = PART_LOGITS};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        b.name = all[i].name;
        b.dtype = ws->be->ops->real;
        b.ndim = all[i].cols > 0 ? 2 : 1;
        b.dim[0] = all[i].rows;
        b.dim[1] = all[i].cols;
        if (all[i].wanted)
            workspace_declare(ws, all[i].t, &b);
    }
    workspace_declare(ws, &s->target,
                      &(struct buffer){.name = "targets of the head",
                                       .dtype = DTYPE_I32,
                                       .ndim = 1,
                                       .dim = {capacity},
                                       .life = life,
                                       .part = PART_LOGITS});
    declare_low_precision(s, ws, capacity, life, train);
    return mem_alloc((void **)&s->host_target, (size_t)capacity, sizeof *s->host_target, err);
}

void adaptive_softmax_free(struct adaptive_softmax *s)
{
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
    struct gemm words = {.trans_b = true,
                         .b_padded = true,
                         .alpha = 1,
                         .a = *low,
                         .b = weight_factor(&s->table[0]),
                         .b_stride = s->table[0].stride,
                         .c_stride = size};
    words.c = tensor_make(logits->data, logits->dtype, 2, n, first, 1, 1);
    op_gemm(be, &words);
    struct gemm rows = words;
    rows.b = s->cluster_rows.w;
    rows.b_stride = 0;
    rows.b_padded = false;
    rows.c = tensor_make((char *)logits->data + skip, logits->dtype, 2, n, size - first, 1, 1);
    op_gemm(be, &rows);
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
        struct gemm back = {.b_padded = true,
                            .alpha = 1,
                            .beta = k,
                            .a = part[k],
                            .b = weight_factor(table[k]),
                            .c = *dlow,
                            .a_stride = size,
                            .b_stride = table[k]->stride};
        op_gemm(be, &back);
        struct gemm grad = {.trans_a = true,
                            .alpha = 1,
                            .beta = 1,
                            .a = part[k],
                            .b = *low,
                            .c = table[k]->dw,
                            .a_stride = size};
        op_gemm(be, &grad);
    }
}

/* The rows of a loss that one cluster is about. */
struct cluster_part {
    int i;
    struct tensor low, dlow; /* [n,E_i] projected, and the gradient if wanted */
    struct tensor target;    /* I32 [n] ids inside the cluster */
    struct tensor pos;       /* I32 [n] places in the loss, or no data for all in order */
};

/* The gradient of logits [n,C] as both of its products take it, rounded once. It stays as it is
 * where a row would not end on whole pieces of 16 bytes, or is taken in parts. */
static struct tensor round_gradient(const struct adaptive_softmax *s, struct backend *be, int i,
                                    const struct tensor *dlogits)
{
    int64_t n = dlogits->dim[0], classes = dlogits->dim[1];
    if (s->rounded.data == NULL || classes % LOW_PRECISION_ALIGN != 0 ||
        (i == 0 && s->clusters.count > 1))
        return *dlogits;
    struct copy_block p = {.to = tensor_prefix(&s->rounded, 3, 1, n, classes, 1),
                           .from = tensor_shape(dlogits, 3, 1, n, classes, 1)};
    op_copy_block(be, &p);
    return tensor_shape(&p.to, 2, n, classes, 1, 1);
}

/* The loss of one cluster, chunk by chunk. */
static void cluster_nll(const struct adaptive_softmax *s, struct backend *be,
                        const struct softmax_loss *loss, const struct cluster_part *c)
{
    bool gradient = c->dlow.data != NULL, placed = c->pos.data != NULL;
    int64_t n = c->low.dim[0], classes = class_count(s, c->i);
    int64_t chunk = tensor_count(&s->logits) / classes;
    weight_round(be, &s->table[c->i]);
    for (int64_t at = 0; at < n; at += chunk) {
        int64_t rows = n - at < chunk ? n - at : chunk;
        struct tensor logits = tensor_prefix(&s->logits, 2, rows, classes, 1, 1);
        struct tensor low = tensor_slice(&c->low, at, rows);
        cluster_logits(s, be, c->i, &low, &logits);
        struct softmax_xent xent = {
            .logits = logits,
            .bias = c->i == 0 ? s->head_bias : s->bias[c->i].w,
            .target = tensor_slice(&c->target, at, rows),
            .nll = placed ? loss->nll : tensor_slice(&loss->nll, at, rows),
            .gradient = gradient,
            .scale = loss->scale,
        };
        if (placed)
            xent.pos = tensor_slice(&c->pos, at, rows);
        op_softmax_xent(be, &xent);
        if (!gradient)
            continue;
        op_col_sum(be, c->i == 0 ? &s->head_dbias : &s->bias[c->i].dw, &logits);
        struct tensor dlow = tensor_slice(&c->dlow, at, rows);
        struct tensor dlogits = round_gradient(s, be, c->i, &logits);
        cluster_logits_vjp(s, be, c->i, &low, &dlogits, &dlow);
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
    op_gemm(be, &(struct gemm){.alpha = 1, .a = *q, .b = s->proj[i].w, .c = low});
    return low;
}

/* dq = dlow Q_i^T and the projection's gradient. The identity needs nothing. */
static void project_vjp(const struct adaptive_softmax *s, struct backend *be, int i,
                        const struct tensor *q, const struct tensor *dlow, const struct tensor *dq)
{
    if (s->proj[i].w.data == NULL)
        return;
    op_gemm(be,
            &(struct gemm){.trans_b = true, .alpha = 1, .a = *dlow, .b = s->proj[i].w, .c = *dq});
    op_gemm(be,
            &(struct gemm){
                .trans_a = true, .alpha = 1, .beta = 1, .a = *q, .b = *dlow, .c = s->proj[i].dw});
}

/* Where the gradient of rows dx [n,D] behind cluster i's projection is gathered. */
static struct tensor projected_gradient(const struct adaptive_softmax *s, int i,
                                        const struct tensor *dx)
{
    if (dx->data == NULL || s->proj[i].w.data == NULL)
        return *dx;
    return tensor_prefix(&s->dlow, 2, dx->dim[0], s->proj[i].w.dim[1], 1, 1);
}

static void head_nll(const struct adaptive_softmax *s, struct backend *be,
                     const struct softmax_loss *loss)
{
    int64_t n = loss->q.dim[0];
    for (int64_t i = 0; i < n; i++) {
        int k = clusters_find(&s->clusters, loss->targets[i]);
        s->host_target[i] = (int32_t)(k == 0 ? loss->targets[i] : head_size(s) - k);
    }
    struct cluster_part head = {.target = tensor_prefix(&s->target, 1, n, 1, 1, 1),
                                .low = project(s, be, 0, &loss->q),
                                .dlow = projected_gradient(s, 0, &loss->dq)};
    op_upload(be, &head.target, s->host_target, DTYPE_I32);
    refresh_head_bias(s, be);
    if (loss->dq.data != NULL)
        op_fill(be, &s->head_dbias, 0.0);
    cluster_nll(s, be, loss, &head);
    if (loss->dq.data == NULL)
        return;
    add_head_bias_gradient(s, be);
    project_vjp(s, be, 0, &loss->q, &head.dlow, &loss->dq);
}

static void tail_nll(const struct adaptive_softmax *s, struct backend *be, int i,
                     const struct softmax_loss *loss)
{
    int64_t n = cluster_size(loss->index, i);
    if (n == 0)
        return;
    struct tensor hidden = tensor_prefix(&s->hidden, 2, n, s->d_model, 1, 1), dhidden = {0};
    if (loss->dq.data != NULL)
        dhidden = tensor_prefix(&s->dhidden, 2, n, s->d_model, 1, 1);
    struct cluster_part tail = {
        .i = i, .target = cluster_local(loss->index, i), .pos = cluster_pos(loss->index, i)};
    op_gather_rows(be, &hidden, &loss->q, &tail.pos, 1.0);
    tail.low = project(s, be, i, &hidden);
    tail.dlow = projected_gradient(s, i, &dhidden);
    cluster_nll(s, be, loss, &tail);
    if (loss->dq.data == NULL)
        return;
    project_vjp(s, be, i, &hidden, &tail.dlow, &dhidden);
    op_scatter_add_rows(be, &loss->dq, &dhidden, &tail.pos, 1.0);
}

void adaptive_softmax_nll(const struct adaptive_softmax *s, struct backend *be,
                          const struct softmax_loss *loss)
{
    op_fill(be, &loss->nll, 0.0);
    head_nll(s, be, loss);
    if (s->clusters.count == 1)
        return;
    op_graph_break(be); /* how many rows each cluster has is another number in every batch */
    for (int i = 1; i < s->clusters.count; i++)
        tail_nll(s, be, i, loss);
    op_graph_break(be);
}

/* Where the log-probabilities of a few rows go. */
struct rows_logp {
    int64_t rows;
    double *logp;         /* [rows,V] */
    double *cluster_prob; /* scratch [rows,further clusters], in the head's order */
    double *log_sum;      /* [rows], or NULL */
};

static double read_number(struct backend *be, const struct tensor *t, int64_t index)
{
    double x;
    struct tensor flat = tensor_shape(t, 1, tensor_count(t), 1, 1, 1);
    struct tensor one = tensor_slice(&flat, index, 1);
    op_download(be, &x, DTYPE_F64, &one);
    return x;
}

/* As project, but row by row, so that a row's bits do not depend on the others. */
static struct tensor project_rows(const struct adaptive_softmax *s, struct backend *be, int i,
                                  const struct tensor *q)
{
    if (s->proj[i].w.data == NULL)
        return *q;
    struct tensor low = tensor_prefix(&s->low, 2, q->dim[0], s->proj[i].w.dim[1], 1, 1);
    for (int64_t row = 0; row < q->dim[0]; row++) {
        struct gemm one = {.alpha = 1, .a = tensor_slice(q, row, 1), .b = s->proj[i].w};
        one.c = tensor_slice(&low, row, 1);
        op_gemm(be, &one);
    }
    return low;
}

/* Copies `count` columns of t [rows,n] to the host, whose rows lie `step` apart. */
static void download_columns(struct backend *be, const struct tensor *t, int64_t first,
                             int64_t count, double *to, int64_t step)
{
    struct tensor flat = tensor_shape(t, 1, tensor_count(t), 1, 1, 1);
    for (int64_t row = 0; row < t->dim[0]; row++) {
        struct tensor part = tensor_slice(&flat, row * t->dim[1] + first, count);
        op_download(be, to + row * step, DTYPE_F64, &part);
    }
}

/* to->logp[row, first ...] <- log-softmax of cluster i (of cluster 0, the head's words) for rows
 * q [rows,D], plus the head's log-probability of the cluster where i > 0. */
static void cluster_logp(const struct adaptive_softmax *s, struct backend *be, int i,
                         const struct tensor *q, const struct rows_logp *to)
{
    int64_t vocab = s->clusters.end[s->clusters.count], first = s->clusters.end[i];
    int64_t words = s->clusters.end[i + 1] - first, tails = s->clusters.count - 1;
    int64_t classes = i == 0 ? head_size(s) : words;
    const struct tensor *bias = i == 0 ? &s->head_bias : &s->bias[i].w;
    struct tensor logits = tensor_prefix(&s->logits, 2, to->rows, classes, 1, 1);
    struct tensor low = project_rows(s, be, i, q);
    weight_round(be, &s->table[i]);
    cluster_logits(s, be, i, &low, &logits);
    bool sum = i == 0 && to->log_sum != NULL;
    for (int64_t row = 0; row < to->rows && sum; row++)
        to->log_sum[row] = read_number(be, &logits, row * classes) + read_number(be, bias, 0);
    op_log_softmax(be, &logits, bias);
    download_columns(be, &logits, 0, words, to->logp + first, vocab);
    if (i == 0 && tails > 0)
        download_columns(be, &logits, words, tails, to->cluster_prob, tails);
    for (int64_t row = 0; row < to->rows; row++) {
        double *logp = to->logp + row * vocab + first;
        if (sum)
            to->log_sum[row] -= logp[0];
        for (int64_t k = 0; i > 0 && k < words; k++) /* cluster i is column head_size - i */
            logp[k] += to->cluster_prob[row * tails + tails - i];
    }
}

enum status adaptive_softmax_logp(const struct adaptive_softmax *s, struct backend *be,
                                  const struct tensor *q, double *logp, double *log_sum,
                                  struct error *err)
{
    double *cluster_prob = NULL;
    int64_t vocab = s->clusters.end[s->clusters.count], n = q->dim[0], most = 0;
    for (int i = 0; i < s->clusters.count; i++)
        most = class_count(s, i) > most ? class_count(s, i) : most;
    int64_t chunk = tensor_count(&s->logits) / most;
    TRY(mem_alloc((void **)&cluster_prob, (size_t)(n * s->clusters.count), sizeof(double), err));
    refresh_head_bias(s, be);
    for (int64_t at = 0; at < n; at += chunk) {
        int64_t rows = n - at < chunk ? n - at : chunk;
        struct rows_logp to = {rows, logp + at * vocab, cluster_prob,
                               log_sum != NULL ? log_sum + at : NULL};
        struct tensor part = tensor_slice(q, at, rows);
        for (int i = 0; i < s->clusters.count; i++)
            cluster_logp(s, be, i, &part, &to);
    }
    mem_free(cluster_prob);
    return STATUS_OK;
}
