/* Turns the text of a prompt into token ids. */
#include "data/prompt.h"

#include "base/mem.h"
#include "base/strdist.h"

#include <stdio.h>
#include <string.h>

/* Reports a word that the vocabulary lacks, with the nearest one, which helps with typing errors.
 */
static enum status unknown_word(const struct vocab *v, const char *word, size_t len,
                                struct error *err)
{
    enum { LONGEST = 64 };
    char wanted[LONGEST], near[LONGEST] = "";
    int best = 3; /* words at this distance or farther are not suggested */
    snprintf(wanted, sizeof wanted, "%.*s", (int)(len < LONGEST ? len : LONGEST - 1), word);
    for (int64_t i = 0; i < vocab_size(v) && len < LONGEST; i++) {
        char other[LONGEST];
        size_t other_len;
        const char *text = vocab_word(v, i, &other_len);
        if (other_len >= LONGEST || other_len + 2 < len || len + 2 < other_len)
            continue;
        snprintf(other, sizeof other, "%.*s", (int)other_len, text);
        int distance = strdist(wanted, other);
        if (distance < best) {
            best = distance;
            memcpy(near, other, sizeof near);
        }
    }
    if (near[0] != '\0')
        return error_set(err, STATUS_DATA, "\"%s\" is not in the vocabulary; did you mean \"%s\"?",
                         wanted, near);
    return error_set(err, STATUS_DATA, "\"%s\" is not in the vocabulary", wanted);
}

static void encode_bytes(const char *text, size_t len, int32_t *to, int64_t *count)
{
    for (size_t i = 0; i < len; i++)
        to[(*count)++] = (unsigned char)text[i];
    if (len == 0)
        to[(*count)++] = '\n';
}

static enum status encode_words(const struct vocab *v, const char *text, int32_t *to,
                                int64_t *count, struct error *err)
{
    for (const char *p = text;;) {
        while (word_is_space(*p))
            p++;
        size_t len = 0;
        while (p[len] != '\0' && !word_is_space(p[len]))
            len++;
        if (len == 0)
            break;
        int64_t id = vocab_find(v, p, len);
        if (id < 0)
            return unknown_word(v, p, len, err);
        to[(*count)++] = (int32_t)id;
        p += len;
    }
    if (*count > 0)
        return STATUS_OK;
    if (vocab_eos(v) < 0)
        return error_set(err, STATUS_DATA,
                         "empty, and the vocabulary has no %s to begin with; give a word",
                         VOCAB_EOS);
    to[(*count)++] = (int32_t)vocab_eos(v);
    return STATUS_OK;
}

enum status prompt_encode(const struct vocab *v, const char *text, int32_t **out, int64_t *count,
                          struct error *err)
{
    enum status status = STATUS_OK;
    size_t len = strlen(text);
    void *p = NULL;
    *out = NULL;
    *count = 0;
    TRY(mem_alloc(&p, len + 1, sizeof **out, err));
    if (vocab_is_bytes(v))
        encode_bytes(text, len, p, count);
    else
        TRY_OUT(encode_words(v, text, p, count, err));
    *out = p;
    p = NULL;
out:
    mem_free(p);
    return status;
}
