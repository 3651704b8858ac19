/* Turns a text in memory into token ids. */
#include "data/text_encode.h"

#include "base/mem.h"
#include "base/strdist.h"
#include "base/utf8.h"
#include "data/pieces.h"

#include <stdio.h>
#include <string.h>

enum { LONG_TEXT = 1 << 16 /* bytes of a text whose words are worth remembering */ };

/* An encoding under way. */
struct encoder {
    const struct vocab *vocab;
    struct text_encoding *out;
    const char *text, *copy; /* the source, and what of it is divided, in lower case if need be */
    size_t copied;           /* offset of the copy in the source */
};

/* Copies word[len] to `to`, cut at a character if it is longer. */
static void copy_word(char to[TEXT_WORD_MAX], const char *word, size_t len)
{
    size_t n = 0;
    for (size_t more = 0; n < len; n += more) {
        more = utf8_length(word + n, len - n);
        if (more == 0 || n + more >= TEXT_WORD_MAX)
            break;
    }
    memcpy(to, word, n);
    to[n] = '\0';
}

/* Finds the nearest word to one that the vocabulary lacks, which helps with typing errors. */
static void find_near(const struct vocab *v, const char *word, size_t len, char near[TEXT_WORD_MAX])
{
    int best = 3; /* words at this distance or farther are not suggested */
    char wanted[TEXT_WORD_MAX];
    near[0] = '\0';
    copy_word(wanted, word, len);
    for (int64_t i = 0; i < vocab_size(v) && len < TEXT_WORD_MAX; i++) {
        char other[TEXT_WORD_MAX];
        size_t other_len;
        const char *text = vocab_word(v, i, &other_len);
        if (other_len >= TEXT_WORD_MAX || other_len + 2 < len || len + 2 < other_len)
            continue;
        copy_word(other, text, other_len);
        int distance = strdist(wanted, other);
        if (distance < best) {
            best = distance;
            memcpy(near, other, sizeof other);
        }
    }
}

/* Records a piece that the vocabulary lacks, and refuses it if there is no <unk>. */
static enum status take_unknown(const struct encoder *e, const struct pieces *p, int i,
                                struct error *err)
{
    struct text_unknown *unknown = &e->out->unknown;
    const struct word *word = &p->word[i];
    if (unknown->count++ == 0 && word_is_space(*p->from[i])) {
        copy_word(unknown->first, word->text, word->len);
    } else if (unknown->count == 1) {
        size_t from = (size_t)(p->from[i] - e->copy) + e->copied;
        copy_word(unknown->first, e->text + from, (size_t)(p->until[i] - p->from[i]));
        if (word->text == p->from[i]) /* a word, since marks may be all that is unknown otherwise */
            find_near(e->vocab, word->text, word->len, unknown->near);
    }
    if (vocab_unk(e->vocab) >= 0)
        return STATUS_OK;
    if (unknown->near[0] != '\0')
        return error_set(err, STATUS_DATA, "\"%s\" is not in the vocabulary; did you mean \"%s\"?",
                         unknown->first, unknown->near);
    return error_set(err, STATUS_DATA,
                     "\"%s\" is not in the vocabulary (deq info CHECKPOINT --vocab prints it)",
                     unknown->first);
}

static enum status make_arrays(struct text_encoding *out, size_t count, bool ranges,
                               struct error *err)
{
    void *p = NULL;
    mem_free(out->ids);
    mem_free(out->ranges);
    out->ids = NULL;
    out->ranges = NULL;
    TRY(mem_alloc(&p, count, sizeof *out->ids, err));
    out->ids = p;
    if (!ranges)
        return STATUS_OK;
    TRY(mem_alloc(&p, count, sizeof *out->ranges, err));
    out->ranges = p;
    return STATUS_OK;
}

static void add_token(struct text_encoding *out, int64_t id, size_t from, size_t until)
{
    out->ids[out->count] = (int32_t)id;
    if (out->ranges != NULL)
        out->ranges[out->count] = (struct text_range){.from = from, .until = until};
    out->count++;
}

/* Adds the token that stands for a line end, and for nothing at all. */
static enum status add_eos(const struct encoder *e, const char *what, size_t from, size_t until,
                           struct error *err)
{
    struct text_rule rule = vocab_rule(e->vocab);
    if (vocab_eos(e->vocab) < 0 && rule.numbers)
        return error_set(err, STATUS_DATA, "%s: give tokens by their numbers", what);
    if (vocab_eos(e->vocab) < 0 && rule.split == TEXT_SPLIT_IDS)
        return error_set(err, STATUS_DATA,
                         "%s, and the vocabulary names no id that ends a text: give ids, or train "
                         "with data.end_of_text set",
                         what);
    if (vocab_eos(e->vocab) < 0)
        return error_set(err, STATUS_DATA, "%s, and the vocabulary has no %s for it; give words",
                         what, VOCAB_EOS);
    add_token(e->out, vocab_eos(e->vocab), from, until);
    return STATUS_OK;
}

static enum status add_pieces(const struct encoder *e, const struct pieces *p, struct error *err)
{
    int32_t ids[WORD_BATCH];
    vocab_find_words(e->vocab, p->word, p->count, ids);
    for (int i = 0; i < p->count; i++) {
        size_t from = (size_t)(p->from[i] - e->copy) + e->copied;
        size_t until = (size_t)(p->until[i] - e->copy) + e->copied;
        if (p->word[i].len == 0) {
            TRY(add_eos(e, "a line end", from, until, err));
            continue;
        }
        if (ids[i] < 0)
            TRY(take_unknown(e, p, i, err));
        add_token(e->out, ids[i] < 0 ? vocab_unk(e->vocab) : ids[i], from, until);
    }
    return STATUS_OK;
}

/* Checks text[size], which begins at byte `offset` of the source. */
static enum status check_text(const char *text, size_t size, size_t offset, struct error *err)
{
    size_t bad = utf8_check(text, size);
    int64_t line = 1;
    if (bad == size)
        return STATUS_OK;
    for (size_t i = 0; i < bad; i++)
        line += text[i] == '\n';
    return error_set(err, STATUS_DATA, "line %lld: %s 0x%02X (byte %zu): convert the text to UTF-8",
                     (long long)line, text[bad] == '\0' ? "NUL byte" : "invalid UTF-8 byte",
                     (unsigned char)text[bad], offset + bad);
}

/* Encodes text[size], which `copy` is a copy of with a newline and padding behind it. */
static enum status encode_words(struct encoder *e, char *copy, size_t size, enum text_end end,
                                struct error *err)
{
    struct pieces p;
    struct text_rule rule = vocab_rule(e->vocab);
    TRY(check_text(copy, size, e->copied, err));
    for (size_t i = 0; rule.lower && i < size; i++)
        copy[i] |= (char)((copy[i] >= 'A' && copy[i] <= 'Z') << 5);
    if (end == TEXT_OPEN)
        pieces_begin_open(&p, rule.split, copy, size);
    else /* the newline behind the copy ends a last line that has none */
        pieces_begin(&p, rule.split, copy, size + (size == 0 || copy[size - 1] != '\n'));
    while (pieces_next(&p))
        TRY(add_pieces(e, &p, err));
    if (e->out->count == 0)
        return add_eos(e, "empty", e->copied + size, e->copied + size, err);
    if (e->out->ranges != NULL && end == TEXT_CLOSED) {
        struct text_range *last = &e->out->ranges[e->out->count - 1];
        if (last->until > e->copied + size)
            last->until = e->copied + size;
    }
    return STATUS_OK;
}

static void encode_bytes(struct text_encoding *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        add_token(out, (unsigned char)text[i], i, i + 1);
    if (size == 0)
        add_token(out, '\n', 0, 0);
}

/* Reads a text that is the numbers of its tokens, with white space between them. */
static enum status encode_numbers(struct encoder *e, const char *text, size_t size,
                                  struct error *err)
{
    for (size_t i = 0; i < size;) {
        size_t from = i;
        int64_t id = 0;
        while (i < size && text[i] >= '0' && text[i] <= '9' && id <= INT32_MAX)
            id = 10 * id + (text[i++] - '0');
        if (i < size && i == from && word_is_space(text[i])) {
            i++;
            continue;
        }
        size_t n = i;
        while (n < size && !word_is_space(text[n]))
            n++;
        if (n > i || id >= vocab_size(e->vocab))
            return error_set(err, STATUS_DATA,
                             "\"%.*s\": the vocabulary is a tokenizer.json, with which texts are "
                             "only written: give tokens by their numbers, 0 to %lld",
                             (int)(n - from < 80 ? n - from : 80), text + from,
                             (long long)vocab_size(e->vocab) - 1);
        add_token(e->out, id, from + e->copied, i + e->copied);
    }
    if (e->out->count > 0)
        return STATUS_OK;
    return add_eos(e, "empty", e->copied + size, e->copied + size, err);
}

/* Records what no piece stands for. */
static void take_unknown_pieces(const struct encoder *e, const struct subword_tokens *t,
                                const char *text)
{
    struct text_unknown *unknown = &e->out->unknown;
    for (int64_t i = 0; i < t->count; i++)
        if (t->ids[i] == vocab_unk(e->vocab) && unknown->count++ == 0)
            copy_word(unknown->first, text + t->range[i].from,
                      t->range[i].until - t->range[i].from);
}

/* Encodes a text in subwords into arrays of its own. */
static enum status encode_subwords(struct encoder *e, const char *text, size_t size,
                                   enum text_end end, bool ranges, struct error *err)
{
    struct subwords *subwords = vocab_subwords(e->vocab);
    struct subword_tokens t = {.ranges = true, .remember = size > LONG_TEXT};
    if (subwords == NULL)
        return error_set(err, STATUS_DATA,
                         "the vocabulary of subwords came without its " VOCAB_TOKENIZER
                         ": it lies beside vocab.txt, and in checkpoints of models trained on it");
    TRY(check_text(text, size, e->copied, err));
    if (end == TEXT_OPEN && size >= 2 && text[size - 1] == ' ' && !word_is_space(text[size - 2]))
        size--;
    enum status status = subwords_encode(subwords, &t, text, size, false, err);
    if (status == STATUS_OK) {
        take_unknown_pieces(e, &t, text);
        e->out->ids = t.ids;
        e->out->ranges = ranges ? t.range : NULL;
        e->out->count = t.count;
        t.ids = NULL;
        t.range = ranges ? NULL : t.range;
    }
    subword_tokens_free(&t);
    TRY(status);
    for (int64_t i = 0; ranges && i < e->out->count; i++) {
        e->out->ranges[i].from += e->copied;
        e->out->ranges[i].until += e->copied;
    }
    if (e->out->count > 0)
        return STATUS_OK;
    TRY(make_arrays(e->out, 1, ranges, err));
    return add_eos(e, "empty", e->copied + size, e->copied + size, err);
}

enum status text_encode(struct text_encoding *out, const struct vocab *v, const char *text,
                        size_t size, enum text_end end, bool ranges, struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    struct encoder e = {.vocab = v, .out = out, .text = text};
    enum status status = STATUS_OK;
    void *p = NULL;
    char *copy = NULL;
    *out = (struct text_encoding){0};
    if (vocab_is_bytes(v)) {
        TRY_OUT(make_arrays(out, size + 1, ranges, err));
        encode_bytes(out, text, size);
        return STATUS_OK;
    }
    if (size >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0)
        e.copied = sizeof mark - 1;
    size -= e.copied;
    if (vocab_rule(v).numbers) {
        TRY_OUT(make_arrays(out, size + 1, ranges, err));
        TRY_OUT(encode_numbers(&e, text + e.copied, size, err));
        return STATUS_OK;
    }
    if (vocab_rule(v).split == TEXT_SPLIT_SUBWORDS) {
        TRY_OUT(encode_subwords(&e, text + e.copied, size, end, ranges, err));
        return STATUS_OK;
    }
    TRY_OUT(make_arrays(out, size + 1, ranges, err));
    TRY_OUT(mem_alloc(&p, size + 1 + WORD_PADDING, 1, err));
    e.copy = copy = p;
    if (size > 0)
        memcpy(copy, text + e.copied, size);
    copy[size] = '\n';
    TRY_OUT(encode_words(&e, copy, size, end, err));
out:
    mem_free(copy);
    if (status != STATUS_OK)
        text_encoding_free(out);
    return status;
}

void text_encoding_free(struct text_encoding *e)
{
    mem_free(e->ids);
    mem_free(e->ranges);
    *e = (struct text_encoding){0};
}
