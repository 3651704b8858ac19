/* Turns the text of a prompt into token ids. */
#include "data/prompt.h"

#include "base/mem.h"
#include "base/strdist.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

/* Finds the nearest word to one that the vocabulary lacks, which helps with typing errors. */
static void find_near(const struct vocab *v, const char *word, size_t len, char near[])
{
    int best = 3; /* words at this distance or farther are not suggested */
    char wanted[PROMPT_WORD_MAX];
    near[0] = '\0';
    snprintf(wanted, sizeof wanted, "%.*s", (int)(len < sizeof wanted ? len : sizeof wanted - 1),
             word);
    for (int64_t i = 0; i < vocab_size(v) && len < PROMPT_WORD_MAX; i++) {
        char other[PROMPT_WORD_MAX];
        size_t other_len;
        const char *text = vocab_word(v, i, &other_len);
        if (other_len >= PROMPT_WORD_MAX || other_len + 2 < len || len + 2 < other_len)
            continue;
        snprintf(other, sizeof other, "%.*s", (int)other_len, text);
        int distance = strdist(wanted, other);
        if (distance < best) {
            best = distance;
            memcpy(near, other, sizeof other);
        }
    }
}

/* Writes the id of <unk> for a word that the vocabulary lacks, or refuses the word. */
static enum status take_unknown(const struct vocab *v, const char *word, size_t len, int32_t *id,
                                struct prompt_unknown *unknown, struct error *err)
{
    *id = (int32_t)vocab_unk(v);
    if (unknown->count++ == 0) {
        size_t cut = len < sizeof unknown->first ? len : sizeof unknown->first - 1;
        snprintf(unknown->first, sizeof unknown->first, "%.*s", (int)cut, word);
        find_near(v, word, len, unknown->near);
    }
    if (*id >= 0)
        return STATUS_OK;
    if (unknown->near[0] != '\0')
        return error_set(err, STATUS_DATA, "\"%s\" is not in the vocabulary; did you mean \"%s\"?",
                         unknown->first, unknown->near);
    return error_set(err, STATUS_DATA,
                     "\"%s\" is not in the vocabulary (deq info CHECKPOINT --vocab prints it)",
                     unknown->first);
}

static void encode_bytes(const char *text, size_t size, int32_t *to, int64_t *count)
{
    for (size_t i = 0; i < size; i++)
        to[(*count)++] = (unsigned char)text[i];
    if (size == 0)
        to[(*count)++] = '\n';
}

static enum status check_text(const char *text, size_t size, struct error *err)
{
    size_t bad = utf8_check(text, size);
    int64_t line = 1;
    if (bad == size)
        return STATUS_OK;
    for (size_t i = 0; i < bad; i++)
        line += text[i] == '\n';
    return error_set(err, STATUS_DATA, "line %lld: %s 0x%02X (byte %zu): convert the text to UTF-8",
                     (long long)line, text[bad] == '\0' ? "NUL byte" : "invalid UTF-8 byte",
                     (unsigned char)text[bad], bad);
}

/* Appends the token that stands for a line end, and for nothing at all. */
static enum status add_eos(const struct vocab *v, const char *what, int32_t *to, int64_t *count,
                           struct error *err)
{
    if (vocab_eos(v) < 0)
        return error_set(err, STATUS_DATA, "%s, and the vocabulary has no %s for it; give words",
                         what, VOCAB_EOS);
    to[(*count)++] = (int32_t)vocab_eos(v);
    return STATUS_OK;
}

static enum status encode_words(const struct vocab *v, const char *text, size_t size, int32_t *to,
                                int64_t *count, struct prompt_unknown *unknown, struct error *err)
{
    TRY(check_text(text, size, err));
    for (const char *p = text, *end = text + size; p < end;) {
        if (word_is_space(*p)) {
            if (*p++ == '\n')
                TRY(add_eos(v, "a line end", to, count, err));
            continue;
        }
        size_t len = 0;
        while (p + len < end && !word_is_space(p[len]))
            len++;
        int64_t id = vocab_find(v, p, len);
        int32_t *place = &to[(*count)++];
        *place = (int32_t)id;
        if (id < 0)
            TRY(take_unknown(v, p, len, place, unknown, err));
        p += len;
    }
    return *count > 0 ? STATUS_OK : add_eos(v, "empty", to, count, err);
}

enum status prompt_encode(const struct vocab *v, const char *text, size_t size, int32_t **out,
                          int64_t *count, struct prompt_unknown *unknown, struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    enum status status = STATUS_OK;
    size_t skip = size >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0 ? 3 : 0;
    void *p = NULL;
    *out = NULL;
    *count = 0;
    *unknown = (struct prompt_unknown){0};
    TRY(mem_alloc(&p, size + 1, sizeof **out, err));
    if (vocab_is_bytes(v))
        encode_bytes(text, size, p, count);
    else
        TRY_OUT(encode_words(v, text + skip, size - skip, p, count, unknown, err));
    *out = p;
    p = NULL;
out:
    mem_free(p);
    return status;
}
