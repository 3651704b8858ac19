/* Reads a tokenizer.json and writes the text form of its vocabulary. */
#include "data/tokenizer_json.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/read_file.h"
#include "base/utf8.h"
#include "data/subword_model.h"
#include "data/text_rule.h"
#include "data/word.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FILE_MAX = 1 << 28, IDS_MAX = 1 << 22, GAP_BYTES = 24 };

/* What a file says of one token. */
struct token {
    const char *name; /* borrows from the document, NULL for an id that is left out */
    enum { PIECE, SPECIAL, LITERAL, UNKNOWN } kind;
};

struct tokenizer {
    struct json *doc;
    const struct cJSON *model;
    bool bytes;        /* characters of pieces stand for bytes */
    bool fallback;     /* <0x00> to <0xFF> are bytes */
    bool prefix;       /* the first blank of a text is left out */
    struct token *tok; /* owns [count] */
    int64_t count;
    uint64_t *seen; /* owns [slots], hashes of the names that are written, 0 in a free one */
    size_t slots;
    char *text; /* owns [capacity] */
    size_t len, capacity;
};

/* --- kinds ------------------------------------------------------------------------------------ */

static bool is(const struct cJSON *object, const char *key, const char *want)
{
    const struct cJSON *value = json_get(object, key);
    const char *text;
    struct error ignored;
    return value != NULL && json_kind(value) == JSON_STRING &&
           json_string(NULL, value, &text, &ignored) == STATUS_OK && strcmp(text, want) == 0;
}

/* An optional member that is true or false. */
static bool flag(const struct cJSON *object, const char *key, bool otherwise)
{
    const struct cJSON *value = json_get(object, key);
    bool set;
    struct error ignored;
    if (value == NULL || json_kind(value) != JSON_BOOL ||
        json_bool(NULL, value, &set, &ignored) != STATUS_OK)
        return otherwise;
    return set;
}

/* Takes one step of the decoder. `known` becomes false for one that is not understood, and `blanks`
 * true if it turns U+2581 into blanks. */
static enum status take_step(struct tokenizer *t, const struct cJSON *step, bool *known,
                             bool *blanks, struct error *err)
{
    int64_t start;
    if (is(step, "type", "ByteLevel")) {
        t->bytes = true;
    } else if (is(step, "type", "Metaspace") && is(step, "replacement", SUBWORD_BLANK)) {
        *blanks = true;
        t->prefix = !is(step, "prepend_scheme", "never") && flag(step, "add_prefix_space", true);
    } else if (is(step, "type", "Replace") &&
               is(json_get(step, "pattern"), "String", SUBWORD_BLANK) && is(step, "content", " ")) {
        *blanks = true;
    } else if (is(step, "type", "Strip") && is(step, "content", " ")) {
        TRY(json_get_int(t->doc, step, "start", &start, err));
        t->prefix |= start > 0;
    } else if (is(step, "type", "ByteFallback")) {
        t->fallback = true;
    } else if (!is(step, "type", "Fuse")) {
        *known = false;
    }
    return STATUS_OK;
}

static enum status find_kind(struct tokenizer *t, struct error *err)
{
    const struct cJSON *root = json_root(t->doc), *decoder = json_get(root, "decoder");
    t->model = json_get(root, "model");
    if (t->model == NULL)
        return json_complain(t->doc, root, err,
                             "no \"model\": not a file of the tokenizers library");
    bool bpe = is(t->model, "type", "BPE") ||
               (json_get(t->model, "type") == NULL && json_get(t->model, "merges") != NULL);
    bool unigram = is(t->model, "type", "Unigram"), blanks = false, known = bpe || unigram;
    const struct cJSON *steps = json_get(decoder, "decoders");
    if (steps == NULL)
        TRY(take_step(t, decoder, &known, &blanks, err));
    const struct cJSON *step = steps != NULL ? json_first(steps) : NULL;
    for (; step != NULL; step = json_next(step))
        TRY(take_step(t, step, &known, &blanks, err));
    t->fallback &= !t->bytes;
    t->fallback |= blanks && flag(t->model, "byte_fallback", false);
    if (!known || t->bytes == blanks || (t->bytes && !bpe))
        return json_complain(
            t->doc, decoder != NULL ? decoder : root, err,
            "another kind of tokenizer than are understood, which are BPE over bytes, as of GPT-2 "
            "(decoder ByteLevel), and BPE or Unigram with U+2581 for blanks, as of SentencePiece");
    return STATUS_OK;
}

/* --- tokens ----------------------------------------------------------------------------------- */

static enum status set_token(struct tokenizer *t, const struct cJSON *at, int64_t id,
                             const char *name, int kind, struct error *err)
{
    if (id < 0 || id >= IDS_MAX)
        return json_complain(t->doc, at, err, "id %lld; want 0..%d", (long long)id, IDS_MAX - 1);
    if (id >= t->count) {
        size_t have = (size_t)t->count, want = (size_t)id + (size_t)id / 2 + 1024;
        TRY(mem_grow((void **)&t->tok, have, want, sizeof *t->tok, err));
        memset(t->tok + have, 0, (want - have) * sizeof *t->tok);
        t->count = (int64_t)want;
    }
    if (kind == PIECE && t->tok[id].name != NULL)
        return json_complain(t->doc, at, err, "id %lld again, of which \"%.80s\" is one",
                             (long long)id, t->tok[id].name);
    t->tok[id] = (struct token){.name = name, .kind = kind};
    return STATUS_OK;
}

/* {"piece": id, ...} */
static enum status take_object(struct tokenizer *t, const struct cJSON *vocab, struct error *err)
{
    int64_t id;
    for (const struct cJSON *v = json_first(vocab); v != NULL; v = json_next(v)) {
        TRY(json_int(t->doc, v, &id, err));
        TRY(set_token(t, v, id, json_key(v), PIECE, err));
    }
    return STATUS_OK;
}

/* [["piece", score], ...] */
static enum status take_array(struct tokenizer *t, const struct cJSON *vocab, struct error *err)
{
    const char *name;
    int64_t id = 0;
    for (const struct cJSON *v = json_first(vocab); v != NULL; v = json_next(v), id++) {
        if (json_kind(v) != JSON_ARRAY || json_first(v) == NULL)
            return json_complain(t->doc, v, err, "want a piece and its score");
        TRY(json_string(t->doc, json_first(v), &name, err));
        TRY(set_token(t, v, id, name, PIECE, err));
    }
    return STATUS_OK;
}

static enum status take_added(struct tokenizer *t, struct error *err)
{
    const struct cJSON *added = json_get(json_root(t->doc), "added_tokens");
    const char *name;
    int64_t id;
    const struct cJSON *v = added != NULL ? json_first(added) : NULL;
    for (; v != NULL; v = json_next(v)) {
        TRY(json_get_int(t->doc, v, "id", &id, err));
        TRY(json_get_string(t->doc, v, "content", &name, err));
        TRY(set_token(t, v, id, name, flag(v, "special", false) ? SPECIAL : LITERAL, err));
    }
    return STATUS_OK;
}

static enum status take_unknown(struct tokenizer *t, struct error *err)
{
    const struct cJSON *at = json_get(t->model, "unk_id"), *name = json_get(t->model, "unk_token");
    int64_t id = -1;
    if (t->bytes) /* every text has its bytes */
        return STATUS_OK;
    if (at != NULL && json_kind(at) == JSON_NUMBER)
        TRY(json_int(t->doc, at, &id, err));
    for (int64_t i = 0; i < t->count && name != NULL; i++)
        if (t->tok[i].name != NULL && is(t->model, "unk_token", t->tok[i].name))
            id = i;
    if (id >= 0 && id < t->count && t->tok[id].name != NULL)
        t->tok[id].kind = UNKNOWN;
    return STATUS_OK;
}

static enum status take_tokens(struct tokenizer *t, struct error *err)
{
    const struct cJSON *vocab = json_get(t->model, "vocab");
    if (vocab == NULL || json_first(vocab) == NULL)
        return json_complain(t->doc, t->model, err, "no \"vocab\"");
    TRY((json_kind(vocab) == JSON_ARRAY ? take_array : take_object)(t, vocab, err));
    TRY(take_added(t, err));
    TRY(take_unknown(t, err));
    while (t->tok[t->count - 1].name == NULL)
        t->count--;
    return STATUS_OK;
}

/* --- the text form ---------------------------------------------------------------------------- */

/* Reads one character. Returns its length, or 0 at the end. The text is UTF-8. */
static size_t character(const char *text, unsigned *code)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n = *p == 0 ? 0 : *p < 0x80 ? 1 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : 4;
    *code = n <= 1 ? *p : *p & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++)
        *code = *code << 6 | (p[i] & 0x3F);
    return n;
}

/* The byte that a character stands for in GPT-2's table, or -1. Bytes that are visible Latin-1
 * stand for themselves, and the other 68 follow U+0100 in order. */
static int byte_of(unsigned code)
{
    bool visible =
        (code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255);
    if (visible)
        return (int)code;
    if (code < 256 || code >= 256 + 68)
        return -1;
    code -= 256; /* 0..32, 127..160 and 173 */
    return (int)(code <= 32 ? code : code <= 66 ? 127 + code - 33 : 173);
}

/* Turns the characters of a piece into bytes. A piece with one that stands for none is literal. */
static size_t to_bytes(const char *name, char *out)
{
    size_t n = 0, length;
    unsigned code;
    for (const char *p = name; (length = character(p, &code)) > 0; p += length) {
        int byte = byte_of(code);
        if (byte < 0) {
            memcpy(out, name, strlen(name));
            return strlen(name);
        }
        out[n++] = (char)byte;
    }
    return n;
}

/* Whether `name`, hashed, is not yet written. It then counts as written. */
static bool is_new(struct tokenizer *t, const char *name, size_t len)
{
    uint64_t hash = XXH3_64bits(name, len) | 1;
    size_t i = (size_t)(hash >> 8) % t->slots;
    for (; t->seen[i] != 0; i = (i + 1) % t->slots)
        if (t->seen[i] == hash)
            return false;
    t->seen[i] = hash;
    return true;
}

static enum status put(struct tokenizer *t, const char *text, size_t len, struct error *err)
{
    if (t->len + len > t->capacity) {
        size_t grown = 2 * (t->len + len) + 4096;
        TRY(mem_grow((void **)&t->text, t->len, grown, 1, err));
        t->capacity = grown;
    }
    memcpy(t->text + t->len, text, len);
    t->len += len;
    return STATUS_OK;
}

/* Writes text[len] with U+2581 for blanks. False if that would not read as the same. */
static bool spell(const char *text, size_t len, bool blanks, char *out, size_t *size)
{
    size_t n = 0;
    if (len == 0 || utf8_check(text, len) < len || subword_byte(text, len) >= 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (blanks && text[i] == ' ') {
            memcpy(out + n, SUBWORD_BLANK, 3);
            n += 3;
        } else if (word_is_space(text[i]) || text[i] == '\0') {
            return false;
        } else if (blanks && len - i >= 3 && memcmp(text + i, SUBWORD_BLANK, 3) == 0) {
            return false;
        } else {
            out[n++] = text[i];
        }
    }
    *size = n;
    return true;
}

/* Adds a token that is no text, or that the file leaves out. */
static enum status put_special(struct tokenizer *t, int64_t id, enum subword_kind kind,
                               struct error *err)
{
    const char *name = t->tok[id].name;
    char other[GAP_BYTES];
    snprintf(other, sizeof other, "<id:%lld>", (long long)id);
    bool usable = name != NULL && name[0] != '\0';
    for (const char *p = name; usable && *p != '\0'; p++)
        usable = !word_is_space(*p);
    if (!usable || subword_byte(name, strlen(name)) >= 0 || !is_new(t, name, strlen(name)))
        name = other;
    if (name == other && !is_new(t, other, strlen(other)))
        return error_set(err, STATUS_DATA, "%s: a token is called %s, as those without a name are",
                         json_name(t->doc), other);
    TRY(put(t, name, strlen(name), err));
    return put(t, subword_mark(kind), strlen(subword_mark(kind)), err);
}

/* Adds the line of a piece of text, the bytes `raw`. They are spelled out if that reads as the
 * same, and no other token is spelled so. `blanks` says that blanks are blanks, and U+2581 itself.
 */
static enum status put_text(struct tokenizer *t, int64_t id, const char *raw, size_t len,
                            bool blanks, char *scratch, struct error *err)
{
    size_t n;
    if (len == 0)
        return put_special(t, id, SUBWORD_CONTROL, err);
    if (spell(raw, len, blanks, scratch, &n) && is_new(t, scratch, n))
        return put(t, scratch, n, err);
    for (size_t i = n = 0; i < len; i++)
        n += (size_t)sprintf(scratch + n, "%02X", (unsigned char)raw[i]);
    if (!is_new(t, scratch, n))
        return error_set(err, STATUS_DATA, "%s: token %lld is the same as two others",
                         json_name(t->doc), (long long)id);
    TRY(put(t, scratch, n, err));
    const char *mark = subword_mark(blanks ? SUBWORD_RAW : SUBWORD_HEX);
    return put(t, mark, strlen(mark), err);
}

static enum status put_token(struct tokenizer *t, int64_t id, char *scratch, struct error *err)
{
    const struct token *token = &t->tok[id];
    const char *name = token->name;
    size_t len = name != NULL ? strlen(name) : 0;
    if (name == NULL || token->kind == SPECIAL || token->kind == UNKNOWN)
        return put_special(t, id, token->kind == UNKNOWN ? SUBWORD_UNKNOWN : SUBWORD_CONTROL, err);
    if (token->kind == LITERAL)
        return put_text(t, id, name, len, true, scratch, err);
    if (t->bytes) {
        char *raw = scratch + 4 * len + 4;
        return put_text(t, id, raw, to_bytes(name, raw), true, scratch, err);
    }
    if (t->fallback && subword_byte(name, len) >= 0 && is_new(t, name, len))
        return put(t, name, len, err);
    return put_text(t, id, name, len, false, scratch, err);
}

static enum status put_all(struct tokenizer *t, const struct text_rule *rule, struct error *err)
{
    char header[TEXT_RULE_LINE];
    size_t longest = 0;
    void *p = NULL;
    for (int64_t i = 0; i < t->count; i++)
        if (t->tok[i].name != NULL && strlen(t->tok[i].name) > longest)
            longest = strlen(t->tok[i].name);
    t->slots = 4 * (size_t)t->count + 16;
    TRY(mem_alloc(&p, t->slots, sizeof *t->seen, err));
    t->seen = p;
    TRY(mem_alloc(&p, 8 * longest + 64, 1, err));
    char *scratch = p;
    enum status status = put(t, header, text_rule_write(rule, header), err);
    for (int64_t id = 0; id < t->count && status == STATUS_OK; id++) {
        status = put_token(t, id, scratch, err);
        if (status == STATUS_OK)
            status = put(t, "\n", 1, err);
    }
    mem_free(scratch);
    return status;
}

static enum status read_all(const char *path, char **text, size_t *size, struct error *err)
{
    int fd;
    int64_t bytes;
    void *p = NULL;
    *text = NULL;
    TRY(read_file_open(&fd, &bytes, path, "a " TOKENIZER_JSON, err));
    enum status status = bytes <= FILE_MAX
                             ? mem_alloc(&p, (size_t)bytes + 1, 1, err)
                             : error_set(err, STATUS_DATA, "%s: too large for a tokenizer", path);
    if (status == STATUS_OK)
        status = read_file_at(fd, path, p, (size_t)bytes, 0, err);
    close(fd);
    *text = p;
    *size = (size_t)bytes;
    return status;
}

enum status tokenizer_json_text(char **out, size_t *size, const char *path, struct error *err)
{
    struct tokenizer t = {0};
    char *text = NULL;
    enum status status;
    *out = NULL;
    TRY_OUT(read_all(path, &text, size, err));
    TRY_OUT(json_parse(&t.doc, text, *size, path, STATUS_DATA, err));
    TRY_OUT(find_kind(&t, err));
    TRY_OUT(take_tokens(&t, err));
    struct text_rule rule = {.split = TEXT_SPLIT_SUBWORDS,
                             .prefix = t.prefix && !t.bytes,
                             .numbers = true,
                             .model = XXH3_64bits(text, *size)};
    TRY_OUT(put_all(&t, &rule, err));
    *out = t.text;
    *size = t.len;
    t.text = NULL;
out:
    mem_free(text);
    mem_free(t.tok);
    mem_free(t.seen);
    mem_free(t.text);
    json_free(t.doc);
    return status;
}
