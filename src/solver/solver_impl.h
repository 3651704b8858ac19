/* Shared by the solver's loop and its methods. A new method is a file that fills a struct method,
 * and a line of SOLVE_METHODS (solver_config.h). */
#ifndef DEQ_SOLVER_SOLVER_IMPL_H
#define DEQ_SOLVER_SOLVER_IMPL_H

#include "solver/solver.h"

/* A method says how the next iterate follows from the evaluated ones. */
struct method {
    int work_tensors;      /* [N,D] beyond those of the loop */
    int search_tensors;    /* and as many more for a line search */
    int history_tensors;   /* [m + history_extra,N,D] */
    int64_t history_extra; /* slots beyond solver_config.history */
    bool leaves_ended;     /* nothing is read of rows that have stopped */
    double floor;          /* added to ||f|| in a relative residual, as published */
    /* Declares what it wants of s->dots, coef, gram and len, or is NULL. */
    void (*declare)(struct solver *s);
    /* A run begins. May be NULL. */
    void (*begin)(struct solver *s);
    /* Chooses where evaluation k leaves f and its residual, in s->f and s->g. */
    void (*place)(struct solver *s, int64_t k);
    /* Goes from iterate k, evaluated and checked, to the next one in s->z, in rows still active. */
    enum status (*advance)(struct solver *s, int64_t k, struct error *err);
};

#define SOLVE_METHOD_DECLARE(NAME, name) extern const struct method name##_method;
SOLVE_METHODS(SOLVE_METHOD_DECLARE)
#undef SOLVE_METHOD_DECLARE

enum { SOLVER_WORK = 4, SOLVER_HISTORIES = 2 };

/* What a run counts on the host. */
struct solver_counts {
    int64_t iterates; /* evaluated so far */
    int64_t calls;    /* of fn */
    int64_t rows;     /* evaluated in them */
    int64_t steps;    /* steps in the history, Broyden */
    int64_t dropped;  /* full histories dropped, Broyden */
};

struct solver {
    struct backend *be;          /* borrows */
    struct solver_config config; /* of the next run */
    const struct method *method;
    int64_t batch, length, width, history; /* planned */
    bool reverse;                          /* planned */
    struct workspace *ws;                  /* borrows, or is own_ws */
    struct workspace *own_ws;              /* owns, or NULL */
    enum phase phase;                      /* in which it solves */
    /* In the workspace. */
    struct tensor work[SOLVER_WORK];      /* [N,D] */
    struct tensor hist[SOLVER_HISTORIES]; /* [m,N,D] */
    struct tensor best_z;                 /* [N,D] */
    struct tensor norms;                  /* [N,2] */
    struct tensor dots;                   /* Anderson [N,m], Broyden [N,2m] */
    struct tensor coef;                   /* Anderson [N,m], Broyden [N,m+1] */
    struct tensor gram;                   /* Anderson [N,m,m], Broyden [N or B,m(m+1)/2] */
    struct tensor best, first;            /* [N] */
    struct tensor best_at, reason, evals, restarts; /* I32 [N] */
    struct tensor len;                              /* I32 [N], Anderson */
    struct tensor active;                           /* I32 [1] */
    struct tensor list;          /* I32 [2 N], the rows that are evaluated if not all (solve_fn) */
    struct tensor planned_trace; /* F64 [max_iter + 1,2] */

    struct tensor longer_trace; /* owns, for more iterations than were planned */
    struct tensor trace;        /* view of either, squared norms of g and f */
    int32_t *host_list;         /* owns [2 N], the same as `list` */
    int32_t *host_reason;       /* owns: [N] */
    double *host_trace;         /* owns [capacity * 4], squares, then abs and rel */
    int64_t trace_capacity;
    bool selects; /* see solver_select_rows */
    /* of the current run */
    int64_t b, t, rows;
    int64_t listed;        /* rows in the list, 0 where all are evaluated */
    int64_t failed;        /* rows that have stopped without converging */
    struct tensor z, f, g; /* views [rows,D] */
    solve_fn fn;
    void *ctx;
    bool have_f; /* f at z is known already */
    bool given_f0;
    struct solver_counts count;
    double step_length[HISTORY_MOST + 1]; /* the part taken of each step kept, Broyden */
};

/* The scope of mixing weights. With `batch` they are per sequence. */
enum scope solver_mixing_scope(const struct solver *s);
/* Declares a buffer that lives during a solve and, if `reported`, until the end of the step. */
void solver_declare(struct solver *s, struct tensor *t, const char *name, bool reported,
                    const struct tensor *shape);
/* The first rows of a planned tensor [n,D], [m,n,D], [n,m] or [n]. */
struct tensor solver_rows(const struct solver *s, const struct tensor *planned);
/* Sums val [rows,C] in place over the mixing scope. */
void solver_mix(const struct solver *s, const struct tensor *val);
/* How many rows are still active after a check. Where that pays, the others are left out from
 * now on. */
int64_t solver_read_active(struct solver *s);
/* Residual of the whole batch from a pair in the trace, as the stop rule reads it. */
double solver_batch_residual(const struct solver *s, const double squares[2], bool absolute);
/* The reasons of rows where those that have stopped are left out, without data where none are. */
struct tensor solver_ended(const struct solver *s);
/* f <- fn(z) for views [rows,D], in the rows that are listed. */
enum status solver_call(struct solver *s, const struct tensor *z, const struct tensor *f,
                        struct error *err);

#endif
