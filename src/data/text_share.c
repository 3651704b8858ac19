/* Finds the units of a text, draws among them, and copies each to its part. */
#include "data/text_share.h"

#include "base/mem.h"
#include "base/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SHARE_BUFFER = 1 << 18,
    PARAGRAPHS_LEAST = 10 /* that are drawn, since one may be a heading or half of the text */
};

/* A pass over the text that finds where its units end. */
struct scan {
    const struct text_source *text;
    bool paragraphs;
    char *buffer;       /* owns [SHARE_BUFFER] */
    int64_t lines;      /* so far */
    int64_t units;      /* that ended so far */
    int64_t line_start; /* offset of the line at hand */
    bool inside;        /* the line at hand is not blank */
    bool open;          /* the unit at hand has a line that is not blank */
    bool closing;       /* and a blank one behind it */
    /* Called with the end of each unit, in order. NULL only counts them. */
    enum status (*found)(void *context, int64_t end, struct error *err);
    void *context;
};

/* Draws one of the units of each stretch, in order. */
struct picker {
    struct rng_key key;
    int64_t units, drawn;
    int64_t stretch; /* at hand, which ends before unit `until` */
    int64_t until;
    int64_t pick; /* the unit that it gives */
};

/* The parts under way. */
struct draw {
    struct text_spool spool[PARTS];
    struct picker picker[PARTS];
    const struct text_source *text;
    struct text_drawn *drawn;
    int64_t placed[PARTS]; /* units so far */
    int fd;                /* of the text, for copies */
    char *buffer;          /* owns [SHARE_BUFFER] */
    int64_t begin, end;    /* of what goes to `part` and is not copied yet */
    enum text_part part;
};

static enum status changed(const struct text_source *text, struct error *err)
{
    return error_set(err, STATUS_IO, "%s: the file changed while it was read; run again",
                     text->name);
}

static enum status end_unit(struct scan *s, int64_t end, struct error *err)
{
    s->units++;
    return s->found != NULL ? s->found(s->context, end, err) : STATUS_OK;
}

/* Takes the newline that ends the line at hand, which `next` follows. */
static enum status end_line(struct scan *s, int64_t next, struct error *err)
{
    s->lines++;
    s->closing |= s->open && !s->inside;
    s->inside = false;
    s->line_start = next;
    return s->paragraphs ? STATUS_OK : end_unit(s, next, err);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Takes text[size], which lies at `offset`. */
static enum status scan_block(struct scan *s, const char *text, size_t size, int64_t offset,
                              struct error *err)
{
    for (const char *p = text, *end = text + size; p < end;) {
        while (!s->inside && p < end && is_blank(*p))
            p++;
        if (p == end)
            break;
        if (!s->inside && *p != '\n') {
            s->inside = true;
            if (s->paragraphs && s->closing)
                TRY(end_unit(s, s->line_start, err));
            s->open = true;
            s->closing = false;
        }
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        if (newline == NULL)
            break;
        p = newline + 1;
        TRY(end_line(s, offset + (p - text), err));
    }
    return STATUS_OK;
}

/* Scans the text from its start. *bytes is its length. */
static enum status scan_text(struct scan *s, int64_t *bytes, struct error *err)
{
    int fd = -1;
    int64_t length, offset = 0;
    bool end = false, line_open = false;
    enum status status;
    TRY_OUT(text_source_begin(s->text, true, &fd, &length, err));
    while (!end) {
        size_t size = 0;
        TRY_OUT(text_source_read(s->text, fd, offset, s->buffer, SHARE_BUFFER, &size, &end, err));
        TRY_OUT(scan_block(s, s->buffer, size, offset, err));
        offset += (int64_t)size;
        if (size > 0)
            line_open = s->buffer[size - 1] != '\n';
    }
    if (offset < length) {
        status = changed(s->text, err);
        goto out;
    }
    s->lines += line_open;
    if (offset > 0 && (s->paragraphs || line_open))
        TRY_OUT(end_unit(s, offset, err));
    *bytes = offset;
out:
    text_source_end(s->text, fd);
    return status;
}

/* Copies what is pending to its part. */
static enum status copy_pending(struct draw *d, struct error *err)
{
    while (d->begin < d->end) {
        int64_t left = d->end - d->begin;
        ssize_t n =
            pread(d->fd, d->buffer, left < SHARE_BUFFER ? (size_t)left : SHARE_BUFFER, d->begin);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return changed(d->text, err);
        if (n < 0)
            return error_set(err, STATUS_IO, "%s: cannot read at byte %lld: %s", d->text->name,
                             (long long)d->begin, strerror(errno));
        TRY(text_spool_write(&d->spool[d->part], d->buffer, (size_t)n, err));
        d->begin += n;
    }
    return STATUS_OK;
}

/* The first unit of a stretch. */
static int64_t stretch_start(const struct picker *p, int64_t stretch)
{
    if (stretch >= p->drawn)
        return p->units;
    return (int64_t)((double)stretch * (double)p->units / (double)p->drawn);
}

/* Draws from the stretch at hand. */
static void draw_unit(struct picker *p)
{
    int64_t from = stretch_start(p, p->stretch);
    p->until = stretch_start(p, p->stretch + 1);
    double u = rng_uniform(p->key, (uint64_t)p->stretch);
    p->pick = from + (int64_t)(u * (double)(p->until - from));
}

static struct picker make_picker(enum text_part part, int64_t units, int64_t drawn, uint64_t seed)
{
    struct picker p = {.key = {seed, rng_stream(RNG_SAMPLE, 1, (uint64_t)part)},
                       .units = units,
                       .drawn = drawn,
                       .pick = -1};
    if (drawn > 0)
        draw_unit(&p);
    return p;
}

/* Whether the unit is drawn. Units come in order. */
static bool is_drawn(struct picker *p, int64_t unit)
{
    if (p->drawn > 0 && unit >= p->until) {
        p->stretch++;
        draw_unit(p);
    }
    return unit == p->pick;
}

static enum status place_unit(void *context, int64_t end, struct error *err)
{
    struct draw *d = context;
    enum text_part part = PART_REST;
    int64_t unit = d->placed[PART_REST] + d->placed[PART_VALID] + d->placed[PART_TEST];
    if (unit >= d->drawn->units)
        return changed(d->text, err);
    if (is_drawn(&d->picker[PART_VALID], unit))
        part = PART_VALID;
    else if (is_drawn(&d->picker[PART_TEST], unit - d->placed[PART_VALID]))
        part = PART_TEST;
    if (part != d->part)
        TRY(copy_pending(d, err));
    d->placed[part]++;
    d->part = part;
    d->end = end;
    return STATUS_OK;
}

/* Chooses the units, and how many of them go to each part. */
static enum status choose_units(struct scan *s, const double share[PARTS], struct text_drawn *drawn,
                                struct error *err)
{
    int64_t bytes;
    double least = 1; /* of the shares */
    for (int i = PART_VALID; i < PARTS; i++)
        least = share[i] > 0 && share[i] < least ? share[i] : least;
    s->paragraphs = true;
    TRY(scan_text(s, &bytes, err));
    if (bytes == 0)
        return error_set(err, STATUS_DATA, "%s: empty: a text is needed", s->text->name);
    drawn->paragraphs = (double)s->units * least >= PARAGRAPHS_LEAST;
    drawn->units = drawn->paragraphs ? s->units : s->lines;
    int64_t rest = drawn->units;
    for (int i = PART_VALID; i < PARTS; i++) {
        drawn->drawn[i] = llround((double)drawn->units * share[i]);
        rest -= drawn->drawn[i];
    }
    drawn->drawn[PART_REST] = rest;
    if ((double)drawn->units * least >= 1 && rest >= 1)
        return STATUS_OK;
    return error_set(err, STATUS_DATA,
                     "%s: a text of %lld line%s: too short to draw %.3g %% of them; give a larger "
                     "share, a longer text, or --valid FILE",
                     s->text->name, (long long)drawn->units, drawn->units == 1 ? "" : "s",
                     100 * least);
}

static enum status copy_parts(struct draw *d, struct scan *s, const char *dir, struct error *err)
{
    int64_t bytes;
    for (int i = 0; i < PARTS; i++)
        if (d->drawn->drawn[i] > 0)
            TRY(text_spool_begin(&d->spool[i], dir, err));
    TRY(text_source_begin(d->text, true, &d->fd, &bytes, err));
    s->paragraphs = d->drawn->paragraphs;
    s->found = place_unit;
    s->context = d;
    TRY(scan_text(s, &bytes, err));
    TRY(copy_pending(d, err));
    for (int i = 0; i < PARTS; i++)
        if (d->placed[i] != d->drawn->drawn[i])
            return changed(d->text, err);
    return STATUS_OK;
}

enum status text_share(const struct text_source *text, const double share[PARTS], uint64_t seed,
                       const char *dir, struct text_source out[PARTS], struct text_drawn *drawn,
                       struct error *err)
{
    static const char *const what[PARTS] = {"the rest of", "the validation share of",
                                            "the test share of"};
    struct draw d = {.text = text, .drawn = drawn, .fd = -1};
    struct scan s = {.text = text};
    enum status status;
    void *p = NULL;
    *drawn = (struct text_drawn){0};
    for (int i = 0; i < PARTS; i++) {
        d.spool[i].fd = -1;
        out[i] = (struct text_source){.spool = -1};
    }
    TRY_OUT(mem_alloc(&p, SHARE_BUFFER, 1, err));
    s.buffer = p;
    TRY_OUT(mem_alloc(&p, SHARE_BUFFER, 1, err));
    d.buffer = p;
    TRY_OUT(choose_units(&s, share, drawn, err));
    int64_t valid = drawn->drawn[PART_VALID], test = drawn->drawn[PART_TEST];
    d.picker[PART_VALID] = make_picker(PART_VALID, drawn->units, valid, seed);
    d.picker[PART_TEST] = make_picker(PART_TEST, drawn->units - valid, test, seed);
    s = (struct scan){.text = text, .buffer = s.buffer};
    TRY_OUT(copy_parts(&d, &s, dir, err));
    for (int i = 0; i < PARTS; i++) {
        char name[TEXT_NAME_MAX];
        if (drawn->drawn[i] == 0)
            continue;
        drawn->bytes[i] = d.spool[i].bytes;
        snprintf(name, sizeof name, "%s %.400s", what[i], text->name);
        TRY_OUT(text_spool_finish(&d.spool[i], name, &out[i], err));
    }
out:
    for (int i = 0; i < PARTS; i++)
        text_spool_abandon(&d.spool[i]);
    text_source_end(text, d.fd);
    mem_free(s.buffer);
    mem_free(d.buffer);
    return status;
}
