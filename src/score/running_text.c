/* From the tokens of a reader to their scores, some at a time. */
#include "score/running_text.h"

#include "base/mem.h"

/* Tokens that wait, and those before which they were read. */
struct pending {
    int32_t *id;               /* owns [capacity + 1], the first is context */
    struct score_token *token; /* owns [capacity] */
    int64_t *bytes;            /* owns [capacity] */
    bool *unknown;             /* owns [capacity] */
    int64_t count, capacity;   /* tokens to be scored */
    bool context;              /* id[0] is there */
};

static enum status pending_create(struct pending *p, int64_t capacity, struct error *err)
{
    size_t n = (size_t)capacity;
    p->capacity = capacity;
    TRY(mem_alloc((void **)&p->id, n + 1, sizeof *p->id, err));
    TRY(mem_alloc((void **)&p->token, n, sizeof *p->token, err));
    TRY(mem_alloc((void **)&p->bytes, n, sizeof *p->bytes, err));
    return mem_alloc((void **)&p->unknown, n, sizeof *p->unknown, err);
}

static void pending_free(struct pending *p)
{
    mem_free(p->id);
    mem_free(p->token);
    mem_free(p->bytes);
    mem_free(p->unknown);
}

static enum status flush(struct pending *p, struct scorer *s, const struct running_text *how,
                         struct score_tally *sums, struct error *err)
{
    if (p->count == 0)
        return STATUS_OK;
    TRY(score_continue(s, p->id, p->count + 1, p->token, err));
    for (int64_t i = 0; i < p->count; i++)
        score_tally_add(sums, &p->token[i], p->unknown[i], p->bytes[i]);
    p->id[0] = p->id[p->count];
    p->count = 0;
    if (how->progress != NULL && !how->progress(how->ctx, sums))
        return error_set(err, STATUS_STOPPED, "scoring stopped");
    return STATUS_OK;
}

static void add(struct pending *p, const struct text_token *t)
{
    if (!p->context) {
        p->id[0] = t->id;
        p->context = true;
        return;
    }
    p->bytes[p->count] = t->bytes;
    p->unknown[p->count] = t->unknown;
    p->id[++p->count] = t->id;
}

enum status score_running_text(struct scorer *s, struct text_reader *reader,
                               const struct running_text *how, struct score_tally *sums,
                               struct error *err)
{
    enum status status = STATUS_OK;
    const struct text_token *tokens;
    struct pending p = {0};
    int count = 1;
    *sums = (struct score_tally){0};
    TRY(score_begin(s, err));
    TRY_OUT(pending_create(&p, s->m->plan.length, err));
    p.id[0] = text_line_start(how->vocab);
    p.context = p.id[0] >= 0;
    while (count > 0) {
        TRY_OUT(text_reader_next(reader, &tokens, &count, err));
        for (int i = 0; i < count; i++) {
            if (tokens[i].id < 0) /* a line end that the vocabulary has no token for */
                continue;
            add(&p, &tokens[i]);
            if (p.count == p.capacity)
                TRY_OUT(flush(&p, s, how, sums, err));
        }
    }
    TRY_OUT(flush(&p, s, how, sums, err));
out:
    pending_free(&p);
    return status;
}
