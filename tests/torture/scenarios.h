/* The command lines that are tortured, and what they work on. */
#ifndef DEQ_TESTS_TORTURE_SCENARIOS_H
#define DEQ_TESTS_TORTURE_SCENARIOS_H

#include "program.h"

extern const struct scenario scenarios[];
extern const int scenario_count;

/* Makes their inputs in the work folder, with the program itself. */
void scenarios_prepare(const struct program *p);

#endif
