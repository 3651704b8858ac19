/* Texts that grow token by token. */
#include "lib/context.h"

#include "data/text_encode.h"
#include "generate/sample_text.h"

#include <limits.h>
#include <math.h>
#include <string.h>

/* The limits of the options of deq sample. */
static const int64_t TOKENS_MAX = INT64_C(1) << 40, LAST_MAX = 1 << 20;
static const double PENALTY_MIN = 0.01, PENALTY_MAX = 1e6, TEMPERATURE_MAX = 1e6, TOL_MIN = 1e-12;

void deq_sampling_init(struct deq_sampling *how, size_t size)
{
    struct deq_sampling known = {.size = size,
                                 .seed = 1,
                                 .tokens = 100,
                                 .repeat_penalty = 1,
                                 .repeat_last = 64,
                                 .top_p = 1,
                                 .temperature = 1};
    memset(how, 0, size);
    memcpy(how, &known, size < sizeof known ? size : sizeof known);
}

static enum status check_real(const char *name, double x, double low, double high,
                              struct error *err)
{
    if (x >= low && x <= high)
        return STATUS_OK;
    return error_set(err, STATUS_USAGE, "deq_sampling.%s: want %g to %g, got %g", name, low, high,
                     x);
}

static enum status check_int(const char *name, int64_t x, int64_t high, struct error *err)
{
    if (x >= 0 && x <= high)
        return STATUS_OK;
    return error_set(err, STATUS_USAGE, "deq_sampling.%s: want 0..%lld, got %lld", name,
                     (long long)high, (long long)x);
}

static enum status check_sampling(const struct deq_sampling *s, struct error *err)
{
    TRY(check_int("tokens", s->tokens, TOKENS_MAX, err));
    TRY(check_int("repeat_last", s->repeat_last, LAST_MAX, err));
    TRY(check_int("top_k", s->top_k, INT32_MAX, err));
    TRY(check_real("repeat_penalty", s->repeat_penalty, PENALTY_MIN, PENALTY_MAX, err));
    TRY(check_real("top_p", s->top_p, 1e-9, 1, err));
    TRY(check_real("min_p", s->min_p, 0, 1, err));
    TRY(check_real("temperature", s->temperature, 0, TEMPERATURE_MAX, err));
    if (s->tol != 0)
        TRY(check_real("tol", s->tol, TOL_MIN, 1, err));
    TRY(check_int("stops", s->stops > INT_MAX ? INT64_MAX : (int64_t)s->stops, INT_MAX, err));
    for (size_t i = 0; i < s->stops; i++)
        if (s->stop[i] == NULL || s->stop[i][0] == '\0')
            return error_set(err, STATUS_USAGE, "deq_sampling.stop[%zu]: empty", i);
    return STATUS_OK;
}

/* A text under way. */
struct writing {
    struct deq *d;
    const struct deq_sampling *how;
    struct lib_call *call;
    struct generator g;      /* owns */
    struct sample_text text; /* owns */
};

/* Hands on what can be said. Returns false if the caller has enough. */
static bool tell(struct writing *w, int32_t token)
{
    struct error unused;
    size_t len;
    const char *text = sample_text_next(&w->text, &len);
    if (w->how->on_text == NULL)
        return true;
    lib_end(w->call);
    bool more = w->how->on_text(w->how->ctx, token, text, len) == 0;
    (void)lib_begin(w->d, w->call, &unused); /* in the same thread as before */
    return more;
}

static enum status write_tokens(struct writing *w, struct error *err)
{
    while (!w->text.ended) {
        int32_t token;
        TRY(generator_draw(&w->g, &token, err));
        TRY(sample_text_add(&w->text, token, err));
        w->text.ended |= w->text.tokens == w->how->tokens;
        if (!tell(w, token))
            return STATUS_OK;
        if (!w->text.ended)
            TRY(generator_step(&w->g, &token, err));
    }
    return STATUS_OK;
}

static enum status create_generator(struct writing *w, struct error *err)
{
    struct deq *d = w->d;
    const struct deq_sampling *how = w->how;
    TRY(lib_need_writer(d, err));
    d->fed_count = 0; /* deq_next has the same model */
    struct generator_plan plan = {
        .model = d->writer,
        .how = {.temperature = how->temperature,
                .top_k = how->top_k,
                .top_p = how->top_p,
                .min_p = how->min_p,
                .repeat_penalty = how->repeat_penalty,
                .repeat_last = how->repeat_last,
                .excluded = how->unknown != 0 ? -1 : vocab_unk(d->from.vocab)},
        .seed = how->seed};
    TRY(generator_create(&w->g, &plan, err));
    if (how->tol == 0)
        return STATUS_OK;
    return model_set_limits(d->writer, DIRECTION_FORWARD, d->from.config.eval.max_iter, how->tol,
                            STOP_REL, err);
}

static enum status write_text(struct writing *w, const char *prompt, size_t len, struct error *err)
{
    enum status status = STATUS_OK;
    struct text_encoding e;
    struct stop_text stops = {w->how->stop, (int)w->how->stops};
    TRY(text_encode(&e, w->d->from.vocab, len > 0 ? prompt : "", len, TEXT_OPEN, false, err));
    sample_text_begin(&w->text, w->d->from.vocab, &stops, w->how->raw != 0);
    if (len > 0)
        TRY_OUT(sample_text_add_prompt(&w->text, e.ids, e.count, err));
    w->text.shown = w->text.len;
    if (w->how->tokens == 0)
        goto out;
    TRY_OUT(create_generator(w, err));
    TRY_OUT(generator_feed(&w->g, e.ids, e.count, err));
    status = write_tokens(w, err);
out:
    text_encoding_free(&e);
    return status;
}

int64_t deq_generate(struct deq *d, const char *prompt, size_t len, const struct deq_sampling *how,
                     struct deq_error *error)
{
    struct deq_sampling s;
    struct lib_call call;
    struct error err;
    struct writing w = {.d = d, .how = &s, .call = &call};
    if (lib_read_struct(&s, sizeof s, how, "deq_sampling", &err) != STATUS_OK ||
        check_sampling(&s, &err) != STATUS_OK || lib_begin(d, &call, &err) != STATUS_OK)
        return lib_fail(&err, error);
    enum status status = write_text(&w, prompt, len, &err);
    int64_t tokens = w.text.tokens;
    generator_free(&w.g);
    sample_text_free(&w.text);
    lib_end(&call);
    return status == STATUS_OK ? tokens : lib_fail(&err, error);
}
