/* A plan for the machine on which the program runs, measured. */
#ifndef DEQ_CMD_PLAN_HERE_H
#define DEQ_CMD_PLAN_HERE_H

#include "bench/plan.h"

/* Plans for `be`. Of a processor the peaks are measured (bench/roof.h), and what a large product
 * and a copy from memory to memory reach of them, so that a step can be modelled. Then steps of the
 * configuration itself are run for about a second, unless a step would take longer than some
 * seconds. A GPU has no peaks here, and its steps are always run. STATUS_NOMEM. STATUS_DEVICE if
 * the device lacks the precision. STATUS_CONFIG. */
enum status plan_here(struct plan *plan, struct chip *chip, const struct config *config,
                      struct backend *be, struct error *err);

#endif
