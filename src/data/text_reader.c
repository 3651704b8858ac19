/* Reads a text piece by piece and divides it into tokens. */
#include "data/text_reader.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/pieces.h"
#include "data/subwords.h"
#include "data/text_encode.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 18, WORD_MOST = 1 << 22, BYTES_AT_ONCE = 4096 };

struct text_reader {
    const struct vocab *vocab;        /* borrows */
    const struct text_source *source; /* borrows */
    int fd;                           /* owns, unless it is standard input */
    struct text_rule rule;
    char *buffer; /* owns [capacity + 1 + WORD_PADDING] */
    size_t capacity, size;
    size_t cut;     /* the block that is being divided is buffer[0 .. cut) */
    size_t at;      /* of a byte vocabulary, the next byte of it */
    bool ended;     /* nothing more to read */
    bool started;   /* a block has been read */
    int64_t line;   /* of the block's first byte, from 1 */
    int64_t offset; /* of the buffer in the text */
    int64_t words;  /* of the blocks before */
    bool in_word;   /* of a byte vocabulary, the last byte was no white space */
    bool dividing;
    struct pieces pieces;
    struct subwords *subwords;     /* borrows the model of a vocabulary of subwords, or NULL */
    struct subword_tokens encoded; /* the block in subwords */
    int64_t taken;                 /* of them */
    bool inside;                   /* the block begins inside a line */
    const char *past;              /* end of the last token, inside the block */
    int64_t carried;               /* bytes behind the last token of the block before */
    int64_t said;                  /* bytes of the tokens that numbers stand for */
    struct text_token token[BYTES_AT_ONCE];
};

int32_t text_line_start(const struct vocab *vocab)
{
    return vocab_is_bytes(vocab) ? '\n' : (int32_t)vocab_eos(vocab);
}

static enum status grow(struct text_reader *r, size_t capacity, struct error *err)
{
    size_t old = r->buffer == NULL ? 0 : r->capacity + 1 + WORD_PADDING;
    TRY(mem_grow((void **)&r->buffer, old, capacity + 1 + WORD_PADDING, 1, err));
    r->capacity = capacity;
    return STATUS_OK;
}

struct text_source text_reader_source(const char *path)
{
    struct text_source source = text_source_file(path);
    if (strcmp(path, "-") == 0)
        snprintf(source.name, sizeof source.name, "standard input");
    return source;
}

/* Standard input is read where it stands. */
static bool is_standard_input(const struct text_source *s)
{
    return s->path != NULL && strcmp(s->path, "-") == 0;
}

enum status text_reader_open(struct text_reader **out, const struct text_source *source,
                             const struct vocab *vocab, struct error *err)
{
    enum status status = STATUS_OK;
    struct text_reader *r = NULL;
    int64_t bytes;
    *out = NULL;
    struct text_rule rule = vocab_rule(vocab);
    if (rule.split == TEXT_SPLIT_IDS)
        return error_set(err, STATUS_DATA,
                         "%s: the vocabulary is of numbers, which another program makes of a text",
                         source->name);
    if (rule.split == TEXT_SPLIT_SUBWORDS && !rule.numbers && vocab_subwords(vocab) == NULL)
        return error_set(err, STATUS_DATA,
                         "%s: the vocabulary of subwords came without its " VOCAB_TOKENIZER,
                         source->name);
    TRY(mem_alloc((void **)&r, 1, sizeof *r, err));
    r->vocab = vocab;
    r->rule = rule;
    if (rule.numbers) /* which stand between blanks */
        r->rule.split = TEXT_SPLIT_BLANKS;
    r->subwords = rule.split == TEXT_SPLIT_SUBWORDS ? vocab_subwords(vocab) : NULL;
    r->encoded.ranges = r->encoded.remember = true;
    r->source = source;
    r->line = 1;
    r->fd = -1;
    if (is_standard_input(source))
        r->fd = STDIN_FILENO;
    else
        TRY_OUT(text_source_begin(source, false, &r->fd, &bytes, err));
    TRY_OUT(grow(r, BLOCK_BYTES, err));
    *out = r;
    return STATUS_OK;
out:
    text_reader_close(r);
    return status;
}

void text_reader_close(struct text_reader *r)
{
    if (r == NULL)
        return;
    if (!is_standard_input(r->source))
        text_source_end(r->source, r->fd);
    subword_tokens_free(&r->encoded);
    mem_free(r->buffer);
    mem_free(r);
}

int64_t text_reader_bytes(const struct text_reader *r)
{
    if (r->rule.numbers)
        return r->said;
    return r->offset + (int64_t)(vocab_is_bytes(r->vocab) ? r->at : r->cut);
}

int64_t text_reader_words(const struct text_reader *r)
{
    return r->words + (r->dividing && !r->rule.numbers ? r->pieces.words : 0);
}

/* The last place of buffer[0 .. size) at which its tokens end, or 0. Behind the last newline is
 * one, and in a longer line pieces_cut finds one. */
static size_t find_cut(const struct text_reader *r)
{
    const char *b = r->buffer, *newline = memrchr(b, '\n', r->size);
    if (newline != NULL)
        return (size_t)(newline - b) + 1;
    if (r->subwords != NULL)
        return r->size < r->capacity ? r->size : subwords_cut(b, r->size);
    return pieces_cut(r->rule.split, b, r->size);
}

static int64_t count_lines(const char *text, size_t size)
{
    int64_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += text[i] == '\n';
    return n;
}

static enum status check_words(const struct text_reader *r, struct error *err)
{
    size_t bad = utf8_check(r->buffer, r->cut);
    if (bad == r->cut)
        return STATUS_OK;
    int64_t line = r->line + count_lines(r->buffer, bad);
    return error_set(err, STATUS_DATA,
                     "%s:%lld: %s 0x%02X (byte %lld of the text): convert the text to UTF-8 "
                     "(iconv), or take a model of bytes",
                     r->source->name, (long long)line,
                     r->buffer[bad] == '\0' ? "NUL byte" : "invalid UTF-8 byte",
                     (unsigned char)r->buffer[bad], (long long)(r->offset + (int64_t)bad));
}

/* Leaves out a byte order mark, which would be an invisible part of the first word. */
static void skip_mark(struct text_reader *r)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t n = sizeof mark - 1;
    if (r->started || r->size < n || memcmp(r->buffer, mark, n) != 0)
        return;
    memmove(r->buffer, r->buffer + n, r->size - n);
    r->size -= n;
    r->offset += (int64_t)n;
}

/* Brings the next block to the front of the buffer. Its size is 0 at the end of the text. */
static enum status next_block(struct text_reader *r, struct error *err)
{
    bool words = !vocab_is_bytes(r->vocab);
    r->line += count_lines(r->buffer, r->cut);
    r->offset += (int64_t)r->cut;
    memmove(r->buffer, r->buffer + r->cut, r->size - r->cut);
    r->size -= r->cut;
    r->cut = r->at = 0;
    for (;;) {
        if (!r->ended)
            TRY(text_source_read(r->source, r->fd, r->offset, r->buffer, r->capacity, &r->size,
                                 &r->ended, err));
        if (words)
            skip_mark(r);
        r->started = true;
        r->cut = words && !r->ended ? find_cut(r) : r->size;
        if (r->cut > 0 || r->size == 0)
            break;
        if (r->capacity >= WORD_MOST)
            return error_set(err, STATUS_DATA,
                             "%s:%lld: a word of more than %zu bytes: is this text?",
                             r->source->name, (long long)r->line, r->size);
        TRY(grow(r, 2 * r->capacity, err));
    }
    if (!words || r->cut == 0)
        return STATUS_OK;
    TRY(check_words(r, err));
    for (size_t i = 0; r->rule.lower && i < r->cut; i++)
        r->buffer[i] |= (char)((r->buffer[i] >= 'A' && r->buffer[i] <= 'Z') << 5);
    return STATUS_OK;
}

/* Begins to divide a block of words. The last line of the text gets an end if it has none, in the
 * place behind the buffer that nothing is read into. */
static void begin_words(struct text_reader *r)
{
    size_t size = r->cut;
    if (r->ended && r->cut == r->size && r->buffer[r->cut - 1] != '\n')
        r->buffer[size++] = '\n';
    pieces_begin(&r->pieces, r->rule.split, r->buffer, size);
    r->past = r->buffer;
    r->dividing = true;
}

/* Complains about a word, as about one of a prompt. */
static enum status refuse_word(const struct text_reader *r, const struct text_token *t,
                               struct error *err)
{
    struct text_encoding unused;
    enum status status = text_encode(&unused, r->vocab, t->text, t->len, TEXT_OPEN, false, err);
    size_t before = (size_t)(t->text - r->buffer);
    text_encoding_free(&unused);
    if (status == STATUS_OK) /* punctuation with its marks */
        status =
            error_set(err, STATUS_DATA, "\"%.*s\" is not in the vocabulary", (int)t->len, t->text);
    error_prefix(err, "%s:%lld", r->source->name,
                 (long long)(r->line + count_lines(r->buffer, before)));
    return status;
}

static void count_word(struct text_reader *r, char byte)
{
    bool word = !word_is_space(byte);
    r->words += word && !r->in_word;
    r->in_word = word;
}

/* Takes tokens that are given by their numbers. A line end only divides them. */
static enum status take_numbers(struct text_reader *r, int *count, struct error *err)
{
    const struct pieces *p = &r->pieces;
    for (int i = 0; i < p->count; i++) {
        struct text_token *t = &r->token[i];
        *t = (struct text_token){
            .id = -1, .line_end = p->word[i].len == 0, .text = p->from[i], .len = p->word[i].len};
        if (t->line_end)
            continue;
        struct text_encoding one;
        enum status status = text_encode(&one, r->vocab, t->text, t->len, TEXT_OPEN, false, err);
        if (status != STATUS_OK)
            return refuse_word(r, t, err);
        t->id = one.ids[0];
        text_encoding_free(&one);
        t->unknown = t->id == vocab_unk(r->vocab);
        t->text = vocab_surface(r->vocab, t->id, &t->len);
        t->bytes = (int64_t)t->len;
        for (size_t k = 0; k < t->len; k++)
            count_word(r, t->text[k]);
        r->said += t->bytes;
    }
    *count = p->count;
    return STATUS_OK;
}

static enum status take_pieces(struct text_reader *r, int *count, struct error *err)
{
    const struct pieces *p = &r->pieces;
    const char *end = r->buffer + r->cut;
    int32_t ids[WORD_BATCH];
    vocab_find_words(r->vocab, p->word, p->count, ids);
    for (int i = 0; i < p->count; i++) {
        const char *until = p->until[i] < end ? p->until[i] : end;
        struct text_token *t = &r->token[i];
        *t = (struct text_token){.id = ids[i], .line_end = p->word[i].len == 0};
        t->bytes = r->carried + (until - r->past);
        r->carried = 0;
        r->past = until;
        t->text = p->from[i];
        if (t->line_end) {
            t->id = (int32_t)vocab_eos(r->vocab);
            continue;
        }
        t->len = (size_t)(until - p->from[i]);
        t->unknown = ids[i] < 0 || ids[i] == vocab_unk(r->vocab);
        if (ids[i] < 0 && vocab_unk(r->vocab) < 0)
            return refuse_word(r, t, err);
        if (t->unknown)
            t->id = (int32_t)vocab_unk(r->vocab);
    }
    *count = p->count;
    return STATUS_OK;
}

/* Encodes a block in subwords. */
static enum status begin_subwords(struct text_reader *r, struct error *err)
{
    if (subwords_encode(r->subwords, &r->encoded, r->buffer, r->cut, r->inside, err) != STATUS_OK) {
        error_prefix(err, "%s", r->source->name);
        return err->status;
    }
    for (size_t i = 0; i < r->cut; i++)
        count_word(r, r->buffer[i]);
    r->inside = r->buffer[r->cut - 1] != '\n';
    r->past = r->buffer;
    r->taken = 0;
    return STATUS_OK;
}

static void take_subwords(struct text_reader *r, int *count)
{
    int64_t left = r->encoded.count - r->taken;
    *count = (int)(left < BYTES_AT_ONCE ? left : BYTES_AT_ONCE);
    for (int i = 0; i < *count; i++) {
        const struct text_range *range = &r->encoded.range[r->taken + i];
        const char *until = r->buffer + range->until;
        int32_t id = r->encoded.ids[r->taken + i];
        struct text_token t = {.id = id, .text = r->buffer + range->from};
        t.unknown = id == vocab_unk(r->vocab);
        t.line_end = range->until > range->from && until[-1] == '\n';
        t.len = t.line_end ? 0 : range->until - range->from;
        t.bytes = until - r->past;
        r->past = until;
        r->token[i] = t;
    }
    r->taken += *count;
}

static void take_bytes(struct text_reader *r, int *count)
{
    size_t n = r->cut - r->at < BYTES_AT_ONCE ? r->cut - r->at : BYTES_AT_ONCE;
    for (size_t i = 0; i < n; i++) {
        const char *p = r->buffer + r->at + i;
        count_word(r, *p);
        r->token[i] = (struct text_token){.id = (unsigned char)*p,
                                          .line_end = *p == '\n',
                                          .bytes = 1,
                                          .text = p,
                                          .len = *p != '\n'};
    }
    r->at += n;
    *count = (int)n;
}

enum status text_reader_next(struct text_reader *r, const struct text_token **tokens, int *count,
                             struct error *err)
{
    bool bytes = vocab_is_bytes(r->vocab), words = !bytes && r->subwords == NULL;
    *tokens = r->token;
    *count = 0;
    while (*count == 0) {
        if (words && r->dividing && pieces_next(&r->pieces))
            return (r->rule.numbers ? take_numbers : take_pieces)(r, count, err);
        if (r->dividing) {
            r->words += r->rule.numbers ? 0 : r->pieces.words;
            r->carried += r->buffer + r->cut - r->past;
        }
        r->dividing = false;
        bool left = bytes ? r->at < r->cut : !words && r->taken < r->encoded.count;
        if (!left) {
            TRY(next_block(r, err));
            if (r->cut == 0)
                return STATUS_OK;
            if (words)
                begin_words(r);
            else if (!bytes)
                TRY(begin_subwords(r, err));
        }
        if (bytes)
            take_bytes(r, count);
        else if (!words)
            take_subwords(r, count);
    }
    return STATUS_OK;
}
