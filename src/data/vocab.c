/* Reads a vocabulary and looks words up in a hash table. */
#include "data/vocab.h"

#include "base/mem.h"
#include "base/read_file.h"
#include "base/utf8.h"
#include "data/tokenizer_json.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { BYTE_LINE = 7 /* "<0x00>\n" */ };

/* What SentencePiece shows for what is unknown. */
#define UNKNOWN_SURFACE " \xE2\x81\x87 "

struct slot {
    uint64_t key;
    uint32_t len;
    int32_t id; /* -1 in a free slot */
};

struct vocab {
    char *text; /* owns, the text form */
    size_t size;
    size_t *start; /* owns [n + 1], offset of each word, which ends at the next one's start - 1 */
    int64_t n;
    size_t header; /* bytes of the header line, 0 without one */
    struct text_rule rule;
    struct slot *slots; /* owns [2^(64 - shift)], at most five eighths full */
    int shift;
    int64_t eos, unk;
    uint64_t hash;
    /* Of subwords only. */
    enum subword_kind *kind;   /* owns [n] */
    char *surface;             /* owns, the texts of all pieces */
    size_t *surface_start;     /* owns [n + 1] */
    struct subwords *subwords; /* owns, NULL without a tokenizer */
};

static const char byte_values[256] = {
#define B4(x) (char)(x), (char)((x) + 1), (char)((x) + 2), (char)((x) + 3)
#define B16(x) B4(x), B4((x) + 4), B4((x) + 8), B4((x) + 12)
#define B64(x) B16(x), B16((x) + 16), B16((x) + 32), B16((x) + 48)
    B64(0), B64(64), B64(128), B64(192)
#undef B64
#undef B16
#undef B4
};

static void byte_text(char text[256 * BYTE_LINE + 1])
{
    for (int i = 0; i < 256; i++)
        snprintf(text + i * BYTE_LINE, BYTE_LINE + 1, "<0x%02X>\n", (unsigned)i);
}

static int32_t find_word(const struct vocab *v, const struct word *word)
{
    uint64_t mask = (UINT64_C(1) << (64 - v->shift)) - 1;
    for (uint64_t i = word_slot(word->key, v->shift);; i = (i + 1) & mask) {
        const struct slot *s = &v->slots[i];
        if (s->id < 0)
            return -1;
        if (s->key == word->key && s->len == word->len &&
            (word->len <= WORD_SHORT ||
             memcmp(v->text + v->start[s->id], word->text, word->len) == 0))
            return s->id;
    }
}

void vocab_find_words(const struct vocab *v, const struct word *words, int count,
                      int32_t ids[WORD_BATCH])
{
    assert(count <= WORD_BATCH && v->rule.split != TEXT_SPLIT_SUBWORDS && !vocab_is_bytes(v));
    for (int i = 0; i < count; i++)
        __builtin_prefetch(&v->slots[word_slot(words[i].key, v->shift)]);
    for (int i = 0; i < count; i++) {
        if (words[i].len <= WORD_SHORT)
            continue;
        const struct slot *s = &v->slots[word_slot(words[i].key, v->shift)];
        if (s->id >= 0)
            __builtin_prefetch(v->text + v->start[s->id]);
    }
    for (int i = 0; i < count; i++)
        ids[i] = find_word(v, &words[i]);
}

int64_t vocab_find(const struct vocab *v, const char *word, size_t len)
{
    if (vocab_is_bytes(v))
        return len == 1 ? (unsigned char)word[0] : -1;
    if (len == 0 || len > UINT32_MAX)
        return -1;
    struct word w = {.text = word, .key = word_key(word, len), .len = (uint32_t)len};
    return find_word(v, &w);
}

/* Counts the lines and sizes the tables. The text ends with a newline. */
static enum status make_tables(struct vocab *v, const char *name, struct error *err)
{
    void *p = NULL;
    for (size_t i = v->header; i < v->size; i++)
        v->n += v->text[i] == '\n';
    if (v->n > INT32_MAX)
        return error_set(err, STATUS_DATA, "%s: %lld words; at most %d can be used", name,
                         (long long)v->n, INT32_MAX);
    TRY(mem_alloc(&p, (size_t)v->n + 1, sizeof *v->start, err));
    v->start = p;
    if (v->rule.split == TEXT_SPLIT_SUBWORDS) {
        TRY(mem_alloc(&p, (size_t)v->n, sizeof *v->kind, err));
        v->kind = p;
    }
    v->shift = 64 - 4;
    while (INT64_C(5) << (64 - v->shift) < 8 * v->n)
        v->shift--;
    size_t slots = (size_t)1 << (64 - v->shift);
    TRY(mem_alloc(&p, slots, sizeof *v->slots, err));
    v->slots = p;
    for (size_t i = 0; i < slots; i++)
        v->slots[i].id = -1;
    return STATUS_OK;
}

/* Takes the kind of a piece of subwords and returns the length of its name. */
static size_t take_kind(struct vocab *v, int64_t id, const char *text, size_t len)
{
    for (enum subword_kind kind = SUBWORD_CONTROL; kind <= SUBWORD_RAW; kind++) {
        size_t n = strlen(subword_mark(kind));
        if (len < n || memcmp(text + len - n, subword_mark(kind), n) != 0)
            continue;
        v->kind[id] = kind;
        return len - n;
    }
    v->kind[id] = subword_byte(text, len) >= 0 ? SUBWORD_BYTE : SUBWORD_TEXT;
    return len;
}

static enum status add_word(struct vocab *v, int64_t id, size_t start, size_t len, const char *name,
                            struct error *err)
{
    const char *text = v->text + start;
    v->start[id] = start;
    if (v->kind != NULL)
        len = take_kind(v, id, text, len);
    int first = v->header > 0 ? 2 : 1; /* line of the word with id 0 */
    long long line = (long long)id + first;
    if (len == 0)
        return error_set(err, STATUS_DATA,
                         "%s:%lld: empty line: a vocabulary has one word in every line", name,
                         line);
    for (size_t i = 0; i < len; i++)
        if (word_is_space(text[i]))
            return error_set(err, STATUS_DATA,
                             "%s:%lld: white space in column %zu: one word a line", name, line,
                             i + 1);
    if (len > INT32_MAX)
        return error_set(err, STATUS_DATA, "%s:%lld: word of %zu bytes", name, line, len);
    struct word w = {.text = text, .key = word_key(text, len), .len = (uint32_t)len};
    int32_t same = find_word(v, &w);
    if (same >= 0)
        return error_set(err, STATUS_DATA, "%s:%lld: \"%.*s\" again: it stands in line %d", name,
                         line, len < 200 ? (int)len : 200, text, same + first);
    uint64_t mask = (UINT64_C(1) << (64 - v->shift)) - 1;
    uint64_t i = word_slot(w.key, v->shift);
    while (v->slots[i].id >= 0)
        i = (i + 1) & mask;
    v->slots[i] = (struct slot){.key = w.key, .len = w.len, .id = (int32_t)id};
    return STATUS_OK;
}

/* Reads the header, if there is one, and gives it the form that text_rule_write gives it, which
 * is never longer. */
static enum status read_header(struct vocab *v, const char *name, struct error *err)
{
    char line[TEXT_RULE_LINE];
    size_t len = (size_t)((char *)memchr(v->text, '\n', v->size) - v->text);
    if (!text_rule_is_header(v->text, len))
        return STATUS_OK;
    TRY(text_rule_read(&v->rule, v->text, len, name, err));
    v->header = text_rule_write(&v->rule, line);
    memmove(v->text + v->header, v->text + len + 1, v->size - len - 1);
    memcpy(v->text, line, v->header);
    v->size -= len + 1 - v->header;
    if (v->size > v->header)
        return STATUS_OK;
    return error_set(err, STATUS_DATA, "%s: no word behind the header", name);
}

static enum status index_words(struct vocab *v, const char *name, struct error *err)
{
    size_t bad = utf8_check(v->text, v->size);
    if (bad < v->size) {
        int64_t line = 1;
        for (size_t i = 0; i < bad; i++)
            line += v->text[i] == '\n';
        return error_set(err, STATUS_DATA, "%s:%lld: %s (byte %zu of the file): not a vocabulary",
                         name, (long long)line, v->text[bad] == '\0' ? "NUL byte" : "invalid UTF-8",
                         bad);
    }
    TRY(read_header(v, name, err));
    TRY(make_tables(v, name, err));
    size_t start = v->header;
    for (int64_t id = 0; id < v->n; id++) {
        const char *end = memchr(v->text + start, '\n', v->size - start);
        TRY(add_word(v, id, start, (size_t)(end - v->text) - start, name, err));
        start = (size_t)(end - v->text) + 1;
    }
    v->start[v->n] = start;
    return STATUS_OK;
}

/* Writes the text of a piece to `to`, which has room for its name. Returns its length, or -1 if it
 * is not what its kind says. */
static int64_t write_surface(const struct vocab *v, int64_t id, char *to)
{
    const size_t blank = sizeof SUBWORD_BLANK - 1;
    size_t len, n = 0;
    const char *text = vocab_word(v, id, &len);
    if (v->kind[id] == SUBWORD_CONTROL)
        return 0;
    if (v->kind[id] == SUBWORD_UNKNOWN) {
        memcpy(to, UNKNOWN_SURFACE, sizeof UNKNOWN_SURFACE - 1);
        return sizeof UNKNOWN_SURFACE - 1;
    }
    if (v->kind[id] == SUBWORD_BYTE) {
        *to = (char)subword_byte(text, len);
        return 1;
    }
    bool hex = v->kind[id] == SUBWORD_HEX || v->kind[id] == SUBWORD_RAW;
    for (size_t i = 0; i < len; n++) {
        int value = hex ? (len - i >= 2 ? subword_hex(text + i) : -1) : 0;
        if (value < 0)
            return -1;
        to[n] = hex ? (char)value : text[i];
        i += hex ? 2 : 1;
    }
    if (v->kind[id] == SUBWORD_RAW)
        return (int64_t)n;
    len = n;
    n = 0;
    for (size_t i = 0; i < len; n++) {
        bool is_blank = len - i >= blank && memcmp(to + i, SUBWORD_BLANK, blank) == 0;
        to[n] = is_blank ? ' ' : to[i];
        i += is_blank ? blank : 1;
    }
    return (int64_t)n;
}

/* Makes the texts of all pieces of subwords, and finds the one of a line end. */
static enum status make_surfaces(struct vocab *v, const char *name, struct error *err)
{
    void *p = NULL;
    size_t at = 0;
    TRY(mem_alloc(&p, v->size + sizeof UNKNOWN_SURFACE * (size_t)v->n, 1, err));
    v->surface = p;
    TRY(mem_alloc(&p, (size_t)v->n + 1, sizeof *v->surface_start, err));
    v->surface_start = p;
    int64_t newline = -1, byte = -1;
    for (int64_t id = 0; id < v->n; id++) {
        int64_t n = write_surface(v, id, v->surface + at);
        if (n < 0)
            return error_set(err, STATUS_DATA, "%s:%lld: want hex digits in pairs", name,
                             (long long)id + 2);
        if (n == 1 && v->surface[at] == '\n')
            *(v->kind[id] == SUBWORD_BYTE ? &byte : &newline) = id;
        if (v->kind[id] == SUBWORD_UNKNOWN)
            v->unk = id;
        v->surface_start[id] = at;
        at += (size_t)n;
    }
    v->surface_start[v->n] = at;
    int64_t end = vocab_find(v, "</s>", 4);
    v->eos = newline >= 0                                  ? newline
             : byte >= 0                                   ? byte
             : end >= 0 && v->kind[end] == SUBWORD_CONTROL ? end
                                                           : -1;
    return STATUS_OK;
}

/* Removes what editors add to a text and tokenize does not read as part of a word: a byte order
 * mark, and the carriage return at the end of a line. */
static void strip(struct vocab *v)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t from = 0, to = 0, n = sizeof mark - 1;
    /* All of them, so that the text form of the result reads as itself. */
    while (v->size - from >= n && memcmp(v->text + from, mark, n) == 0)
        from += n;
    for (; from < v->size; from++) {
        bool last = from + 1 == v->size;
        if (v->text[from] == '\r' && (last || v->text[from + 1] == '\n'))
            continue;
        v->text[to++] = v->text[from];
    }
    v->size = to;
}

/* Checks that a vocabulary of ids is the list 0, 1, ..., and takes the id that ends a text. */
static enum status check_ids(struct vocab *v, const char *name, struct error *err)
{
    char number[24];
    for (int64_t id = 0; id < v->n; id++) {
        size_t len, want = (size_t)snprintf(number, sizeof number, "%lld", (long long)id);
        const char *word = vocab_word(v, id, &len);
        if (len != want || memcmp(word, number, len) != 0)
            return error_set(err, STATUS_DATA, "%s:%lld: \"%.*s\" where the id %s is expected",
                             name, (long long)id + 2, len < 80 ? (int)len : 80, word, number);
    }
    if (v->rule.end >= v->n)
        return error_set(err, STATUS_DATA, "%s:1: %lld ends a text, and the largest id is %lld",
                         name, (long long)v->rule.end, (long long)v->n - 1);
    v->eos = v->rule.end;
    return STATUS_OK;
}

/* Indexes the text in v, behind which one more byte is allocated. */
static enum status finish(struct vocab *v, const char *name, struct error *err)
{
    char bytes[256 * BYTE_LINE + 1];
    strip(v);
    if (v->size == 0)
        return error_set(err, STATUS_DATA, "%s: empty: a vocabulary has one word in every line",
                         name);
    if (v->text[v->size - 1] != '\n')
        v->text[v->size++] = '\n';
    TRY(index_words(v, name, err));
    byte_text(bytes);
    if (v->rule.split == TEXT_SPLIT_SUBWORDS) {
        TRY(make_surfaces(v, name, err));
    } else {
        v->eos = vocab_find(v, VOCAB_EOS, strlen(VOCAB_EOS));
        v->unk = vocab_find(v, VOCAB_UNK, strlen(VOCAB_UNK));
    }
    if (v->rule.split == TEXT_SPLIT_IDS)
        TRY(check_ids(v, name, err));
    if (v->size == 256 * BYTE_LINE && memcmp(v->text, bytes, v->size) == 0)
        v->rule.split = TEXT_SPLIT_BYTES;
    v->hash = XXH3_64bits(v->text, v->size);
    return STATUS_OK;
}

/* Allocates a vocabulary with `size` bytes of text and one for a newline. */
static enum status make_empty(struct vocab **out, size_t size, struct error *err)
{
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof **out, err));
    *out = p;
    (*out)->eos = (*out)->unk = -1;
    enum status status = mem_alloc(&p, size + 1, 1, err);
    (*out)->text = p;
    (*out)->size = size;
    return status;
}

enum status vocab_from_text(struct vocab **out, const char *text, size_t size, const char *name,
                            struct error *err)
{
    struct vocab *v = NULL;
    enum status status;
    *out = NULL;
    TRY_OUT(make_empty(&v, size, err));
    if (size > 0)
        memcpy(v->text, text, size);
    TRY_OUT(finish(v, name, err));
    *out = v;
    return STATUS_OK;
out:
    vocab_free(v);
    return status;
}

enum status vocab_attach_tokenizer(struct vocab *v, const void *model, size_t size,
                                   const char *name, struct error *err)
{
    struct subwords *subwords;
    TRY(subwords_new(&subwords, model, size, name, err));
    size_t len;
    const char *text = subwords_text(subwords, &len);
    if (len != v->size || memcmp(text, v->text, len) != 0) {
        subwords_free(subwords);
        return error_set(err, STATUS_DATA,
                         "%s: not the model that the vocabulary was made from; run deq tokenize "
                         "again",
                         name);
    }
    subwords_free(v->subwords);
    v->subwords = subwords;
    return STATUS_OK;
}

enum status vocab_from_model(struct vocab **out, const void *model, size_t size, const char *name,
                             struct error *err)
{
    struct subwords *subwords;
    *out = NULL;
    TRY(subwords_new(&subwords, model, size, name, err));
    size_t len;
    const char *text = subwords_text(subwords, &len);
    enum status status = vocab_from_text(out, text, len, name, err);
    if (status == STATUS_OK)
        (*out)->subwords = subwords;
    else
        subwords_free(subwords);
    return status;
}

/* Attaches the tokenizer in the folder of vocab.txt. Without it texts cannot be encoded, but all
 * else can be done. */
static enum status load_tokenizer(struct vocab *v, const char *path, struct error *err)
{
    char *beside = NULL;
    const char *slash = strrchr(path, '/');
    size_t folder = slash != NULL ? (size_t)(slash + 1 - path) : 0, size;
    void *model = NULL;
    enum status status;
    if (v->rule.split != TEXT_SPLIT_SUBWORDS || v->rule.numbers)
        return STATUS_OK;
    void *p = NULL;
    TRY(mem_alloc(&p, folder + sizeof VOCAB_TOKENIZER, 1, err));
    beside = p;
    memcpy(beside, path, folder);
    memcpy(beside + folder, VOCAB_TOKENIZER, sizeof VOCAB_TOKENIZER);
    if (access(beside, F_OK) != 0) {
        mem_free(beside);
        return STATUS_OK;
    }
    TRY_OUT(subwords_read_file(beside, &model, &size, err));
    TRY_OUT(vocab_attach_tokenizer(v, model, size, beside, err));
out:
    mem_free(model);
    mem_free(beside);
    return status;
}

enum status vocab_load_model(struct vocab **out, const char *path, struct error *err)
{
    void *model = NULL;
    size_t size;
    *out = NULL;
    TRY(subwords_read_file(path, &model, &size, err));
    enum status status = vocab_from_model(out, model, size, path, err);
    mem_free(model);
    return status;
}

static enum status load_json(struct vocab **out, const char *path, struct error *err)
{
    char *text;
    size_t size;
    TRY(tokenizer_json_text(&text, &size, path, err));
    enum status status = vocab_from_text(out, text, size, path, err);
    mem_free(text);
    return status;
}

enum status vocab_load(struct vocab **out, const char *path, struct error *err)
{
    struct vocab *v = NULL;
    struct stat st;
    enum status status = STATUS_OK;
    size_t len = strlen(path);
    if (len > 6 && strcmp(path + len - 6, ".model") == 0)
        return vocab_load_model(out, path, err);
    *out = NULL;
    if (len > 5 && strcmp(path + len - 5, ".json") == 0)
        return load_json(out, path, err);
    /* Without O_NONBLOCK a pipe of that name would block here. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) /* callers go on without a missing file, so too many open files must differ */
        return error_set(err, errno == EMFILE || errno == ENFILE ? STATUS_IO : STATUS_NOINPUT,
                         "%s: cannot open the vocabulary: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = error_set(err, STATUS_NOINPUT, "%s: not a file that holds a vocabulary", path);
        goto out;
    }
    TRY_OUT(make_empty(&v, (size_t)st.st_size, err));
    TRY_OUT(read_file_at(fd, path, v->text, v->size, 0, err));
    TRY_OUT(finish(v, path, err));
    TRY_OUT(load_tokenizer(v, path, err));
    *out = v;
    v = NULL;
out:
    vocab_free(v);
    close(fd);
    return status;
}

enum status vocab_make_bytes(struct vocab **out, struct error *err)
{
    char text[256 * BYTE_LINE + 1];
    byte_text(text);
    return vocab_from_text(out, text, 256 * BYTE_LINE, "bytes", err);
}

enum status vocab_make_ids(struct vocab **out, int64_t size, int64_t end, struct error *err)
{
    enum { LINE = 12 /* of the largest id with its newline and a NUL */ };
    const struct text_rule rule = {.split = TEXT_SPLIT_IDS, .end = end};
    void *p = NULL;
    *out = NULL;
    if (size < 1 || size > INT32_MAX || end >= size)
        return error_set(err, STATUS_CONFIG,
                         "data.end_of_text: %lld where model.vocab_size is %lld; want -1 for none, "
                         "or less than that",
                         (long long)end, (long long)size);
    TRY(mem_alloc(&p, (size_t)size * LINE + TEXT_RULE_LINE, 1, err));
    char *text = p, *at = text + text_rule_write(&rule, text);
    for (int64_t id = 0; id < size; id++)
        at += snprintf(at, LINE, "%d\n", (int)id);
    enum status status = vocab_from_text(out, text, (size_t)(at - text), "ids", err);
    mem_free(text);
    return status;
}

void vocab_free(struct vocab *v)
{
    if (v == NULL)
        return;
    mem_free(v->text);
    mem_free(v->start);
    mem_free(v->slots);
    mem_free(v->kind);
    mem_free(v->surface);
    mem_free(v->surface_start);
    subwords_free(v->subwords);
    mem_free(v);
}

const char *vocab_text(const struct vocab *v, size_t *size)
{
    *size = v->size;
    return v->text;
}

const char *vocab_word(const struct vocab *v, int64_t id, size_t *len)
{
    assert(id >= 0 && id < v->n);
    if (vocab_is_bytes(v)) {
        *len = 1;
        return &byte_values[id];
    }
    *len = v->start[id + 1] - 1 - v->start[id] -
           (v->kind != NULL ? strlen(subword_mark(v->kind[id])) : 0);
    return v->text + v->start[id];
}

const char *vocab_surface(const struct vocab *v, int64_t id, size_t *len)
{
    assert(id >= 0 && id < v->n && v->surface != NULL);
    *len = v->surface_start[id + 1] - v->surface_start[id];
    return v->surface + v->surface_start[id];
}

enum subword_kind vocab_kind(const struct vocab *v, int64_t id)
{
    return v->kind[id];
}

struct subwords *vocab_subwords(const struct vocab *v)
{
    return v->subwords;
}

int64_t vocab_size(const struct vocab *v)
{
    return v->n;
}

bool vocab_is_bytes(const struct vocab *v)
{
    return v->rule.split == TEXT_SPLIT_BYTES;
}

struct text_rule vocab_rule(const struct vocab *v)
{
    return v->rule;
}

int64_t vocab_eos(const struct vocab *v)
{
    return v->eos;
}

int64_t vocab_unk(const struct vocab *v)
{
    return v->unk;
}

uint64_t vocab_hash(const struct vocab *v)
{
    return v->hash;
}
