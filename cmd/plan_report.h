/* What deq plan prints. */
#ifndef DEQ_CMD_PLAN_REPORT_H
#define DEQ_CMD_PLAN_REPORT_H

#include "bench/plan.h"

struct plan_report {
    const struct config *config;
    const struct chip *chip;
    const struct plan *plan;
    double over;        /* bytes beyond what the chip leaves; 0 or less: it fits */
    int64_t accumulate; /* with which it would fit; 0: with none */
    size_t needed;      /* and would then need */
    bool map;           /* --memory: every buffer too */
};

/* As tables on stdout, or as one JSON object. */
enum status plan_report_print(const struct plan_report *r, bool json, struct error *err);

#endif
