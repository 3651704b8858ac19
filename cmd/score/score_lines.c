/* Scores a text line by line. */
#include "cmd/score/score.h"

#include "base/mem.h"
#include "data/text_reader.h"

#include <stdio.h>
#include <string.h>

/* Lines of like length are scored together, and so many are read at a time that there are some. */
enum { WINDOW_TOKENS = 1 << 18, WINDOW_LINES = 1 << 14 };

struct line {
    size_t first; /* its first token among those of the window */
    int64_t count;
};

/* Lines that wait for their scores. Arrays are owned and grow with the longest line. */
struct window {
    struct line *line; /* [WINDOW_LINES] */
    struct score_text *text;
    int64_t lines;
    /* [capacity], the context of a line's first token included */
    int32_t *id;
    struct score_token *token;
    struct score_piece *piece;
    size_t size, capacity;
    char *bytes; /* the text of the tokens, where it is printed */
    size_t byte_count, byte_capacity;
    bool line_open;
};

static enum status grow(struct window *w, struct error *err)
{
    size_t old = w->capacity, capacity = old == 0 ? 4096 : 2 * old;
    TRY(mem_grow((void **)&w->id, old, capacity, sizeof *w->id, err));
    TRY(mem_grow((void **)&w->token, old, capacity, sizeof *w->token, err));
    TRY(mem_grow((void **)&w->piece, old, capacity, sizeof *w->piece, err));
    w->capacity = capacity;
    return STATUS_OK;
}

static enum status window_create(struct window *w, struct error *err)
{
    *w = (struct window){0};
    TRY(mem_alloc((void **)&w->line, WINDOW_LINES, sizeof *w->line, err));
    return mem_alloc((void **)&w->text, WINDOW_LINES, sizeof *w->text, err);
}

static void window_free(struct window *w)
{
    mem_free(w->line);
    mem_free(w->text);
    mem_free(w->id);
    mem_free(w->token);
    mem_free(w->piece);
    mem_free(w->bytes);
}

static enum status add_id(struct window *w, int32_t id, const struct score_piece *piece,
                          struct error *err)
{
    if (w->size == w->capacity)
        TRY(grow(w, err));
    w->id[w->size] = id;
    w->piece[w->size++] = *piece;
    w->line[w->lines].count++;
    return STATUS_OK;
}

/* Begins a line with the token that stands for its start, if there is one. */
static enum status begin_line(struct window *w, int32_t start, struct error *err)
{
    w->line[w->lines] = (struct line){.first = w->size};
    w->line_open = true;
    return start < 0 ? STATUS_OK : add_id(w, start, &(struct score_piece){0}, err);
}

/* Keeps the text of a token. Offsets become addresses when all of it is there. */
static enum status keep_text(struct window *w, const struct text_token *t, struct error *err)
{
    size_t need = w->byte_count + t->len;
    if (need > w->byte_capacity) {
        TRY(mem_grow((void **)&w->bytes, w->byte_capacity, 2 * need + 4096, 1, err));
        w->byte_capacity = 2 * need + 4096;
    }
    if (t->len > 0)
        memcpy(w->bytes + w->byte_count, t->text, t->len);
    w->byte_count = need;
    return STATUS_OK;
}

/* Scores and prints the window's lines, and empties it. */
static enum status flush(struct window *w, struct scorer *s, struct score_output *o,
                         struct error *err)
{
    size_t at = 0;
    for (size_t i = 0; i < w->size && o->tokens; i++) {
        w->piece[i].text = w->bytes + at;
        at += w->piece[i].len;
    }
    int64_t n = 0;
    for (int64_t i = 0; i < w->lines; i++) {
        const struct line *l = &w->line[i];
        if (l->count > 1)
            w->text[n++] = (struct score_text){
                .token = w->id + l->first, .count = l->count, .out = w->token + l->first + 1};
    }
    TRY(score_texts(s, w->text, n, err));
    for (int64_t i = 0; i < w->lines; i++) {
        const struct line *l = &w->line[i];
        size_t first = l->first + 1;
        TRY(score_print(o, w->token + first, w->piece + first, l->count > 0 ? l->count - 1 : 0,
                        NULL, err));
    }
    w->lines = 0;
    w->size = w->byte_count = 0;
    return STATUS_OK;
}

static enum status end_line(struct window *w, struct scorer *s, struct score_output *o,
                            struct error *err)
{
    w->lines++;
    w->line_open = false;
    if (w->lines < WINDOW_LINES && w->size < WINDOW_TOKENS)
        return STATUS_OK;
    return flush(w, s, o, err);
}

static enum status take(struct window *w, const struct text_token *t, bool no_eos,
                        struct score_output *o, struct error *err)
{
    struct score_piece piece = {
        .len = t->len, .line_end = t->line_end, .unknown = t->unknown, .bytes = t->bytes};
    if (!w->line_open)
        TRY(begin_line(w, text_line_start(o->vocab), err));
    if (t->line_end && (no_eos || t->id < 0))
        return STATUS_OK;
    if (o->tokens)
        TRY(keep_text(w, t, err));
    else
        piece.len = 0;
    return add_id(w, t->id, &piece, err);
}

enum status score_lines(struct scorer *s, const char *path, bool no_eos, struct score_output *o,
                        struct error *err)
{
    enum status status = STATUS_OK;
    struct text_source source = text_reader_source(path);
    struct text_reader *reader = NULL;
    struct window w = {0};
    const struct text_token *tokens;
    int count = 1;
    TRY_OUT(window_create(&w, err));
    TRY_OUT(text_reader_open(&reader, &source, o->vocab, err));
    while (count > 0) {
        TRY_OUT(text_reader_next(reader, &tokens, &count, err));
        for (int i = 0; i < count; i++) {
            TRY_OUT(take(&w, &tokens[i], no_eos, o, err));
            if (tokens[i].line_end)
                TRY_OUT(end_line(&w, s, o, err));
        }
    }
    if (w.line_open)
        TRY_OUT(end_line(&w, s, o, err));
    TRY_OUT(flush(&w, s, o, err));
out:
    text_reader_close(reader);
    window_free(&w);
    return status;
}
