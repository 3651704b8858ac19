/* deq info on a checkpoint prints its step, state, parameters, sections and configuration. */
#include "cmd/info/content.h"
#include "cmd/info/info.h"
#include "cmd/output.h"

#include "base/mem.h"
#include "store/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20, VOCAB_MAX = 1 << 28 }; /* bytes of the JSON sections, of the words */

/* The parts of the model, by the names of their parameters in the published code. */
static const struct {
    const char *prefix, *part;
} parts[] = {
    {"word_emb.", "embedding"}, {"crit.", "softmax"}, {"prelude.", "prelude"},
    {"inject", "injection"},    {"func.", "f"},       {"coda.", "coda"},
    {"start.", "start"},        {"", "other"},
};
enum { PARTS = sizeof parts / sizeof *parts };
_Static_assert((int)PARTS == (int)CONTENT_PARTS, "a place for each part");

const char *content_part(int index)
{
    return index < PARTS ? parts[index].part : NULL;
}

static int64_t element_count(const struct checkpoint_section *s)
{
    int64_t n = 1;
    for (int d = 0; d < s->ndim; d++)
        n *= s->dim[d];
    return n;
}

static enum status load_json(struct checkpoint *c, const char *name, struct json **out,
                             struct error *err)
{
    char *text = NULL, place[512];
    size_t len;
    *out = NULL;
    if (checkpoint_find(c, name) == NULL)
        return STATUS_OK;
    TRY(checkpoint_read_text(c, name, TEXT_MAX, &text, &len, err));
    snprintf(place, sizeof place, "%s: section \"%s\"", checkpoint_path(c), name);
    enum status status = json_parse(out, text, len, place, STATUS_DATA, err);
    mem_free(text);
    return status;
}

static enum status load_vocab(struct checkpoint *c, struct content *content, struct error *err)
{
    enum status status = STATUS_OK;
    char *words = NULL, place[512];
    size_t len;
    if (checkpoint_find(c, "vocab") == NULL)
        return STATUS_OK;
    snprintf(place, sizeof place, "%s: section \"vocab\"", checkpoint_path(c));
    TRY(checkpoint_read_text(c, "vocab", VOCAB_MAX, &words, &len, err));
    status = vocab_from_text(&content->vocab, words, len, place, err);
    mem_free(words);
    return status;
}

static enum status gather(struct checkpoint *c, struct content *content, struct error *err)
{
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const struct checkpoint_section *s = checkpoint_section(c, i);
        content->unpacked += (int64_t)s->size;
        if (strncmp(s->name, "w:", 2) != 0)
            continue;
        int p = 0;
        while (strncmp(s->name + 2, parts[p].prefix, strlen(parts[p].prefix)) != 0)
            p++;
        content->part[p] += element_count(s);
        content->parameters += element_count(s);
        content->tensors++;
    }
    TRY(load_json(c, "state", &content->state, err));
    TRY(load_json(c, "config", &content->config, err));
    return checkpoint_weights_digest(c, content->digest, err);
}

/* Looks for a number that is not finite. `context` is a float to note it in, or NULL. */
static enum status look_at_piece(void *context, const void *data, size_t size, size_t offset,
                                 struct error *err)
{
    float *odd = context;
    const float *x = data;
    (void)offset;
    (void)err;
    for (size_t i = 0; odd != NULL && i < size / sizeof *x && isfinite(*odd); i++)
        *odd = x[i];
    return STATUS_OK;
}

/* Checks the sums of a section, and that weights are finite. */
static enum status check_section(struct checkpoint *c, const struct checkpoint_section *s,
                                 struct error *err)
{
    bool weight = s->type == CHECKPOINT_F32 && strncmp(s->name, "w:", 2) == 0;
    float odd = 0;
    TRY(checkpoint_read_pieces(c, s->name, look_at_piece, weight ? &odd : NULL, err));
    if (isfinite(odd))
        return STATUS_OK;
    return snapshot_refuse_weight(checkpoint_path(c), s->name + 2, odd, err);
}

/* Names every damaged section on stderr, except the first, which becomes the error. */
static enum status check(struct checkpoint *c, struct error *err)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        struct error why;
        enum status status = check_section(c, checkpoint_section(c, i), &why);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_DATA) {
            *err = why;
            return status;
        }
        if (bad++ == 0)
            *err = why;
        else
            fprintf(stderr, "deq info: %s\n", why.text);
    }
    return bad == 0 ? STATUS_OK : STATUS_DATA;
}

static void write_sections(struct json_writer *w, const struct checkpoint *c)
{
    json_write_array(w, "sections");
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const struct checkpoint_section *s = checkpoint_section(c, i);
        json_write_object(w, NULL);
        json_write_string(w, "name", s->name);
        json_write_string(w, "type", checkpoint_type_name(s->type));
        json_write_array(w, "dims");
        for (int d = 0; d < s->ndim; d++)
            json_write_int(w, NULL, s->dim[d]);
        json_write_end(w);
        json_write_int(w, "bytes", (int64_t)s->size);
        json_write_int(w, "stored", (int64_t)s->stored);
        json_write_end(w);
    }
    json_write_end(w);
}

static void copy_or_null(struct json_writer *w, const char *key, const struct cJSON *value)
{
    if (value != NULL)
        json_write_copy(w, key, value);
    else
        json_write_raw(w, key, "null");
}

static enum status print_json(const struct info_request *request, const struct checkpoint *c,
                              const struct content *content, struct error *err)
{
    struct json_writer w;
    info_json_begin(&w, request, "checkpoint");
    json_write_string(&w, "weights_digest", content->digest);
    copy_or_null(&w, "step",
                 content->state != NULL ? json_get(json_root(content->state), "step") : NULL);
    json_write_int(&w, "parameters", content->parameters);
    json_write_object(&w, "parameters_by_part");
    for (int p = 0; p < PARTS; p++)
        if (content->part[p] != 0)
            json_write_int(&w, parts[p].part, content->part[p]);
    json_write_end(&w);
    copy_or_null(&w, "state", content->state != NULL ? json_root(content->state) : NULL);
    copy_or_null(&w, "config", content->config != NULL ? json_root(content->config) : NULL);
    json_write_int(&w, "bytes", checkpoint_bytes(c));
    json_write_int(&w, "unpacked", content->unpacked);
    write_sections(&w, c);
    if (request->check)
        json_write_bool(&w, "check", true);
    return output_json_print(&w, err);
}

/* Prints a JSON value, as --state and --config ask for. */
static enum status print_value(const struct json *value, const char *name, struct error *err)
{
    struct json_writer w;
    char *text = NULL;
    if (value == NULL)
        return error_set(err, STATUS_DATA, "the checkpoint has no %s", name);
    json_write_begin(&w, true);
    json_write_copy(&w, NULL, json_root(value));
    TRY(json_write_finish(&w, &text, err));
    fputs(text, stdout);
    mem_free(text);
    return STATUS_OK;
}

static double ratio(double whole, double part)
{
    return part > 0 ? whole / part : 1;
}

static void print_sections(const struct checkpoint *c)
{
    printf("type dims                    bytes  ratio  name\n");
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const struct checkpoint_section *s = checkpoint_section(c, i);
        char dims[INFO_DIMS_MAX];
        info_dims(s->dim, s->ndim, dims);
        printf("%-4s %-16s %12zu  %5.2f  %s\n", checkpoint_type_name(s->type), dims, s->size,
               ratio((double)s->size, (double)s->stored), s->name);
    }
}

/* Prints what was asked for, or else the summary. */
static enum status print_text(const struct info_request *request, const struct content *content,
                              struct error *err)
{
    if (request->tensors)
        print_sections(content->file);
    if (request->state)
        TRY(print_value(content->state, "state", err));
    if (request->config)
        TRY(print_value(content->config, "configuration", err));
    if (!request->tensors && !request->state && !request->config)
        info_summary(content);
    if (request->check)
        printf("check: all %lld sections verified\n", (long long)checkpoint_count(content->file));
    return STATUS_OK;
}

static enum status print_vocabulary(struct checkpoint *c, struct error *err)
{
    char *text = NULL;
    size_t len;
    TRY(checkpoint_read_text(c, "vocab", VOCAB_MAX, &text, &len, err));
    fwrite(text, 1, len, stdout);
    mem_free(text);
    return STATUS_OK;
}

enum status info_checkpoint(const struct info_request *request, struct error *err)
{
    struct checkpoint *c = NULL;
    struct content content = {.path = request->path};
    enum status status = STATUS_OK;
    TRY_OUT(checkpoint_open(&c, request->path, err));
    if (request->check)
        TRY_OUT(check(c, err));
    if (request->vocab) {
        status = print_vocabulary(c, err);
        goto out;
    }
    content.file = c;
    TRY_OUT(gather(c, &content, err));
    if (!request->json)
        TRY_OUT(load_vocab(c, &content, err));
    status =
        request->json ? print_json(request, c, &content, err) : print_text(request, &content, err);
out:
    vocab_free(content.vocab);
    json_free(content.config);
    json_free(content.state);
    checkpoint_close(c);
    return status;
}
