/* A run's log as the curves and figures of a report. */
#ifndef DEQ_REPORT_LOG_READ_H
#define DEQ_REPORT_LOG_READ_H

#include "base/json.h"
#include "report/thinning.h"

/* X(name in the report, object of the line or NULL, field) */
#define LOG_STEP_COLUMNS(X)                     \
    X(loss, NULL, "loss")                       \
    X(lr, NULL, "lr")                           \
    X(grad_norm, NULL, "grad_norm")             \
    X(tokens_per_s, NULL, "tokens_per_s")       \
    X(evals, "forward", "evals_mean")           \
    X(residual, "forward", "rel_mean")          \
    X(backward_evals, "backward", "evals_mean") \
    X(backward_residual, "backward", "rel_mean")
#define LOG_EVALUATION_COLUMNS(X)                       \
    X(nll, NULL, "nll")                                 \
    X(bits_per_byte, NULL, "bits_per_byte")             \
    X(bits_per_byte_known, NULL, "bits_per_byte_known") \
    X(evals, NULL, "nfe_mean")                          \
    X(residual, NULL, "rel_mean")

enum { LOG_RECENT = 100 };

struct log_history {
    struct thinning step, evaluation;
    int64_t steps, skipped;            /* steps in the log, and those that changed nothing */
    int64_t starts;                    /* times that the run was started or continued */
    int64_t unreadable;                /* lines that are damaged */
    double last_step, tokens, seconds; /* after the last step; seconds are those of steps alone */
    double recent[LOG_RECENT];         /* losses of the last steps, around */
    double least_nll;                  /* of `best`, or infinite */
    /* Lines, each owned, or NULL: the last start, the best evaluation and the last one. */
    struct json *start, *best, *last;
};

/* Reads a log into curves of at most `points` points, an even number. A last line that is being
 * written is left out. The caller frees *h with log_history_free, also after an error.
 * STATUS_NOINPUT if the file cannot be opened, STATUS_IO, STATUS_NOMEM. */
enum status log_history_read(struct log_history *h, const char *path, int points,
                             struct error *err);
void log_history_free(struct log_history *h);

/* Writes the object `key`, with curves and figures, to a report. */
void log_history_write(const struct log_history *h, struct json_writer *w, const char *key);

/* Writes a number in six digits, or null. */
void log_write_short(struct json_writer *w, const char *key, double value);

#endif
