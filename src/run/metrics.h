/* A run's log.jsonl, which has one JSON object a line, appended as it happens.
 *
 * Every line reaches the system in one write. A reader who follows the file therefore sees whole
 * lines, and a killed run loses none. A run that resumes from the checkpoint of step S first drops
 * what was logged after S, because those steps are done again. Each step is thus in the log once.
 */
#ifndef DEQ_RUN_METRICS_H
#define DEQ_RUN_METRICS_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* --- the check of a line ---------------------------------------------------------------------- */

/* Each line ends with a check value of its text, so that {"a":1} becomes
 * {"a":1,"check":"0123abcd"}. A line that was damaged on a disk is often still JSON, with another
 * digit in it. The value is 32 bits of XXH3. */
enum { LINE_CHECK_BYTES = 19 }; /* that line_check_add adds */

enum line_check { LINE_CHECK_NONE, LINE_CHECK_RIGHT, LINE_CHECK_WRONG };

/* Adds the check to line[len], the text of an object with members, which ends with its brace. The
 * buffer has LINE_CHECK_BYTES more bytes. Returns the new length. */
size_t line_check_add(char *line, size_t len);

/* Whether line[len], without its newline, ends with a check, and whether that is right. */
enum line_check line_check(const char *line, size_t len);

/* --- the log ---------------------------------------------------------------------------------- */

struct metrics;

enum { METRICS_LINE_MAX = 1 << 20 }; /* bytes of a line, a longer one is not ours */

/* Where a run stands, as its checkpoint says. A run may have been stopped between a step and the
 * evaluation that was due after it. */
struct metrics_position {
    int64_t step;       /* last finished step */
    int64_t evaluation; /* step of the last finished evaluation, 0 for none */
    int64_t lines;      /* with "step" that the log had then, 0 if not known */
};

/* Opens the log at `path` for a run that stands at `at`, and creates it if there is none. It drops
 *   - evaluations ("event" is "evaluation") of a "step" above at->evaluation
 *   - other objects of a "step" above at->step
 *   - the torn line of a crash, and lines that are no JSON object with members
 *   - lines whose check is missing or wrong
 * and keeps the rest, objects without "step" included. If no line of a log has a right check, an
 * older program wrote it, and all lines get one. A log that needs no change is left as it is.
 * Otherwise a new one replaces it as a whole, and so it does if `path` is a link or the file has
 * other names too, since those belong to another run. The caller frees *out with metrics_close.
 * *out is NULL on error. Returns STATUS_CANTCREATE if the file cannot be opened or replaced or is a
 * pipe, STATUS_IO or STATUS_NOMEM. */
enum status metrics_open_append(struct metrics **out, const char *path,
                                const struct metrics_position *at, struct error *err);
/* Closes the log without forcing it to disk. NULL is allowed. */
void metrics_close(struct metrics *m);

/* What opening found. */
struct metrics_found {
    int64_t kept;       /* lines kept */
    int64_t with_step;  /* of these, objects with "step" */
    int64_t later;      /* lines dropped because of their step */
    int64_t unreadable; /* lines dropped because they were damaged */
    int64_t missing;    /* how many fewer lines with "step" were kept than at->lines */
};
struct metrics_found metrics_found(const struct metrics *m);

/* Appends `object` and its check. `object` is the text of one JSON object with members, on one line
 * and without spaces behind it, as json_write_finish gives it. Returns STATUS_IO, or STATUS_NOMEM.
 * If the disk is full, nothing of the line remains in the file. */
enum status metrics_write(struct metrics *m, const char *object, struct error *err);

/* Forces the log to disk. It is called before the checkpoint of the same step is committed, so that
 * a log never lacks steps of a checkpoint that survives. It may run in another thread beside
 * metrics_write, and then covers what was written before the call. Returns STATUS_IO on failure. */
enum status metrics_sync(struct metrics *m, struct error *err);

#endif
