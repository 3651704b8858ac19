/* Reads log.jsonl, line by line in bounded memory. */
#include "report/log_read.h"

#include "base/mem.h"
#include "run/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct column {
    const char *name, *object, *field;
};

#define COLUMN(name_, object_, field_) {#name_, object_, field_},
static const struct column step_columns[] = {LOG_STEP_COLUMNS(COLUMN)};
static const struct column evaluation_columns[] = {LOG_EVALUATION_COLUMNS(COLUMN)};
#undef COLUMN
enum {
    STEP_COLUMNS = sizeof step_columns / sizeof *step_columns,
    EVALUATION_COLUMNS = sizeof evaluation_columns / sizeof *evaluation_columns,
};
_Static_assert((int)STEP_COLUMNS <= (int)THINNING_COLUMNS, "a row of steps fits");

static const char *const axis_names[THINNING_AXES] = {"step", "tokens", "seconds"};

/* The number of that name, or NaN where there is none. */
static double number(const struct json *doc, const struct cJSON *object, const char *name)
{
    const struct cJSON *value = object == NULL ? NULL : json_get(object, name);
    struct error ignored;
    double number;
    if (value == NULL || json_kind(value) != JSON_NUMBER ||
        json_real(doc, value, &number, &ignored) != STATUS_OK)
        return NAN;
    return number;
}

static void take_columns(const struct json *doc, const struct column *columns, int count,
                         double *value)
{
    const struct cJSON *root = json_root(doc);
    for (int i = 0; i < count; i++) {
        const char *inner = columns[i].object;
        value[i] = number(doc, inner == NULL ? root : json_get(root, inner), columns[i].field);
    }
}

static void take_step(struct log_history *h, const struct json *doc)
{
    const struct cJSON *root = json_root(doc), *skipped = json_get(root, "skipped");
    double value[STEP_COLUMNS], seconds = number(doc, root, "seconds");
    struct error ignored;
    bool was = false;
    take_columns(doc, step_columns, STEP_COLUMNS, value);
    h->last_step = number(doc, root, "step");
    h->tokens = number(doc, root, "tokens");
    h->seconds += isfinite(seconds) ? seconds : 0;
    h->recent[h->steps % LOG_RECENT] = value[0];
    h->steps++;
    if (skipped != NULL && json_bool(doc, skipped, &was, &ignored) == STATUS_OK)
        h->skipped += was;
    thinning_add(&h->step, (const double[]){h->last_step, h->tokens, h->seconds}, value);
}

static void take_evaluation(struct log_history *h, const struct json *doc)
{
    double value[EVALUATION_COLUMNS];
    take_columns(doc, evaluation_columns, EVALUATION_COLUMNS, value);
    thinning_add(&h->evaluation,
                 (const double[]){number(doc, json_root(doc), "step"), h->tokens, h->seconds},
                 value);
}

static void keep(struct json **to, struct json *doc)
{
    json_free(*to);
    *to = doc;
}

/* Takes a line that is an object. The document then belongs to the history or is gone. An
 * evaluation may be the best and the last one, so that the best is a copy. */
static enum status take(struct log_history *h, struct json *doc, const char *line, size_t len,
                        struct error *err)
{
    const struct cJSON *event = json_get(json_root(doc), "event");
    const char *name = "";
    struct error ignored;
    if (event != NULL)
        (void)json_string(doc, event, &name, &ignored);
    if (strcmp(name, "start") == 0) {
        h->starts++;
        keep(&h->start, doc);
        return STATUS_OK;
    }
    if (strcmp(name, "evaluation") == 0) {
        double nll = number(doc, json_root(doc), "nll");
        take_evaluation(h, doc);
        keep(&h->last, doc);
        if (!(nll < h->least_nll))
            return STATUS_OK;
        h->least_nll = nll;
        struct json *copy = NULL;
        TRY(json_parse(&copy, line, len, "log", STATUS_DATA, err));
        keep(&h->best, copy);
        return STATUS_OK;
    }
    if (strcmp(name, "step") == 0)
        take_step(h, doc);
    json_free(doc);
    return STATUS_OK;
}

static enum status take_line(struct log_history *h, const char *line, size_t len, struct error *err)
{
    struct json *doc = NULL;
    enum status status = STATUS_DATA;
    if (len <= METRICS_LINE_MAX && line_check(line, len) != LINE_CHECK_WRONG)
        status = json_parse(&doc, line, len, "log", STATUS_DATA, err);
    if (status == STATUS_OK && json_kind(json_root(doc)) == JSON_OBJECT)
        return take(h, doc, line, len, err);
    json_free(doc);
    h->unreadable++;
    return status == STATUS_NOMEM ? status : STATUS_OK;
}

enum status log_history_read(struct log_history *h, const char *path, int points, struct error *err)
{
    enum status status = STATUS_OK;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t len;
    *h = (struct log_history){.least_nll = INFINITY};
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    TRY_OUT(thinning_create(&h->step, STEP_COLUMNS, points, err));
    TRY_OUT(thinning_create(&h->evaluation, EVALUATION_COLUMNS, points, err));
    while ((len = getline(&line, &capacity, in)) > 0 && line[len - 1] == '\n')
        TRY_OUT(take_line(h, line, (size_t)len - 1, err));
    if (ferror(in))
        status = error_set(err, STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
out:
    free(line); /* getline allocates */
    fclose(in);
    return status;
}

void log_history_free(struct log_history *h)
{
    thinning_free(&h->step);
    thinning_free(&h->evaluation);
    json_free(h->start);
    json_free(h->best);
    json_free(h->last);
    *h = (struct log_history){0};
}

/* --- writing ---------------------------------------------------------------------------------- */

void log_write_short(struct json_writer *w, const char *key, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.6g", value);
    json_write_raw(w, key, isfinite(value) ? text : "null");
}

/* An axis needs all its digits. */
static void write_axis(struct json_writer *w, const struct thinning *t, int k)
{
    json_write_array(w, axis_names[k]);
    for (int i = 0; i < t->count; i++) {
        char text[40];
        double value = t->bucket[i].axis[k];
        snprintf(text, sizeof text, k < 2 ? "%.0f" : "%.2f", value);
        json_write_raw(w, NULL, isfinite(value) ? text : "null");
    }
    json_write_end(w);
}

static void write_series(struct json_writer *w, const struct thinning *t, int k, const char *name)
{
    bool any = false, wide = t->width > 1;
    for (int i = 0; i < t->count; i++)
        any |= t->bucket[i].column[k].count > 0;
    if (!any)
        return;
    json_write_object(w, name);
    json_write_array(w, "mean");
    for (int i = 0; i < t->count; i++)
        log_write_short(w, NULL, thinned_mean(&t->bucket[i].column[k]));
    json_write_end(w);
    for (int most = 0; most < 2 && wide; most++) {
        json_write_array(w, most ? "most" : "least");
        for (int i = 0; i < t->count; i++) {
            const struct thinned *c = &t->bucket[i].column[k];
            log_write_short(w, NULL, c->count == 0 ? NAN : most ? c->most : c->least);
        }
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_thinning(struct json_writer *w, const char *key, const struct thinning *t,
                           const struct column *columns)
{
    json_write_object(w, key);
    json_write_int(w, "width", t->width);
    for (int k = 0; k < THINNING_AXES; k++)
        write_axis(w, t, k);
    for (int k = 0; k < t->columns; k++)
        write_series(w, t, k, columns[k].name);
    json_write_end(w);
}

static double recent_loss(const struct log_history *h, int64_t *count)
{
    double sum = 0;
    int64_t n = h->steps < LOG_RECENT ? h->steps : LOG_RECENT;
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(h->recent[i]))
            continue;
        sum += h->recent[i];
        ++*count;
    }
    return *count > 0 ? sum / (double)*count : NAN;
}

/* Copies what a line has, without objects and lists, which may be deeper than a report can be. */
static void write_line(struct json_writer *w, const char *key, const struct json *line)
{
    if (line == NULL)
        return;
    json_write_object(w, key);
    for (const struct cJSON *m = json_first(json_root(line)); m != NULL; m = json_next(m))
        if (json_kind(m) != JSON_ARRAY && json_kind(m) != JSON_OBJECT)
            json_write_copy(w, json_key(m), m);
    json_write_end(w);
}

void log_history_write(const struct log_history *h, struct json_writer *w, const char *key)
{
    int64_t recent;
    double loss = recent_loss(h, &recent);
    json_write_object(w, key);
    json_write_int(w, "steps", h->steps);
    log_write_short(w, "last_step", h->last_step);
    log_write_short(w, "tokens", h->tokens);
    log_write_short(w, "seconds", h->seconds);
    log_write_short(w, "loss", loss);
    json_write_int(w, "loss_steps", recent);
    json_write_int(w, "skipped", h->skipped);
    json_write_int(w, "starts", h->starts);
    json_write_int(w, "unreadable", h->unreadable);
    write_line(w, "start", h->start);
    write_line(w, "best", h->best);
    write_line(w, "last", h->last);
    write_thinning(w, "step", &h->step, step_columns);
    write_thinning(w, "evaluation", &h->evaluation, evaluation_columns);
    json_write_end(w);
}
