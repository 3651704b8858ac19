/* Escapes and fonts of roff. */
#include "cmd/manual/roff.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

/* Columns of the source, and of an example in a page of 80. */
enum { SOURCE_WIDTH = 76, EXAMPLE_WIDTH = 70, WORD_BYTES = 512 };

/* One word of the source, with its escapes. */
struct word {
    char text[WORD_BYTES];
    size_t len;
};

static void add(struct word *w, const char *text)
{
    size_t n = strlen(text);
    if (w->len + n < sizeof w->text) {
        memcpy(w->text + w->len, text, n + 1);
        w->len += n;
    }
}

/* A character of running text, in which a hyphen may be typeset as one. */
static void add_plain(struct word *w, char c)
{
    const char one[2] = {c, '\0'};
    add(w, c == '\\' ? "\\e" : c == '^' ? "\\(ha" : c == '~' ? "\\(ti" : one);
}

/* A character that has to stay what it is. */
static void add_exact(struct word *w, char c)
{
    switch (c) {
    case '-':
        add(w, "\\-");
        return;
    case '\'':
        add(w, "\\(aq");
        return;
    case '`':
        add(w, "\\(ga");
        return;
    default:
        add_plain(w, c);
    }
}

void roff_literal(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        struct word w = {.len = 0};
        add_exact(&w, *text);
        fputs(w.text, out);
    }
}

void roff_literal_line(FILE *out, const char *text)
{
    for (size_t at = 0; *text != '\0';) {
        char word[WORD_BYTES];
        int n = (int)strcspn(text, " ");
        bool fits = at + 1 + (size_t)n <= SOURCE_WIDTH;
        if (at > 0)
            fputc(fits ? ' ' : '\n', out);
        at = at > 0 && fits ? at + 1 + (size_t)n : (size_t)n;
        snprintf(word, sizeof word, "%.*s", n, text);
        roff_literal(out, word);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

/* The length of a run of capitals that is no part of a longer word, or 0. */
static size_t capitals(const char *text, const char *p, const char *end)
{
    size_t n = 0;
    if (p > text && isalnum((unsigned char)p[-1]))
        return 0;
    while (p + n < end && isupper((unsigned char)p[n]))
        n++;
    return p + n < end && isalnum((unsigned char)p[n]) ? 0 : n;
}

/* A piece of a command line, from `text` to `end`. */
static void add_usage(struct word *w, const char *text, const char *end)
{
    char font = 'R';
    for (const char *p = text; p < end; p++) {
        size_t italic = capitals(text, p, end);
        bool dots = end - p >= 3 && strncmp(p, "...", 3) == 0;
        char wanted = italic > 0 ? 'I' : dots || strchr("[]|,", *p) != NULL ? 'R' : 'B';
        size_t n = italic > 0 ? italic : dots ? 3 : 1;
        if (wanted != font)
            add(w, wanted == 'I' ? "\\fI" : wanted == 'B' ? "\\fB" : "\\fR");
        font = wanted;
        for (size_t i = 0; i < n; i++)
            add_exact(w, p[i]);
        p += n - 1;
    }
    if (font != 'R')
        add(w, "\\fR");
}

void roff_usage(FILE *out, const char *text)
{
    for (bool first = true; *text != '\0'; first = false) {
        struct word w = {.len = 0};
        size_t n = strcspn(text, " ");
        add_usage(&w, text, text + n);
        fprintf(out, "%s%s", first ? "" : " ", w.text);
        text += n + (text[n] == ' ');
    }
}

void roff_example(FILE *out, const char *text)
{
    for (size_t at = 0; *text != '\0';) {
        char word[WORD_BYTES];
        int n = (int)strcspn(text, " ");
        size_t unit = (size_t)n;
        if (text[0] == '-' && text[n] == ' ' && text[n + 1] != '-')
            unit += 1 + strcspn(text + n + 1, " "); /* an option stays with its value */
        if (at > 0 && at + 1 + unit > EXAMPLE_WIDTH) {
            fputs(" \\e\n    ", out);
            at = 4;
        } else if (at > 0) {
            fputc(' ', out);
            at++;
        }
        snprintf(word, sizeof word, "%.*s", n, text);
        roff_literal(out, word);
        at += (size_t)n;
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

/* --- sentences -------------------------------------------------------------------------------- */

/* Whether the n bytes of `name` are one of the words of `values`. */
static bool is_value(const char *values, const char *name, size_t n)
{
    while (values != NULL && *values != '\0') {
        size_t len = strcspn(values, " ");
        if (len == n && strncmp(values, name, n) == 0)
            return true;
        values += len + strspn(values + len, " ");
    }
    return false;
}

/* Whether a word is something to be typed or a name, in which every hyphen is a minus. */
static bool is_name(const char *text, size_t n)
{
    bool other = false;
    for (size_t i = 0; i < n; i++)
        other |= strchr("/_=.0123456789", text[i]) != NULL;
    return other || text[0] == '-';
}

/* A word of a sentence, from `text` to `end`, without the brackets and stops around it. */
static void add_running(struct word *w, const char *text, const char *end, const char *values)
{
    bool option = end - text > 1 && text[0] == '-', name = is_name(text, (size_t)(end - text));
    if (option)
        add(w, "\\fB");
    for (const char *p = text; p < end; p++) {
        size_t n = capitals(text, p, end);
        if (n > 0 && is_value(values, p, n)) {
            add(w, "\\fI");
            for (; n > 1; n--)
                add_plain(w, *p++);
            add_plain(w, *p);
            add(w, option ? "\\fB" : "\\fR");
        } else if (name) {
            add_exact(w, *p);
        } else {
            add_plain(w, *p);
        }
    }
    if (option)
        add(w, "\\fR");
}

/* A sentence and where its line stands. */
struct paragraph {
    FILE *out;
    size_t column;
    bool quoted;  /* between two backquotes */
    bool stopped; /* the last word ended a sentence */
};

/* Adds what stands between two blanks. */
static void put_word(struct paragraph *p, const char *text, size_t n, const char *values)
{
    struct word w = {.len = 0};
    bool fresh = p->stopped && isupper((unsigned char)text[0]);
    const char *end = text + n;
    while (text < end) {
        const char *to = text;
        while (to < end && *to != '`')
            to++;
        size_t lead = p->quoted ? 0 : strspn(text, "(\"");
        const char *from = text + lead < to ? text + lead : to, *stop = to;
        while (!p->quoted && stop > from + 1 && strchr(".,;:)?\"", stop[-1]) != NULL)
            stop--;
        for (; text < from; text++)
            add_plain(&w, *text);
        if (p->quoted)
            add_usage(&w, from, to);
        else
            add_running(&w, from, stop, values);
        for (text = p->quoted ? to : stop; text < to; text++)
            add_plain(&w, *text);
        if (to < end)
            p->quoted = !p->quoted;
        text = to + (to < end);
    }
    if (p->column > 0 && (fresh || p->column + 1 + w.len > SOURCE_WIDTH)) {
        fputc('\n', p->out);
        p->column = 0;
    }
    if (p->column > 0)
        fputc(' ', p->out);
    /* At the start of a line these two would begin a command. */
    const char *guard = p->column == 0 && (w.text[0] == '.' || w.text[0] == '\'') ? "\\&" : "";
    fprintf(p->out, "%s%s", guard, w.text);
    p->column += w.len + 1;
    p->stopped = w.len > 1 && w.text[w.len - 1] == '.';
}

void roff_prose(FILE *out, const char *text, const char *values)
{
    struct paragraph p = {.out = out};
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        put_word(&p, text, n, values);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}
