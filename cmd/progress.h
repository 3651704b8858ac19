/* What a person sees of a training. On a terminal one line is rewritten once a second and fits
 * the window, elsewhere plain lines come now and then. All of it goes to stderr. */
#ifndef DEQ_CMD_PROGRESS_H
#define DEQ_CMD_PROGRESS_H

#include "run/run.h"
#include <stdatomic.h>

struct progress {
    bool live;          /* progress_live() */
    bool line_open;     /* a live line stands there unfinished */
    double loss;        /* running mean */
    double step_time;   /* running mean, seconds */
    double last_shown;  /* clock */
    double started;     /* clock */
    int64_t first_step; /* of this call */
    double seconds;     /* that all steps will take, NaN if not known */
    const char *where;  /* borrows, of that time, see estimate.h */
    const char *dir;    /* borrows, the folder of the run */
    atomic_bool *stop;  /* borrows, set when nobody reads what is printed */
};

/* Whether lines that are rewritten may be shown. That is so if stderr is a terminal and no NO_COLOR
 * in the environment asks for plain text. */
bool progress_live(void);

/* Fills *observer with functions that print. All arguments must outlive the run. *stop becomes true
 * when stderr is a pipe that nobody reads any more. */
void progress_start(struct progress *p, struct run_observer *observer, const char *dir,
                    atomic_bool *stop);
/* Ends an unfinished live line, so that other messages start on their own. */
void progress_break(struct progress *p);

#endif
