/* Draws texts, one after the other. */
#include "report/samples.h"

#include "base/mem.h"
#include "data/text_decode.h"
#include "data/text_encode.h"
#include "generate/generation.h"

#include <string.h>

struct drawn_text {
    char *text; /* owns [capacity] */
    size_t len, capacity;
    struct text_decoder decoder;
};

/* A NUL would end the string, so a blank takes its place. */
static enum status append(struct drawn_text *t, const char *text, size_t len, struct error *err)
{
    if (t->len + len + 1 > t->capacity) {
        size_t capacity = 2 * (t->len + len) + 256;
        TRY(mem_grow((void **)&t->text, t->len, capacity, 1, err));
        t->capacity = capacity;
    }
    for (size_t i = 0; i < len; i++)
        t->text[t->len++] = text[i] == '\0' ? ' ' : text[i];
    t->text[t->len] = '\0';
    return STATUS_OK;
}

static enum status append_token(struct drawn_text *t, int32_t id, struct error *err)
{
    struct text_bytes b = text_decode(&t->decoder, id);
    if (b.blank)
        TRY(append(t, " ", 1, err));
    return append(t, b.text, b.len, err);
}

/* Makes text number `number` and writes it. */
static enum status write_one(const struct samples_plan *plan, struct model *model,
                             struct snapshot *from, const struct text_encoding *prompt,
                             int64_t number, struct json_writer *w, struct error *err)
{
    enum status status = STATUS_OK;
    struct drawn_text t = {.decoder = text_decoder_begin(from->vocab, TEXT_DECODE_PRETTY)};
    struct generator g = {0};
    struct generator_plan how = {
        .model = model, .how = SAMPLING_PLAIN, .seed = SAMPLES_SEED, .first = number};
    how.how.top_p = SAMPLES_TOP_P;
    how.how.excluded = vocab_unk(from->vocab);
    TRY_OUT(generator_create(&g, &how, err));
    TRY_OUT(append(&t, "", 0, err));
    for (int64_t i = 0; i < prompt->count && plan->prompt != NULL; i++)
        TRY_OUT(append_token(&t, prompt->ids[i], err));
    TRY_OUT(generator_feed(&g, prompt->ids, prompt->count, err));
    for (int64_t i = 0; i < plan->tokens; i++) {
        int32_t token;
        TRY_OUT(generator_draw(&g, &token, err));
        TRY_OUT(append_token(&t, token, err));
        TRY_OUT(generator_step(&g, &token, err));
    }
    json_write_string(w, NULL, t.text);
out:
    generator_free(&g);
    mem_free(t.text);
    return status;
}

enum status samples_write(const struct samples_plan *plan, struct backend *be,
                          struct snapshot *from, struct json_writer *w, const char *key,
                          struct error *err)
{
    enum status status = STATUS_OK;
    struct text_encoding prompt = {0};
    struct model *model = NULL;
    const char *text = plan->prompt != NULL ? plan->prompt : "";
    status = text_encode(&prompt, from->vocab, text, strlen(text), TEXT_OPEN, false, err);
    if (status != STATUS_OK) {
        error_prefix(err, "--prompt");
        goto out;
    }
    TRY_OUT(generation_check_memory(be, &from->config, 1, err));
    TRY_OUT(generation_model(&model, be, &from->config, NULL, err));
    TRY_OUT(snapshot_read_params(from, model->params, err));
    model_refresh(model);
    json_write_array(w, key);
    for (int64_t i = 0; i < plan->count && status == STATUS_OK; i++)
        status = write_one(plan, model, from, &prompt, i, w, err);
    json_write_end(w);
out:
    model_free(model);
    text_encoding_free(&prompt);
    return status;
}
