/* What must hold for a run with a fault. */
#ifndef DEQ_TESTS_TORTURE_RULES_H
#define DEQ_TESTS_TORTURE_RULES_H

#include "program.h"

/* One kind of fault in one scenario. */
struct job {
    const struct program *program;
    const struct scenario *s;
    enum fault kind;
    int64_t at; /* the call that fails */
    struct listing before;
    struct outcome good; /* without a fault */
    int64_t refused, absorbed;
    int broken; /* rules */
};

/* Judges the run, counts it, and prints each broken rule. */
void rules_check(struct job *j, const struct outcome *o);
/* The same of the run without a fault. */
void rules_check_good(struct job *j);
/* Runs the same command again, without a fault, from whatever is there: it must succeed. */
void rules_check_recovery(struct job *j, const struct outcome *failed);

#endif
