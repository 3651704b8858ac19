/* A run's log.jsonl: one JSON object a line, appended as it happens, each with a check of its text
 * as the last member (line_check.h).
 *
 * Every line reaches the system in one write, so that a reader who follows the file sees whole
 * lines and a killed run loses none. A run that resumes from the checkpoint of step S first drops
 * what was logged after S, because those steps are done again: each step stands in the log once.
 *
 * Errors: STATUS_CANTCREATE when the file cannot be opened or replaced; STATUS_IO when reading or
 * writing fails.
 */
#ifndef DEQ_RUN_METRICS_H
#define DEQ_RUN_METRICS_H

#include "base/status.h"
#include <stdint.h>

struct metrics;

enum { METRICS_LINE_MAX = 1 << 20 }; /* bytes of a line; a longer one is not ours */

/* Where a run stands: its last finished step, and the step of its last finished evaluation; 0:
 * none. A run may have been stopped between a step and the evaluation due after it. */
struct metrics_position {
    int64_t step, evaluation;
    int64_t lines; /* it had logged then; 0: not known */
};

/* Opens the log at `path`, creating it if there is none, for a run that stands at `at`. Drops
 * objects whose "step" is greater than `evaluation` (for those whose "event" is "evaluation") or
 * `step` (for others), the torn line of a crash, lines that are no JSON object with members, and
 * lines whose check is missing or wrong; keeps objects without "step". A log without a single right
 * check is one of an older program: its lines get one. A log that needs no change is left as it is;
 * otherwise the new one replaces it in one step. *out is freed by the caller with metrics_close;
 * NULL on error. */
enum status metrics_open_append(struct metrics **out, const char *path,
                                const struct metrics_position *at, struct error *err);
/* Forgets the rest without forcing to disk; NULL is allowed. */
void metrics_close(struct metrics *m);

/* What opening found: lines kept, and lines dropped because of their step or because they were not
 * readable; and how many fewer were kept than there had been. */
struct metrics_found {
    int64_t kept, later, unreadable, missing;
};
struct metrics_found metrics_found(const struct metrics *m);

/* Appends `object`, the text of one JSON object with members on one line, without spaces behind it
 * (see json_write_finish), and its check. If the disk is full nothing of it remains in
 * the file. */
enum status metrics_write(struct metrics *m, const char *object, struct error *err);

/* Forces the log to disk: call it before the checkpoint of the same step is committed, so that a
 * log never lacks steps of a checkpoint that survives. May run beside metrics_write in another
 * thread: what was written before the call is then on disk. */
enum status metrics_sync(struct metrics *m, struct error *err);

#endif
