/* Takes a text, scores its tokens, and writes them for the page. */
#include "report/shading.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/text_decode.h"
#include "data/text_reader.h"
#include "report/log_read.h"
#include "score/scorer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- the text --------------------------------------------------------------------------------- */

static enum status begin(struct shading *s, const struct vocab *vocab, const char *name,
                         int64_t most, struct error *err)
{
    size_t n = (size_t)most;
    s->vocab = vocab;
    snprintf(s->name, sizeof s->name, "%s", name);
    TRY(mem_alloc((void **)&s->id, n + 1, sizeof *s->id, err));
    TRY(mem_alloc((void **)&s->end, n, sizeof *s->end, err));
    TRY(mem_alloc((void **)&s->unknown, n, sizeof *s->unknown, err));
    TRY(mem_alloc((void **)&s->score, n, sizeof *s->score, err));
    s->id[0] = text_line_start(vocab);
    s->context = s->id[0] >= 0;
    return STATUS_OK;
}

void shading_free(struct shading *s)
{
    mem_free(s->id);
    mem_free(s->end);
    mem_free(s->unknown);
    mem_free(s->score);
    mem_free(s->bytes);
    *s = (struct shading){0};
}

static enum status append(struct shading *s, const char *text, size_t len, struct error *err)
{
    if (s->size + len > s->room) {
        size_t room = 2 * (s->size + len) + 256;
        TRY(mem_grow((void **)&s->bytes, s->size, room, 1, err));
        s->room = room;
    }
    if (len > 0)
        memcpy(s->bytes + s->size, text, len);
    s->size += len;
    return STATUS_OK;
}

/* Appends a token. A word that the vocabulary lacks is shown as the text has it, in `own`. */
static enum status add(struct shading *s, struct text_decoder *d, int32_t id,
                       const struct text_token *own, struct error *err)
{
    struct text_bytes b = text_decode(d, id);
    if (b.blank)
        TRY(append(s, " ", 1, err));
    if (own != NULL && own->unknown)
        TRY(append(s, own->text, own->len, err));
    else
        TRY(append(s, b.text, b.len, err));
    if (!s->context) { /* the first token is not scored, and its text goes with the second one */
        s->id[0] = id;
        s->context = true;
        return STATUS_OK;
    }
    s->id[s->count + 1] = id;
    s->unknown[s->count] = id == vocab_unk(s->vocab);
    s->end[s->count++] = s->size;
    return STATUS_OK;
}

static enum status read_split(struct shading *s, struct shard_set *set, const char *dir,
                              int64_t most, struct error *err)
{
    enum status status = STATUS_OK;
    const struct shard_header *h = shard_set_header(set);
    struct text_decoder decoder = text_decoder_begin(s->vocab, TEXT_DECODE_RAW);
    unsigned char room[4096] __attribute__((aligned(8)));
    const struct shard_buffer buffer = {room, sizeof room};
    int32_t *ids = NULL;
    if (shard_set_is_foreign(set))
        shard_set_take_vocabulary(set, vocab_size(s->vocab), vocab_hash(s->vocab));
    else if (h->vocab_hash != vocab_hash(s->vocab))
        return error_set(err, STATUS_DATA, "%s: of another vocabulary than the checkpoint", dir);
    if (h->sequence > 0)
        return error_set(err, STATUS_DATA, "%s: records of a task, which are no text", dir);
    int64_t n = h->split_tokens < most ? h->split_tokens : most;
    TRY(mem_alloc((void **)&ids, (size_t)n, sizeof *ids, err));
    TRY_OUT(shard_set_read(set, 0, n, ids, &buffer, err));
    for (int64_t i = 0; i < n; i++)
        TRY_OUT(add(s, &decoder, ids[i], NULL, err));
out:
    mem_free(ids);
    return status;
}

enum status shading_take_split(struct shading *s, const struct vocab *vocab,
                               const struct shard_source *source, int64_t most, struct error *err)
{
    struct shard_set *set = NULL;
    char name[sizeof s->name];
    snprintf(name, sizeof name, "the beginning of the validation data in %s", source->dir);
    TRY(begin(s, vocab, name, most, err));
    TRY(shard_set_open(&set, source, err));
    enum status status = read_split(s, set, source->dir, most, err);
    shard_set_close(set);
    return status;
}

enum status shading_take_file(struct shading *s, const struct vocab *vocab, const char *path,
                              int64_t most, struct error *err)
{
    enum status status = STATUS_OK;
    struct text_source source = text_source_file(path);
    struct text_reader *reader = NULL;
    struct text_decoder decoder = text_decoder_begin(vocab, TEXT_DECODE_RAW);
    const struct text_token *tokens;
    int count = 1;
    TRY(begin(s, vocab, path, most, err));
    TRY_OUT(text_reader_open(&reader, &source, vocab, err));
    while (count > 0 && s->count < most) {
        TRY_OUT(text_reader_next(reader, &tokens, &count, err));
        for (int i = 0; i < count && s->count < most; i++)
            if (tokens[i].id >= 0)
                TRY_OUT(add(s, &decoder, tokens[i].id, &tokens[i], err));
    }
out:
    text_reader_close(reader);
    return status;
}

/* --- the scores ------------------------------------------------------------------------------- */

enum status shading_score(struct shading *s, struct backend *be, struct snapshot *from,
                          struct error *err)
{
    enum status status = STATUS_OK;
    struct scorer *scorer = NULL;
    struct score_plan plan;
    size_t at = 0;
    if (s->count == 0)
        return error_set(err, STATUS_DATA, "%s: a text without tokens", s->name);
    score_prepare(&plan, &from->config, s->tol, s->max_iter);
    plan.unk = vocab_unk(s->vocab);
    plan.ranks = true;
    TRY_OUT(scorer_create(&scorer, be, &plan, err));
    TRY_OUT(snapshot_read_params(from, &scorer->params, err));
    TRY_OUT(score_begin(scorer, err));
    TRY_OUT(score_continue(scorer, s->id, s->count + 1, s->score, err));
    for (int64_t i = 0; i < s->count; i++) {
        score_tally_add(&s->tally, &s->score[i], s->unknown[i], (int64_t)(s->end[i] - at));
        at = s->end[i];
    }
    s->unconverged = scorer->unconverged;
    s->solved = from->config.model.layers == 0;
out:
    scorer_free(scorer);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

bool shading_is_open(const char *text, size_t len)
{
    size_t known = utf8_check(text, len), rest = len - known;
    if (rest == 0 || rest > 3)
        return false;
    unsigned char lead = (unsigned char)text[known];
    size_t wanted = lead >= 0xC2 && lead <= 0xDF   ? 2
                    : lead >= 0xE0 && lead <= 0xEF ? 3
                    : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                   : 0;
    for (size_t i = known + 1; i < len; i++)
        if (((unsigned char)text[i] & 0xC0) != 0x80)
            return false;
    return rest < wanted;
}

enum status shading_spell(const char *text, size_t len, char **out, struct error *err)
{
    enum { SPELLED = 6 }; /* bytes of <0xNN> */
    size_t to = 0;
    TRY(mem_alloc((void **)out, len + 1, SPELLED, err));
    for (size_t at = 0; at < len;) {
        size_t n = utf8_length(text + at, len - at);
        if (n == 0) {
            to += (size_t)snprintf(*out + to, SPELLED + 1, "<0x%02X>", (unsigned char)text[at]);
            at++;
            continue;
        }
        memcpy(*out + to, text + at, n);
        to += n;
        at += n;
    }
    (*out)[to] = '\0';
    return STATUS_OK;
}

/* Writes tokens first .. last as one piece: text, surprise in nats, evaluations (0 for layers), and
 * rank (0 for several tokens). The number of tokens follows if it is not 1, and true behind it for
 * a word that the vocabulary lacks. */
static enum status write_piece(const struct shading *s, struct json_writer *w, int64_t first,
                               int64_t last, struct error *err)
{
    size_t from = first > 0 ? s->end[first - 1] : 0;
    int64_t n = last - first + 1;
    double logp = 0, evals = 0;
    char *text = NULL;
    for (int64_t i = first; i <= last; i++) {
        logp += s->score[i].logp;
        evals += s->solved ? s->score[i].evals : 0;
    }
    TRY(shading_spell(s->bytes + from, s->end[last] - from, &text, err));
    json_write_array(w, NULL);
    json_write_string(w, NULL, text);
    mem_free(text);
    log_write_short(w, NULL, -logp);
    log_write_short(w, NULL, evals / (double)n);
    json_write_int(w, NULL, n == 1 ? s->score[first].rank : 0);
    if (n > 1 || s->unknown[first])
        json_write_int(w, NULL, n);
    if (s->unknown[first])
        json_write_bool(w, NULL, true);
    json_write_end(w);
    return STATUS_OK;
}

enum status shading_write(const struct shading *s, struct json_writer *w, const char *key,
                          struct error *err)
{
    int64_t first = 0;
    json_write_object(w, key);
    json_write_string(w, "name", s->name);
    json_write_int(w, "tokens", s->count);
    log_write_short(w, "ppl", score_ppl(&s->tally));
    log_write_short(w, "evals", s->solved ? s->tally.evals / (double)s->tally.tokens : NAN);
    json_write_int(w, "unknown", s->tally.unknown);
    json_write_int(w, "unconverged", s->unconverged);
    log_write_short(w, "tol", s->tol);
    json_write_int(w, "max_iter", s->max_iter);
    json_write_array(w, "pieces");
    for (int64_t i = 0; i < s->count; i++) {
        size_t from = first > 0 ? s->end[first - 1] : 0;
        if (i + 1 < s->count && shading_is_open(s->bytes + from, s->end[i] - from))
            continue;
        TRY(write_piece(s, w, first, i, err));
        first = i + 1;
    }
    json_write_end(w);
    json_write_end(w);
    return STATUS_OK;
}
