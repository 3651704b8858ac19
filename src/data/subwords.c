/* Encodes texts in subwords. */
#include "data/subwords.h"

#include "base/mem.h"
#include "base/read_file.h"
#include "base/utf8.h"
#include "data/sentencepiece_shim.h"
#include "data/subword_model.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    FILE_MAX = 1 << 30,
    PART_MAX = 1 << 16, /* bytes that are encoded at once, of a lossless model */
    KNOWN_WORDS = 1 << 15,
    KNOWN_BYTES = 28,
    KNOWN_IDS = 8
};

struct subwords {
    char *bytes; /* owns [size], the model */
    size_t size;
    struct subword_model model;
    pthread_mutex_t opening;
    struct spm *spm; /* owns, NULL before the first encoding */
};

/* A word that was encoded before. */
struct known {
    uint8_t len, count; /* len is 0 in an unused place */
    char text[KNOWN_BYTES + 2];
    int32_t ids[KNOWN_IDS];
};

struct subword_scratch {
    struct spm_pieces pieces;
    struct known *known; /* owns [KNOWN_WORDS], NULL unless words shall be remembered */
    char *part;          /* owns [part_size], a part with a blank in front */
    size_t part_size;
};

/* An encoding under way. */
struct encoder {
    struct subwords *subwords;
    const struct subword_model *model;
    struct subword_tokens *to;
    const char *text;
};

enum status subwords_new(struct subwords **out, const void *model, size_t size, const char *name,
                         struct error *err)
{
    void *p = NULL;
    enum status status;
    struct subwords *s;
    *out = NULL;
    TRY(mem_alloc(&p, 1, sizeof *s, err));
    s = p;
    pthread_mutex_init(&s->opening, NULL);
    TRY_OUT(mem_alloc(&p, size + 1, 1, err));
    s->bytes = p;
    s->size = size;
    memcpy(s->bytes, model, size);
    TRY_OUT(subword_model_read(&s->model, s->bytes, size, name, err));
    *out = s;
    return STATUS_OK;
out:
    subwords_free(s);
    return status;
}

void subwords_free(struct subwords *s)
{
    if (s == NULL)
        return;
    spm_close(s->spm);
    subword_model_free(&s->model);
    pthread_mutex_destroy(&s->opening);
    mem_free(s->bytes);
    mem_free(s);
}

const void *subwords_model(const struct subwords *s, size_t *size)
{
    *size = s->size;
    return s->bytes;
}

const char *subwords_text(const struct subwords *s, size_t *size)
{
    *size = s->model.size;
    return s->model.text;
}

bool subwords_lossless(const struct subwords *s)
{
    return s->model.lossless;
}

/* Opens the model in the library. A lossless model puts no blank in front of lines by itself, since
 * a line may be encoded in parts: two more fields of the message take its rule back. */
static enum status open_model(struct subwords *s, struct error *err)
{
    static const char no_prefix[] = {3 << 3 | 2, 2, 3 << 3, 0};
    char *copy = NULL;
    void *p = NULL;
    if (!s->model.lossless || !s->model.rule.prefix)
        return spm_open(&s->spm, s->bytes, s->size, err);
    TRY(mem_alloc(&p, s->size + sizeof no_prefix, 1, err));
    copy = p;
    memcpy(copy, s->bytes, s->size);
    memcpy(copy + s->size, no_prefix, sizeof no_prefix);
    enum status status = spm_open(&s->spm, copy, s->size + sizeof no_prefix, err);
    mem_free(copy);
    return status;
}

static enum status open_once(struct subwords *s, struct error *err)
{
    pthread_mutex_lock(&s->opening);
    enum status status = s->spm != NULL ? STATUS_OK : open_model(s, err);
    pthread_mutex_unlock(&s->opening);
    return status;
}

void subword_tokens_free(struct subword_tokens *t)
{
    if (t->scratch != NULL) {
        spm_pieces_free(&t->scratch->pieces);
        mem_free(t->scratch->known);
        mem_free(t->scratch->part);
        mem_free(t->scratch);
    }
    mem_free(t->ids);
    mem_free(t->range);
    *t = (struct subword_tokens){0};
}

static enum status prepare(struct subword_tokens *t, struct error *err)
{
    void *p = NULL;
    t->count = 0;
    if (t->scratch == NULL) {
        TRY(mem_alloc(&p, 1, sizeof *t->scratch, err));
        t->scratch = p;
    }
    if (t->remember && t->scratch->known == NULL) {
        TRY(mem_alloc(&p, KNOWN_WORDS, sizeof *t->scratch->known, err));
        t->scratch->known = p;
    }
    return STATUS_OK;
}

/* Makes room for `more` tokens. */
static enum status reserve(struct subword_tokens *t, int64_t more, struct error *err)
{
    void *ids = t->ids, *range = t->range;
    if (t->count + more <= t->capacity)
        return STATUS_OK;
    int64_t wanted = 2 * (t->count + more) + 64;
    TRY(mem_grow(&ids, (size_t)t->count, (size_t)wanted, sizeof *t->ids, err));
    t->ids = ids;
    if (t->ranges) {
        TRY(mem_grow(&range, (size_t)t->count, (size_t)wanted, sizeof *t->range, err));
        t->range = range;
    }
    t->capacity = wanted;
    return STATUS_OK;
}

/* Adds tokens whose bytes follow each other from text[from] on. The first one of `prefixed` ones
 * begins with a blank that the text does not have. */
static enum status add_ids(struct encoder *e, const int32_t *ids, int64_t count, const char *from,
                           bool prefixed, struct error *err)
{
    struct subword_tokens *t = e->to;
    TRY(reserve(t, count, err));
    memcpy(t->ids + t->count, ids, (size_t)count * sizeof *ids);
    for (int64_t i = 0; t->ranges && i < count; i++) {
        size_t at = (size_t)(from - e->text), width = e->model->width[ids[i]];
        width -= prefixed && i == 0;
        t->range[t->count + i] = (struct text_range){at, at + width};
        from += width;
    }
    t->count += count;
    return STATUS_OK;
}

/* Adds the tokens that the library has found for text[from] .. of a model that may change it. */
static enum status add_pieces(struct encoder *e, const struct spm_pieces *p, const char *from,
                              struct error *err)
{
    struct subword_tokens *t = e->to;
    TRY(reserve(t, p->count, err));
    size_t base = (size_t)(from - e->text), last = base;
    for (int64_t i = 0; i < p->count; i++) {
        t->ids[t->count] = p->ids[i];
        if (t->ranges) {
            t->range[t->count] = (struct text_range){last, base + p->ends[i]};
            last = base + p->ends[i];
        }
        t->count++;
    }
    return STATUS_OK;
}

static enum status add_bytes(struct encoder *e, const char *text, size_t size, struct error *err)
{
    for (size_t i = 0; i < size; i++)
        TRY(add_ids(e, &e->model->byte[(unsigned char)text[i]], 1, text + i, false, err));
    return STATUS_OK;
}

/* Encodes text[size] by the library, with a blank in front if it is `prefixed`. */
static enum status call_library(struct encoder *e, const char *text, size_t size, bool prefixed,
                                struct error *err)
{
    struct subword_scratch *s = e->to->scratch;
    if (!prefixed)
        return spm_encode(e->subwords->spm, &s->pieces, text, size, !e->model->lossless, err);
    if (s->part_size < size + 1) {
        void *p = s->part;
        TRY(mem_grow(&p, 0, 2 * size + 64, 1, err));
        s->part = p;
        s->part_size = 2 * size + 64;
    }
    s->part[0] = ' ';
    memcpy(s->part + 1, text, size);
    return spm_encode(e->subwords->spm, &s->pieces, s->part, size + 1, false, err);
}

/* Adds a part of a line. Words without a prefix are remembered. */
static enum status add_part(struct encoder *e, const char *text, size_t size, bool prefixed,
                            struct error *err)
{
    const struct spm_pieces *p = &e->to->scratch->pieces;
    struct known *known = e->to->scratch->known;
    if (known != NULL && size <= KNOWN_BYTES && !prefixed) {
        known += XXH3_64bits(text, size) % KNOWN_WORDS;
        if (known->len == size && memcmp(known->text, text, size) == 0)
            return add_ids(e, known->ids, known->count, text, false, err);
    } else {
        known = NULL;
    }
    TRY(call_library(e, text, size, prefixed, err));
    if (known != NULL && p->count <= KNOWN_IDS) {
        known->len = (uint8_t)size;
        known->count = (uint8_t)p->count;
        memcpy(known->text, text, size);
        memcpy(known->ids, p->ids, (size_t)p->count * sizeof *p->ids);
    }
    return add_ids(e, p->ids, p->count, text, prefixed, err);
}

/* Bytes of the character that text[size] begins with, or 0 if the library cannot have it. */
static inline size_t plain_length(const struct subword_model *m, const char *text, size_t size)
{
    if ((signed char)*text >= 0)
        return *text != ' ' || m->blank;
    size_t n = utf8_length(text, size);
    return n == 3 && memcmp(text, SUBWORD_BLANK, 3) == 0 ? 0 : n;
}

/* The length of the next part of text[size] that is encoded at once, or 0 if it begins with what
 * the library cannot have. */
static size_t part_length(const struct subword_model *m, const char *text, size_t size)
{
    size_t i = 0, n;
    bool word = false; /* a character other than a blank was there */
    while (i < size && i < PART_MAX && (n = plain_length(m, text + i, size - i)) > 0) {
        if (text[i] == ' ' && word && m->whole_words)
            break;
        word |= text[i] != ' ';
        i += n;
    }
    return i;
}

/* Adds text[size], a line without its end. `starts` says that it begins there. */
static enum status add_line(struct encoder *e, const char *text, size_t size, bool starts,
                            struct error *err)
{
    const struct subword_model *m = e->model;
    if (!m->lossless) {
        TRY(call_library(e, text, size, false, err));
        return add_pieces(e, &e->to->scratch->pieces, text, err);
    }
    bool prefixed = starts && m->rule.prefix;
    for (size_t i = 0, n; i < size; i += n) {
        n = part_length(m, text + i, size - i);
        if (n > 0) {
            TRY(add_part(e, text + i, n, prefixed && i == 0, err));
            continue;
        }
        n = utf8_length(text + i, size - i);
        TRY(add_bytes(e, text + i, n, err));
    }
    return STATUS_OK;
}

/* Adds the token of the line end at `text`. A carriage return before it stays in the line. */
static enum status add_line_end(struct encoder *e, const char *text, struct error *err)
{
    struct subword_tokens *t = e->to;
    if (e->model->line_end < 0)
        return error_set(err, STATUS_DATA,
                         "the tokenizer has no piece for a line end (a newline, <0x0A> or </s>)");
    TRY(reserve(t, 1, err));
    if (t->ranges) {
        size_t at = (size_t)(text - e->text);
        t->range[t->count] = (struct text_range){at, at + 1};
    }
    t->ids[t->count++] = e->model->line_end;
    return STATUS_OK;
}

enum status subwords_encode(struct subwords *s, struct subword_tokens *t, const char *text,
                            size_t size, bool inside, struct error *err)
{
    struct encoder e = {.subwords = s, .model = &s->model, .to = t, .text = text};
    const char *end = text + size;
    TRY(open_once(s, err));
    TRY(prepare(t, err));
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *until = stop != NULL ? stop : end;
        TRY(add_line(&e, at, (size_t)(until - at), at > text || !inside, err));
        if (stop != NULL)
            TRY(add_line_end(&e, stop, err));
        at = until + (stop != NULL);
    }
    return STATUS_OK;
}

size_t subwords_cut(const char *text, size_t size)
{
    const char *line = memrchr(text, '\n', size);
    if (line != NULL)
        return (size_t)(line + 1 - text);
    for (size_t i = size - 1; i > 0; i--)
        if (text[i] == ' ' && text[i - 1] != ' ')
            return i;
    for (size_t i = size - 1; i > 0 && i + 4 > size; i--)
        if (((unsigned char)text[i] & 0xC0) != 0x80)
            return i;
    return size;
}

enum status subwords_read_file(const char *path, void **model, size_t *size, struct error *err)
{
    int fd;
    int64_t bytes;
    *model = NULL;
    TRY(read_file_open(&fd, &bytes, path, "a .model file of SentencePiece", err));
    enum status status =
        bytes > 0 && bytes <= FILE_MAX
            ? mem_alloc(model, (size_t)bytes, 1, err)
            : error_set(err, STATUS_DATA, "%s: not a model of SentencePiece", path);
    if (status == STATUS_OK)
        status = read_file_at(fd, path, *model, (size_t)bytes, 0, err);
    if (status != STATUS_OK) {
        mem_free(*model);
        *model = NULL;
    }
    *size = (size_t)bytes;
    close(fd);
    return status;
}
