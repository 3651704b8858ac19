/* Log-probabilities of texts, of tokens and of the next token. */
#include "lib/context.h"

#include "base/mem.h"
#include "data/text_encode.h"
#include "data/text_reader.h"

#include <string.h>

/* --- a text ----------------------------------------------------------------------------------- */

/* The lines of a text. Arrays grow together, each entry of `token` belongs to one of `id`. */
struct lines {
    int32_t *id;               /* owns, those in front of lines included */
    struct text_range *range;  /* owns, of the same tokens in the text */
    struct score_token *token; /* owns */
    int64_t count, capacity;
    struct score_text *line; /* owns, until make_lines offsets stand in `first` */
    int64_t *first;          /* owns, where each line begins */
    int64_t lines, line_capacity;
    bool open; /* the last line may get more tokens */
};

static void lines_free(struct lines *l)
{
    mem_free(l->id);
    mem_free(l->range);
    mem_free(l->token);
    mem_free(l->line);
    mem_free(l->first);
}

static enum status add_id(struct lines *l, int32_t id, struct text_range range, struct error *err)
{
    if (l->count == l->capacity) {
        size_t old = (size_t)l->capacity, more = old == 0 ? 256 : 2 * old;
        TRY(mem_grow((void **)&l->id, old, more, sizeof *l->id, err));
        TRY(mem_grow((void **)&l->range, old, more, sizeof *l->range, err));
        l->capacity = (int64_t)more;
    }
    l->id[l->count] = id;
    l->range[l->count++] = range;
    return STATUS_OK;
}

/* Begins a line with the token that stands for its start, if there is one. */
static enum status begin_line(struct lines *l, int32_t start, struct error *err)
{
    if (l->lines == l->line_capacity) {
        size_t old = (size_t)l->line_capacity, more = old == 0 ? 64 : 2 * old;
        TRY(mem_grow((void **)&l->first, old, more, sizeof *l->first, err));
        l->line_capacity = (int64_t)more;
    }
    l->first[l->lines++] = l->count;
    l->open = true;
    return start < 0 ? STATUS_OK : add_id(l, start, (struct text_range){0}, err);
}

static bool is_line_end(const char *text, struct text_range r)
{
    return r.from == r.until || text[r.until - 1] == '\n';
}

/* Adds the tokens of text[from, until). */
static enum status add_part(struct lines *l, const struct vocab *v, const char *text,
                            struct text_range part, enum text_end end, struct error *err)
{
    enum status status = STATUS_OK;
    struct text_encoding e;
    TRY(text_encode(&e, v, text + part.from, part.until - part.from, end, true, err));
    for (int64_t i = 0; i < e.count; i++) {
        struct text_range r = {.from = e.ranges[i].from + part.from,
                               .until = e.ranges[i].until + part.from};
        if (!l->open)
            TRY_OUT(begin_line(l, text_line_start(v), err));
        TRY_OUT(add_id(l, e.ids[i], r, err));
        l->open = !is_line_end(text, r);
    }
out:
    text_encoding_free(&e);
    return status;
}

/* Divides a text into lines and these into tokens. A vocabulary without a token for line ends
 * leaves them out. */
static enum status make_lines(struct lines *l, const struct vocab *v, const char *text, size_t len,
                              struct error *err)
{
    struct text_range part = {.from = 0};
    if (len > 0 && text_line_start(v) >= 0)
        return add_part(l, v, text, (struct text_range){.until = len}, TEXT_CLOSED, err);
    for (; part.from < len; part.from = part.until + 1) {
        const char *end = memchr(text + part.from, '\n', len - part.from);
        part.until = end == NULL ? len : (size_t)(end - text);
        struct text_range line = part;
        while (line.from < line.until && word_is_space(text[line.from]))
            line.from++;
        if (line.from < line.until)
            TRY(add_part(l, v, text, line, TEXT_OPEN, err));
        l->open = false;
    }
    return STATUS_OK;
}

/* Where the tokens of a line lie, its context included. */
static int64_t line_count(const struct lines *l, int64_t i)
{
    return (i + 1 < l->lines ? l->first[i + 1] : l->count) - l->first[i];
}

static enum status score_lines(struct deq *d, struct lines *l, struct error *err)
{
    TRY(mem_alloc((void **)&l->token, (size_t)l->count, sizeof *l->token, err));
    TRY(mem_alloc((void **)&l->line, (size_t)l->lines, sizeof *l->line, err));
    for (int64_t i = 0; i < l->lines; i++)
        l->line[i] = (struct score_text){.token = l->id + l->first[i],
                                         .count = line_count(l, i),
                                         .out = l->token + l->first[i] + 1};
    return score_texts(d->scorer, l->line, l->lines, err);
}

static void write_tokens(const struct deq *d, const struct lines *l, const char *text,
                         struct deq_token *out)
{
    for (int64_t i = 0; i < l->lines; i++)
        for (int64_t k = l->first[i] + 1; k < l->first[i] + line_count(l, i); k++) {
            const struct score_token *t = &l->token[k];
            bool unknown = l->id[k] == vocab_unk(d->from.vocab),
                 end = is_line_end(text, l->range[k]);
            *out++ = (struct deq_token){
                .logprob = t->logp,
                .from = l->range[k].from,
                .until = l->range[k].until,
                .id = l->id[k],
                .rank = t->rank,
                .nfe = t->evals,
                .flags = (unknown ? DEQ_TOKEN_UNKNOWN : 0u) | (end ? DEQ_TOKEN_LINE_END : 0u) |
                         (t->residual > d->tol ? DEQ_TOKEN_UNCONVERGED : 0u)};
        }
}

int64_t deq_score_text(struct deq *d, const char *text, size_t len, struct deq_token *out,
                       size_t capacity, struct deq_error *error)
{
    struct lines l = {0};
    struct lib_call call;
    struct error err;
    int64_t scored = 0;
    if (lib_begin(d, &call, &err) != STATUS_OK)
        return lib_fail(&err, error);
    enum status status = make_lines(&l, d->from.vocab, text, len, &err);
    for (int64_t i = 0; i < l.lines; i++)
        scored += line_count(&l, i) - 1;
    if (status == STATUS_OK && scored > 0 && (size_t)scored <= capacity) {
        status = score_lines(d, &l, &err);
        if (status == STATUS_OK)
            write_tokens(d, &l, text, out);
    }
    lines_free(&l);
    lib_end(&call);
    return status == STATUS_OK ? scored : lib_fail(&err, error);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static enum status score_tokens(struct deq *d, const int32_t *tokens, size_t count, double *logprob,
                                struct error *err)
{
    struct score_token *token = NULL;
    TRY(mem_alloc((void **)&token, count, sizeof *token, err));
    struct score_text text = {.token = tokens, .count = (int64_t)count, .out = token};
    enum status status = score_texts(d->scorer, &text, 1, err);
    for (size_t i = 0; status == STATUS_OK && i + 1 < count; i++)
        logprob[i] = token[i].logp;
    mem_free(token);
    return status;
}

static enum status want_tokens(const struct deq *d, const int32_t *tokens, size_t count,
                               struct error *err)
{
    if (count == 0)
        return error_set(err, STATUS_USAGE, "no token: want at least one, as context");
    return lib_check_tokens(d, tokens, count, err);
}

int deq_score_tokens(struct deq *d, const int32_t *tokens, size_t count, double *logprob,
                     struct deq_error *error)
{
    struct lib_call call;
    struct error err;
    if (want_tokens(d, tokens, count, &err) != STATUS_OK || lib_begin(d, &call, &err) != STATUS_OK)
        return lib_fail(&err, error);
    enum status status = count == 1 ? STATUS_OK : score_tokens(d, tokens, count, logprob, &err);
    lib_end(&call);
    return status == STATUS_OK ? DEQ_OK : lib_fail(&err, error);
}

/* --- the next token --------------------------------------------------------------------------- */

/* Makes the generator, and lets it begin anew unless it has been fed a part of the tokens. */
static enum status prepare_next(struct deq *d, const int32_t *tokens, int64_t count,
                                struct error *err)
{
    bool goes_on = d->fed_count > 0 && d->fed_count <= count &&
                   memcmp(d->fed, tokens, (size_t)d->fed_count * sizeof *tokens) == 0;
    if (goes_on)
        return STATUS_OK;
    d->fed_count = 0;
    TRY(lib_need_writer(d, err));
    if (d->next.logp == NULL) {
        struct generator_plan plan = {.model = d->writer, .how = SAMPLING_PLAIN};
        TRY(generator_create(&d->next, &plan, err));
    }
    generator_forget(&d->next);
    return model_set_limits(d->writer, DIRECTION_FORWARD, d->max_iter, d->tol, STOP_REL, err);
}

static enum status next(struct deq *d, const int32_t *tokens, int64_t count, double *logprob,
                        struct error *err)
{
    TRY(prepare_next(d, tokens, count, err));
    int64_t known = d->fed_count;
    if (count > d->fed_capacity) {
        TRY(mem_grow((void **)&d->fed, (size_t)d->fed_capacity, 2 * (size_t)count, sizeof *d->fed,
                     err));
        d->fed_capacity = 2 * count;
    }
    d->fed_count = 0; /* in case of an error */
    if (count > known)
        TRY(generator_feed(&d->next, tokens + known, count - known, err));
    memcpy(d->fed, tokens, (size_t)count * sizeof *tokens);
    memcpy(logprob, d->next.logp, (size_t)vocab_size(d->from.vocab) * sizeof *logprob);
    d->fed_count = count;
    return STATUS_OK;
}

int deq_next(struct deq *d, const int32_t *tokens, size_t count, double *logprob,
             struct deq_error *error)
{
    struct lib_call call;
    struct error err;
    if (want_tokens(d, tokens, count, &err) != STATUS_OK || lib_begin(d, &call, &err) != STATUS_OK)
        return lib_fail(&err, error);
    enum status status = next(d, tokens, (int64_t)count, logprob, &err);
    lib_end(&call);
    return status == STATUS_OK ? DEQ_OK : lib_fail(&err, error);
}
