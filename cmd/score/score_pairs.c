/* Scores continuations of contexts, as lm-evaluation-harness asks for them. */
#include "cmd/score/score.h"

#include "base/json.h"
#include "base/mem.h"
#include "data/text_encode.h"
#include "data/text_reader.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_PAIRS = 1 << 12, WINDOW_TOKENS = 1 << 17 };

/* A pair that waits for its score. */
struct pair {
    int32_t *id;               /* owns, the context of the first token included */
    struct score_token *token; /* owns */
    struct score_piece *piece; /* owns, of the continuation */
    char *text;                /* owns, what the pieces borrow from */
    int64_t count, scored;     /* ids, and those at their end that are the continuation */
};

struct window {
    struct pair *pair; /* owns [WINDOW_PAIRS] */
    struct score_text *text;
    int64_t count, tokens;
};

static void pair_free(struct pair *p)
{
    mem_free(p->id);
    mem_free(p->token);
    mem_free(p->piece);
    mem_free(p->text);
    *p = (struct pair){0};
}

static void window_empty(struct window *w)
{
    for (int64_t i = 0; i < w->count; i++)
        pair_free(&w->pair[i]);
    w->count = w->tokens = 0;
}

static enum status flush(struct window *w, struct scorer *s, struct score_output *o,
                         struct error *err)
{
    for (int64_t i = 0; i < w->count; i++)
        w->text[i] = (struct score_text){
            .token = w->pair[i].id, .count = w->pair[i].count, .out = w->pair[i].token};
    TRY(score_texts(s, w->text, w->count, err));
    for (int64_t i = 0; i < w->count; i++) {
        const struct pair *p = &w->pair[i];
        const struct score_token *token = p->token + p->count - 1 - p->scored;
        bool greedy = true;
        for (int64_t k = 0; k < p->scored; k++)
            greedy = greedy && token[k].greedy;
        TRY(score_print(o, token, p->piece, p->scored, &greedy, err));
    }
    window_empty(w);
    return STATUS_OK;
}

/* Makes the pair of an encoded text whose first `context` bytes are the context. A token that has
 * bytes of both is one of the continuation. */
static enum status fill_pair(struct pair *p, const struct vocab *v, const struct text_encoding *e,
                             size_t context, size_t size, struct error *err)
{
    int64_t known = 0, count = size == 0 ? 0 : e->count;
    while (known < count && e->ranges[known].until <= context)
        known++;
    if (context == size) /* a continuation without a byte has no token */
        known = count;
    bool starts = known == 0;
    if (starts && text_line_start(v) < 0)
        return error_set(err, STATUS_DATA,
                         "no word before the continuation, and the vocabulary has no %s that would "
                         "stand for a line's beginning; give a context",
                         VOCAB_EOS);
    p->count = count + starts;
    p->scored = count - known;
    TRY(mem_alloc((void **)&p->id, (size_t)p->count, sizeof *p->id, err));
    TRY(mem_alloc((void **)&p->token, (size_t)p->count, sizeof *p->token, err));
    TRY(mem_alloc((void **)&p->piece, (size_t)p->scored + 1, sizeof *p->piece, err));
    if (starts)
        p->id[0] = text_line_start(v);
    if (count > 0)
        memcpy(p->id + starts, e->ids, (size_t)count * sizeof *p->id);
    for (int64_t i = 0; i < p->scored; i++) {
        const struct text_range *r = &e->ranges[known + i];
        bool newline = r->until > r->from && p->text[r->until - 1] == '\n';
        size_t past = known + i == 0 ? 0 : r[-1].until;
        if (past < context)
            past = context;
        p->piece[i] = (struct score_piece){.text = p->text + r->from,
                                           .len = r->until - r->from,
                                           .line_end = newline,
                                           .unknown = e->ids[known + i] == vocab_unk(v),
                                           .bytes = (int64_t)(r->until - past)};
    }
    return STATUS_OK;
}

static enum status add_pair(struct window *w, const struct vocab *v, const char *context,
                            const char *continuation, struct error *err)
{
    size_t before = strlen(context), size = before + strlen(continuation);
    struct text_encoding e = {0};
    struct pair *p = &w->pair[w->count];
    *p = (struct pair){0};
    w->count++;
    TRY(mem_alloc((void **)&p->text, size + 1, 1, err));
    memcpy(p->text, context, before);
    memcpy(p->text + before, continuation, size - before);
    enum status status = STATUS_OK;
    if (size > 0)
        status = text_encode(&e, v, p->text, size, TEXT_OPEN, true, err);
    if (status == STATUS_OK)
        status = fill_pair(p, v, &e, before, size, err);
    text_encoding_free(&e);
    w->tokens += p->count;
    return status;
}

/* Reads {"context": "...", "continuation": "..."}. Other members are left alone. */
static enum status read_pair(struct window *w, const struct vocab *v, const char *name,
                             const char *line, size_t len, struct error *err)
{
    struct json *doc = NULL;
    const char *context, *continuation;
    enum status status = STATUS_OK;
    TRY(json_parse(&doc, line, len, name, STATUS_DATA, err));
    TRY_OUT(json_get_string(doc, json_root(doc), "context", &context, err));
    TRY_OUT(json_get_string(doc, json_root(doc), "continuation", &continuation, err));
    status = add_pair(w, v, context, continuation, err);
    if (status != STATUS_OK)
        error_prefix(err, "%s", name);
out:
    json_free(doc);
    return status;
}

static bool is_blank(const char *line, ssize_t len)
{
    for (ssize_t i = 0; i < len; i++)
        if (!word_is_space(line[i]))
            return false;
    return true;
}

static enum status read_pairs(FILE *in, const char *path, struct window *w, struct scorer *s,
                              struct score_output *o, struct error *err)
{
    enum status status = STATUS_OK;
    char *line = NULL, name[PATH_MAX + 32];
    size_t capacity = 0;
    ssize_t len;
    errno = 0;
    for (int64_t number = 1; (len = getline(&line, &capacity, in)) >= 0; number++) {
        snprintf(name, sizeof name, "%.*s:%lld", PATH_MAX, path, (long long)number);
        if (is_blank(line, len))
            continue;
        TRY_OUT(read_pair(w, o->vocab, name, line, (size_t)len, err));
        if (w->count == WINDOW_PAIRS || w->tokens >= WINDOW_TOKENS)
            TRY_OUT(flush(w, s, o, err));
        errno = 0;
    }
    if (ferror(in) != 0 || errno == ENOMEM)
        status = error_set(err, errno == ENOMEM ? STATUS_NOMEM : STATUS_IO, "%s: cannot read: %s",
                           path, strerror(errno));
out:
    free(line);
    return status;
}

enum status score_pairs(struct scorer *s, const char *path, struct score_output *o,
                        struct error *err)
{
    enum status status = STATUS_OK;
    struct window w = {0};
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "re");
    if (in == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open the pairs: %s", path,
                         strerror(errno));
    TRY_OUT(mem_alloc((void **)&w.pair, WINDOW_PAIRS, sizeof *w.pair, err));
    TRY_OUT(mem_alloc((void **)&w.text, WINDOW_PAIRS, sizeof *w.text, err));
    TRY_OUT(read_pairs(in, standard ? "standard input" : path, &w, s, o, err));
    TRY_OUT(flush(&w, s, o, err));
out:
    if (w.pair != NULL)
        window_empty(&w);
    mem_free(w.pair);
    mem_free(w.text);
    if (!standard)
        fclose(in);
    return status;
}
