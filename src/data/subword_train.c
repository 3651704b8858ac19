/* Draws a sample of a text and trains a model of subwords on it. */
#include "data/subword_train.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/sentencepiece_shim.h"
#include "data/subword_model.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct line {
    uint64_t hash;
    size_t size; /* with its newline */
};

struct subword_sample {
    size_t limit;
    uint64_t seed;
    uint64_t below; /* lines whose hash is at most this are taken */
    char *text;     /* owns [2 * limit + SPM_LINE_MAX], the lines one after the other */
    size_t size;
    struct line *lines; /* owns [count] */
    size_t count, capacity;
    int64_t seen;
};

enum status subword_sample_new(struct subword_sample **out, size_t bytes, uint64_t seed,
                               struct error *err)
{
    void *p = NULL;
    enum status status;
    struct subword_sample *s;
    *out = NULL;
    TRY(spm_check(err));
    TRY(mem_alloc(&p, 1, sizeof *s, err));
    s = p;
    *s = (struct subword_sample){.limit = bytes, .seed = seed, .below = UINT64_MAX};
    TRY_OUT(mem_alloc(&p, 2 * bytes + SPM_LINE_MAX + 1, 1, err));
    s->text = p;
    *out = s;
    return STATUS_OK;
out:
    subword_sample_free(s);
    return status;
}

void subword_sample_free(struct subword_sample *s)
{
    if (s == NULL)
        return;
    mem_free(s->text);
    mem_free(s->lines);
    mem_free(s);
}

/* Keeps the lines with the lowest hashes, so many that they fit the limit. */
static void thin(struct subword_sample *s)
{
    while (s->size > s->limit) {
        size_t count = 0, size = 0, from = 0;
        s->below /= 2;
        for (size_t i = 0; i < s->count; i++) {
            struct line line = s->lines[i];
            if (line.hash <= s->below) {
                memmove(s->text + size, s->text + from, line.size);
                s->lines[count++] = line;
                size += line.size;
            }
            from += line.size;
        }
        s->count = count;
        s->size = size;
    }
}

static enum status take(struct subword_sample *s, const char *text, size_t size, int64_t offset,
                        struct error *err)
{
    const int64_t place = offset;
    uint64_t hash = XXH3_64bits_withSeed(&place, sizeof place, s->seed);
    if (hash > s->below)
        return STATUS_OK;
    if (s->count == s->capacity) {
        void *p = s->lines;
        size_t grown = 2 * s->capacity + 1024;
        TRY(mem_grow(&p, s->count, grown, sizeof *s->lines, err));
        s->lines = p;
        s->capacity = grown;
    }
    memcpy(s->text + s->size, text, size);
    s->text[s->size + size] = '\n';
    s->size += size + 1;
    s->lines[s->count++] = (struct line){.hash = hash, .size = size + 1};
    if (s->size > 2 * s->limit)
        thin(s);
    return STATUS_OK;
}

/* Whether the character text[n] ends a line of the sample and is in none: control characters, which
 * are written as bytes, and what the trainer keeps for itself. */
static bool is_apart(const char *text, size_t n)
{
    static const char trainer[] = "\xE2\x96\x85"; /* U+2585 */
    if (n == 1)
        return (unsigned char)*text < 0x20 || *text == 0x7F;
    return n == 3 && (memcmp(text, SUBWORD_BLANK, 3) == 0 || memcmp(text, trainer, 3) == 0);
}

enum status subword_sample_add(struct subword_sample *s, const char *text, size_t size,
                               int64_t offset, struct error *err)
{
    size_t from = 0, blank = 0; /* where the line begins, and its last blank, if above from */
    s->seen += (int64_t)size;
    for (size_t i = 0, n; i <= size; i += n) {
        n = i < size ? utf8_length(text + i, size - i) : 1;
        bool apart = i == size || is_apart(text + i, n);
        if (!apart && i + n - from <= SPM_LINE_MAX) {
            blank = text[i] == ' ' ? i : blank;
            continue;
        }
        size_t until = !apart && blank > from ? blank : i;
        if (until > from)
            TRY(take(s, text + from, until - from, offset + (int64_t)from, err));
        from = apart ? i + n : until;
    }
    return STATUS_OK;
}

int64_t subword_sample_seen(const struct subword_sample *s)
{
    return s->seen;
}

int64_t subword_sample_taken(const struct subword_sample *s)
{
    return (int64_t)s->size;
}

enum status subword_sample_train(struct subword_sample *s, const char *type, int64_t pieces,
                                 char **model, size_t *size, struct error *err)
{
    *model = NULL;
    thin(s);
    if (s->count == 0)
        return error_set(err, STATUS_DATA, "no text in it to train subwords on");
    const struct spm_training t = {
        .lines = s->text, .size = s->size, .type = type, .pieces = pieces};
    return spm_train(&t, model, size, err);
}
