/* Batches of texts through the model, some positions at a time. */
#include "score/scorer.h"

#include "base/mem.h"
#include <math.h>
#include <stdlib.h>

static const struct masks no_masks = {.source = MASKS_NONE};

/* Measured on two cores with the default model (README). Products of fewer rows are slower, and
 * with more rows than this nothing is gained. A text alone is solved some positions at a time,
 * since its products would have one row. A position that waits for its predecessors takes fewer
 * evaluations than one solved beside them. */
enum { ROWS_AT_ONCE = 512, ALONE_AT_ONCE = 128, MEMORY_BYTES = 64 << 20 };
/* Texts are scored together if the shortest has half the tokens of the longest, less this. */
enum { SHORTER_BY = 8 };
/* Log-probabilities of all tokens held at once. */
enum { LOGP_NUMBERS = 1 << 20 };

void score_prepare(struct score_plan *plan, const struct config *config, double tol,
                   int64_t max_iter)
{
    struct config *c = &plan->config;
    struct solver_config *f = &c->solver.forward;
    *plan = (struct score_plan){.config = *config, .unk = -1};
    plan->other_scope =
        c->model.layers == 0 && (f->scope == SCOPE_SEQUENCE || f->scope == SCOPE_BATCH);
    if (plan->other_scope) {
        f->scope = SCOPE_PREFIX;
        f->line_search = false;
    }
    f->stop = STOP_REL;
    f->tol = tol;
    f->max_iter = max_iter;
    /* Some positions find no lower residual for a hundred evaluations, and converge afterwards. */
    f->stall = max_iter;
    /* Layers with shared weights remember their last states alone, and a published trellis repeats
     * its last one, so that both depend on where a segment begins. */
    bool shared = c->model.layers > 0 && c->model.tie_layers;
    bool trellis = c->model.cell == CELL_TRELLIS;
    plan->invariant = !shared && !(trellis && c->model.compat);
    c->train.precision = PRECISION_FP32;
    if (trellis && c->eval.mem_len == 0)
        c->eval.mem_len = 1; /* it then remembers what it needs */
    if (trellis)
        return;
    plan->window = c->eval.mem_len + c->eval.tgt_len;
    if (c->model.local_size > 0 && c->model.local_size < plan->window)
        plan->window = c->model.local_size;
    if (plan->invariant) {
        c->model.local_size = plan->window;
        c->eval.mem_len = plan->window - 1;
    }
}

enum status scorer_create(struct scorer **out, struct backend *be, const struct score_plan *plan,
                          struct error *err)
{
    enum status status = STATUS_OK;
    struct scorer *s = NULL;
    *out = NULL;
    TRY(mem_alloc((void **)&s, 1, sizeof *s, err));
    s->be = be;
    s->plan = *plan;
    params_init(&s->params, be);
    TRY_OUT(model_declare(&s->params, &plan->config.model, err));
    TRY_OUT(params_commit(&s->params, false, err));
    *out = s;
    return STATUS_OK;
out:
    scorer_free(s);
    return status;
}

static void free_batch(struct scorer *s)
{
    model_free(s->m);
    mem_free(s->input);
    mem_free(s->target);
    mem_free(s->evals);
    mem_free(s->nll);
    mem_free(s->residual);
    mem_free(s->logp);
    s->m = NULL;
    s->input = s->target = s->evals = NULL;
    s->nll = s->residual = s->logp = NULL;
}

void scorer_free(struct scorer *s)
{
    if (s == NULL)
        return;
    free_batch(s);
    params_free(&s->params);
    mem_free(s);
}

static enum status create_batch(struct scorer *s, const struct model_plan *plan, struct error *err)
{
    const struct solver_config *c = &s->plan.config.solver.forward;
    size_t n = (size_t)(plan->batch * plan->length);
    int64_t vocab = s->plan.config.model.vocab_size;
    free_batch(s);
    TRY(model_create(&s->m, s->be, &s->plan.config, &s->params, plan, err));
    TRY(model_set_limits(s->m, DIRECTION_FORWARD, c->max_iter, c->tol, STOP_REL, err));
    TRY(mem_alloc((void **)&s->input, n, sizeof *s->input, err));
    TRY(mem_alloc((void **)&s->target, n, sizeof *s->target, err));
    TRY(mem_alloc((void **)&s->evals, n, sizeof *s->evals, err));
    TRY(mem_alloc((void **)&s->nll, n, sizeof *s->nll, err));
    TRY(mem_alloc((void **)&s->residual, n, sizeof *s->residual, err));
    model_refresh(s->m);
    if (!s->plan.ranks)
        return STATUS_OK;
    s->logp_rows = vocab < LOGP_NUMBERS ? LOGP_NUMBERS / vocab : 1;
    s->logp_rows = s->logp_rows < (int64_t)n ? s->logp_rows : (int64_t)n;
    return mem_alloc((void **)&s->logp, (size_t)(s->logp_rows * vocab), sizeof *s->logp, err);
}

/* Makes a model for a batch unless the latest one is like it, and begins with an empty memory. */
static enum status use_batch(struct scorer *s, int64_t batch, int64_t length, int64_t memory,
                             struct error *err)
{
    struct model_plan plan = {.batch = batch, .length = length, .mem_len = memory};
    const struct model *m = s->m;
    if (m == NULL || m->plan.batch != batch || m->plan.length != length ||
        m->plan.mem_len != memory) {
        enum status status = create_batch(s, &plan, err);
        if (status != STATUS_OK) {
            free_batch(s); /* what is half made is not used again */
            return status;
        }
    }
    model_reset_memory(s->m);
    return STATUS_OK;
}

/* The place of a token among all, from their log-probabilities. */
static void rank_token(const double *logp, int64_t vocab, int32_t target, int64_t unk,
                       struct score_token *out)
{
    int64_t above = 0, above_known = 0;
    for (int64_t i = 0; i < vocab; i++) {
        bool before = logp[i] > logp[target] || (logp[i] == logp[target] && i < target);
        above += before;
        above_known += before && i != unk;
    }
    out->rank = (int32_t)(above + 1);
    out->greedy = above_known == 0 && target != unk;
}

/* Ranks of the segment's targets, some positions at a time. */
static enum status rank_segment(struct scorer *s, struct score_token *out, struct error *err)
{
    struct model *m = s->m;
    struct tensor q = tensor_matrix(&m->q);
    int64_t n = m->plan.batch * m->length, vocab = s->plan.config.model.vocab_size;
    for (int64_t at = 0; at < n; at += s->logp_rows) {
        int64_t rows = n - at < s->logp_rows ? n - at : s->logp_rows;
        struct tensor part = tensor_slice(&q, at, rows);
        TRY(adaptive_softmax_logp(&m->vocab.softmax, s->be, &part, s->logp, NULL, err));
        for (int64_t i = 0; i < rows; i++)
            rank_token(s->logp + i * vocab, vocab, s->target[at + i], s->plan.unk, &out[at + i]);
    }
    return STATUS_OK;
}

/* Scores one segment of the batch, whose tokens stand in s->input and s->target. */
static enum status solve_segment(struct scorer *s, int64_t length, struct score_token *out,
                                 struct error *err)
{
    struct model *m = s->m;
    struct solve_report report;
    int64_t n = m->plan.batch * length;
    model_begin(m, s->input, length, &no_masks);
    TRY(model_solve(m, 0, false, err));
    model_loss(m, s->target, 1.0, false);
    (void)model_read_loss(m, s->nll);
    equilibrium_read_positions(m->eq, s->evals, s->residual);
    TRY(model_report(m, &report, NULL, err));
    s->paid += report.paid_mean * (double)n;
    for (int64_t i = 0; i < n; i++)
        out[i] = (struct score_token){
            .logp = -s->nll[i], .evals = s->evals[i], .residual = s->residual[i]};
    if (s->plan.ranks)
        TRY(rank_segment(s, out, err));
    model_remember(m);
    return backend_check(s->be, err);
}

/* Counts what is asked for, which is less than what is computed where a batch is not full. */
static void count_tokens(struct scorer *s, const struct score_token *out, int64_t n)
{
    s->positions += n;
    for (int64_t i = 0; i < n; i++)
        s->unconverged += out[i].residual > s->plan.config.solver.forward.tol;
}

/* --- many texts ------------------------------------------------------------------------------- */

/* Bytes of memory that a position of a text takes. */
static int64_t position_bytes(const struct scorer *s)
{
    const struct config_model *m = &s->plan.config.model;
    int64_t blocks = m->layers > 0 ? m->layers : m->blocks;
    if (m->cell == CELL_TRELLIS)
        return 0;
    if (m->cell == CELL_MODERN) /* keys and values as remembered, and as attention reads them */
        return (2 * m->n_kv_head + 3 * m->n_head) * m->d_head * (blocks + m->prelude + m->coda) *
               (int64_t)dtype_size(s->be->ops->real);
    return 3 * m->d_model * blocks * (int64_t)dtype_size(s->be->ops->real);
}

/* How many of the sorted texts[n] are scored with the last one, the longest. A text that ends early
 * leaves its stream idle. */
static int64_t like_the_last(const struct score_text *const *texts, int64_t n)
{
    int64_t count = 1, least = (texts[n - 1]->count - 1) / 2 - SHORTER_BY;
    while (count < n && texts[n - count - 1]->count - 1 > least)
        count++;
    return count;
}

/* What is made for n texts of at most `count` tokens. */
static enum status use_class(struct scorer *s, int64_t count, int64_t n, struct error *err)
{
    const struct score_plan *p = &s->plan;
    int64_t memory = p->config.eval.mem_len, batch = p->batch, length = p->length;
    for (int64_t shorter = 1; p->invariant && p->window > 0 && shorter < memory; shorter *= 2)
        if (shorter >= count)
            memory = shorter;
    int64_t bytes = memory * position_bytes(s), most = ROWS_AT_ONCE;
    if (bytes > 0 && MEMORY_BYTES / bytes < most)
        most = MEMORY_BYTES / bytes > 0 ? MEMORY_BYTES / bytes : 1;
    if (batch == 0)
        batch = n < most ? n : most;
    if (length == 0)
        length = batch < ROWS_AT_ONCE / ALONE_AT_ONCE ? ALONE_AT_ONCE : ROWS_AT_ONCE / batch;
    if (!p->invariant)
        length = p->config.eval.tgt_len;
    else if (length > count - 1)
        length = count - 1;
    return use_batch(s, batch, length, memory, err);
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Scores at most plan.batch texts, the last of which is the longest. */
static enum status score_group(struct scorer *s, const struct score_text *const *texts, int64_t n,
                               struct error *err)
{
    enum status status = STATUS_OK;
    const struct model_plan *plan = &s->m->plan;
    struct score_token *out = NULL;
    int64_t longest = texts[n - 1]->count - 1;
    TRY(mem_alloc((void **)&out, (size_t)(plan->batch * plan->length), sizeof *out, err));
    for (int64_t at = 0; at < longest; at += plan->length) {
        int64_t length = longest - at < plan->length ? longest - at : plan->length;
        for (int64_t i = 0; i < plan->batch * length; i++) {
            const struct score_text *t = texts[i / length < n ? i / length : 0];
            int64_t from = at + i % length, last = max_of(t->count - 2, 0);
            s->input[i] = t->token[from < last ? from : last];
            s->target[i] = t->token[from + 1 < t->count ? from + 1 : t->count - 1];
        }
        TRY_OUT(solve_segment(s, length, out, err));
        for (int64_t b = 0; b < n; b++) {
            int64_t left = texts[b]->count - 1 - at, count = left < length ? left : length;
            for (int64_t i = 0; i < count; i++)
                texts[b]->out[at + i] = out[b * length + i];
            count_tokens(s, out + b * length, max_of(count, 0));
        }
    }
out:
    mem_free(out);
    return status;
}

static int by_count(const void *a, const void *b)
{
    const struct score_text *x = *(const struct score_text *const *)a;
    const struct score_text *y = *(const struct score_text *const *)b;
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    return x < y ? -1 : x > y;
}

enum status score_texts(struct scorer *s, const struct score_text *texts, int64_t n,
                        struct error *err)
{
    enum status status = STATUS_OK;
    const struct score_text **order = NULL;
    int64_t first = 0;
    TRY(mem_alloc((void **)&order, (size_t)n, sizeof *order, err));
    for (int64_t i = 0; i < n; i++)
        order[i] = &texts[i];
    qsort(order, (size_t)n, sizeof *order, by_count);
    while (first < n && order[first]->count < 2) /* nothing of it is scored */
        first++;
    /* From the longest, so that the largest batch is made first and those left over are short. */
    while (n > first) {
        int64_t count = like_the_last(order + first, n - first);
        TRY_OUT(use_class(s, order[n - 1]->count, count, err));
        count = count < s->m->plan.batch ? count : s->m->plan.batch;
        TRY_OUT(score_group(s, order + n - count, count, err));
        n -= count;
    }
out:
    mem_free(order);
    return status;
}

/* --- one text --------------------------------------------------------------------------------- */

enum status score_begin(struct scorer *s, struct error *err)
{
    const struct score_plan *p = &s->plan;
    int64_t length = p->length > 0 ? p->length : ALONE_AT_ONCE;
    if (!p->invariant)
        length = p->config.eval.tgt_len;
    return use_batch(s, 1, length, p->config.eval.mem_len, err);
}

enum status score_continue(struct scorer *s, const int32_t *token, int64_t count,
                           struct score_token *out, struct error *err)
{
    int64_t most = s->m->plan.length;
    for (int64_t at = 0; at < count - 1; at += most) {
        int64_t length = count - 1 - at < most ? count - 1 - at : most;
        for (int64_t i = 0; i < length; i++) {
            s->input[i] = token[at + i];
            s->target[i] = token[at + i + 1];
        }
        TRY(solve_segment(s, length, out + at, err));
        count_tokens(s, out + at, length);
    }
    return STATUS_OK;
}
