/* Reads a model of SentencePiece. */
#include "data/subword_model.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/word.h"

#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Numbers of the fields, as sentencepiece_model.proto has them. */
enum {
    MODEL_PIECE = 1,
    MODEL_TRAINER = 2,
    MODEL_NORMALIZER = 3,
    MODEL_DENORMALIZER = 5,
    PIECE_TEXT = 1,
    PIECE_TYPE = 3,
    TRAINER_SUFFIX = 24,
    TRAINER_BYTES = 35,
    NORMALIZER_CHARS = 2,
    NORMALIZER_PREFIX = 3,
    NORMALIZER_TRIM = 4,
    NORMALIZER_ESCAPE = 5
};

enum piece_type { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6 };

/* Part of a message. */
struct bytes {
    const unsigned char *at, *end;
};

struct field {
    uint64_t number;
    uint64_t value;    /* of a varint */
    struct bytes text; /* of a string or message */
};

/* What is known once all of the file is read. */
struct rules {
    bool escape, charsmap, denormalizer, suffix, fallback;
};

static bool read_varint(struct bytes *in, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        unsigned char c = *in->at++;
        *out |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80)
            return true;
    }
    return false;
}

/* Takes the next field. Returns false if the bytes are no field. */
static bool read_field(struct bytes *in, struct field *out)
{
    uint64_t key, size;
    if (!read_varint(in, &key))
        return false;
    *out = (struct field){.number = key >> 3};
    switch (key & 7) {
    case 0:
        return read_varint(in, &out->value);
    case 1:
        size = 8;
        break;
    case 2:
        if (!read_varint(in, &size))
            return false;
        break;
    case 5:
        size = 4;
        break;
    default:
        return false;
    }
    if (size > (uint64_t)(in->end - in->at))
        return false;
    out->text = (struct bytes){in->at, in->at + size};
    in->at += size;
    return true;
}

static bool read_piece(struct bytes in, struct bytes *text, enum piece_type *type)
{
    struct field f;
    *type = TYPE_NORMAL;
    *text = (struct bytes){in.at, in.at};
    while (in.at < in.end) {
        if (!read_field(&in, &f))
            return false;
        if (f.number == PIECE_TEXT)
            *text = f.text;
        else if (f.number == PIECE_TYPE)
            *type = (enum piece_type)f.value;
    }
    return true;
}

/* Counts the pieces and reads the rules. Returns false if the bytes are no message. */
static bool read_rules(struct subword_model *m, struct bytes in, struct rules *r, size_t *names)
{
    struct field f, g;
    while (in.at < in.end) {
        if (!read_field(&in, &f))
            return false;
        m->pieces += f.number == MODEL_PIECE;
        *names += f.number == MODEL_PIECE ? (size_t)(f.text.end - f.text.at) : 0;
        r->denormalizer |= f.number == MODEL_DENORMALIZER && f.text.at < f.text.end;
        if (f.number != MODEL_TRAINER && f.number != MODEL_NORMALIZER)
            continue;
        for (struct bytes part = f.text; part.at < part.end;) {
            if (!read_field(&part, &g))
                return false;
            if (f.number == MODEL_TRAINER) {
                r->suffix = g.number == TRAINER_SUFFIX ? g.value != 0 : r->suffix;
                r->fallback = g.number == TRAINER_BYTES ? g.value != 0 : r->fallback;
                continue;
            }
            r->charsmap |= g.number == NORMALIZER_CHARS && g.text.at < g.text.end;
            m->rule.prefix = g.number == NORMALIZER_PREFIX ? g.value != 0 : m->rule.prefix;
            m->rule.trim = g.number == NORMALIZER_TRIM ? g.value != 0 : m->rule.trim;
            r->escape = g.number == NORMALIZER_ESCAPE ? g.value != 0 : r->escape;
        }
    }
    return true;
}

const char *subword_mark(enum subword_kind kind)
{
    static const char *const marks[] = {[SUBWORD_TEXT] = "",
                                        [SUBWORD_BYTE] = "",
                                        [SUBWORD_CONTROL] = "\tcontrol",
                                        [SUBWORD_UNKNOWN] = "\tunknown",
                                        [SUBWORD_HEX] = "\thex",
                                        [SUBWORD_RAW] = "\traw"};
    return marks[kind];
}

int subword_hex(const char *text)
{
    int value = 0;
    for (int i = 0; i < 2; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9', letter = text[i] >= 'A' && text[i] <= 'F';
        if (!digit && !letter)
            return -1;
        value = 16 * value + text[i] - (digit ? '0' : 'A' - 10);
    }
    return value;
}

int subword_byte(const char *text, size_t len)
{
    if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    return subword_hex(text + 3);
}

static bool has_space(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (word_is_space(text[i]))
            return true;
    return len == 0;
}

static void put(struct subword_model *m, const char *text, size_t len)
{
    memcpy(m->text + m->size, text, len);
    m->size += len;
}

static void put_mark(struct subword_model *m, enum subword_kind kind)
{
    put(m, subword_mark(kind), strlen(subword_mark(kind)));
}

static void put_hex(struct subword_model *m, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        m->size += (size_t)sprintf(m->text + m->size, "%02X", (unsigned char)text[i]);
}

/* Notes of a piece of text how long it is, and where it has blanks. */
static void measure(struct subword_model *m, int64_t id, const char *text, size_t len)
{
    const size_t n = sizeof SUBWORD_BLANK - 1;
    bool other = false; /* a character that is no blank */
    for (size_t i = 0; i < len; m->width[id]++) {
        bool blank = len - i >= n && memcmp(text + i, SUBWORD_BLANK, n) == 0;
        m->whole_words &= !(blank && other);
        other |= !blank;
        i += blank ? n : 1;
    }
    m->blank |= len == n && m->width[id] == 1;
}

/* Adds the line of a piece to the text form. */
static enum status add_piece(struct subword_model *m, int64_t id, struct bytes piece,
                             enum piece_type type, struct error *err)
{
    const char *text = (const char *)piece.at;
    size_t len = (size_t)(piece.end - piece.at);
    int byte = subword_byte(text, len);
    bool newline = len == 1 && *text == '\n';
    if (utf8_check(text, len) < len)
        return error_set(err, STATUS_DATA, "piece %lld is no UTF-8", (long long)id);
    if (type == TYPE_BYTE) {
        if (byte < 0)
            return error_set(err, STATUS_DATA, "piece %lld is \"%.*s\", which is no byte",
                             (long long)id, len < 80 ? (int)len : 80, text);
        m->byte[byte] = (int32_t)id;
        m->width[id] = 1;
        put(m, text, len);
    } else if (type == TYPE_CONTROL || type == TYPE_UNKNOWN) {
        if (has_space(text, len))
            return error_set(err, STATUS_DATA, "piece %lld has white space in its name",
                             (long long)id);
        put(m, text, len);
        put_mark(m, type == TYPE_UNKNOWN ? SUBWORD_UNKNOWN : SUBWORD_CONTROL);
    } else {
        measure(m, id, text, len);
        if (byte >= 0 || has_space(text, len)) {
            put_hex(m, text, len);
            put_mark(m, SUBWORD_HEX);
        } else {
            put(m, text, len);
        }
    }
    if (newline)
        m->line_end = (int32_t)id;
    if (type == TYPE_CONTROL && len == 4 && memcmp(text, "</s>", len) == 0)
        m->sentence_end = (int32_t)id;
    put(m, "\n", 1);
    return STATUS_OK;
}

/* Writes the text form. */
static enum status read_pieces(struct subword_model *m, struct bytes in, size_t names,
                               struct error *err)
{
    void *p = NULL;
    char header[TEXT_RULE_LINE];
    struct field f;
    struct bytes text;
    enum piece_type type;
    int64_t id = 0;
    TRY(mem_alloc(&p, (size_t)m->pieces, sizeof *m->width, err));
    m->width = p;
    /* The longest that a line can be, in hex, and sprintf puts a NUL behind it. */
    TRY(mem_alloc(&p, TEXT_RULE_LINE + 2 * names + 16 * (size_t)m->pieces, 1, err));
    m->text = p;
    put(m, header, text_rule_write(&m->rule, header));
    while (in.at < in.end && read_field(&in, &f)) {
        if (f.number != MODEL_PIECE)
            continue;
        if (!read_piece(f.text, &text, &type))
            return error_set(err, STATUS_DATA, "piece %lld is damaged", (long long)id);
        TRY(add_piece(m, id++, text, type, err));
    }
    return STATUS_OK;
}

enum status subword_model_read(struct subword_model *m, const void *model, size_t size,
                               const char *name, struct error *err)
{
    const struct bytes in = {model, (const unsigned char *)model + size};
    struct rules r = {.escape = true};
    size_t names = 0;
    *m = (struct subword_model){.line_end = -1, .sentence_end = -1, .whole_words = true};
    m->rule = (struct text_rule){.split = TEXT_SPLIT_SUBWORDS,
                                 .prefix = true,
                                 .trim = true,
                                 .model = XXH3_64bits(model, size)};
    for (int i = 0; i < 256; i++)
        m->byte[i] = -1;
    if (!read_rules(m, in, &r, &names) || m->pieces == 0 || m->pieces > INT32_MAX)
        return error_set(err, STATUS_DATA,
                         "%s: not a model of SentencePiece, which spm_train writes as .model",
                         name);
    bool removes = m->rule.trim;
    m->rule.prefix |= m->rule.trim; /* either lets a decoder remove the blank */
    if (read_pieces(m, in, names, err) != STATUS_OK) {
        error_prefix(err, "%s", name);
        return err->status;
    }
    m->lossless = r.fallback && r.escape && !r.charsmap && !r.denormalizer && !r.suffix && !removes;
    for (int i = 0; i < 256; i++)
        m->lossless &= m->byte[i] >= 0;
    if (m->line_end < 0)
        m->line_end = m->byte['\n'] >= 0 ? m->byte['\n'] : m->sentence_end;
    return STATUS_OK;
}

void subword_model_free(struct subword_model *m)
{
    mem_free(m->text);
    mem_free(m->width);
    *m = (struct subword_model){0};
}
