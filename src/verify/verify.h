/* Checking this program against dumps of tensors from another implementation.
 *
 * A dump is a safetensors file with inputs, weights and results. The same computation runs here and
 * every result is compared. tests/README.md, "Reference dumps", defines the names and layouts.
 *
 * Every tensor of a file is accounted for. It is an input, it is compared, it is known not to be
 * computed here (with the reason), or it counts as a failure. */
#ifndef DEQ_VERIFY_VERIFY_H
#define DEQ_VERIFY_VERIFY_H

#include "backend/backend.h"
#include "store/safetensors.h"

struct verify_row {
    char name[128];
    double max_abs; /* largest absolute difference */
    double max_rel; /* max_abs over the largest absolute value of the reference, see
                       verify_impl.h */
    double tol;     /* on max_rel */
    bool compared;  /* if false, `note` says why */
    bool pass;      /* true also for tensors that are known not to be computed */
    char note[160];
};

struct verify_report {
    char kind[32];
    struct verify_row *rows; /* owns [capacity], of which `count` are used */
    int64_t count, capacity;
    bool pass; /* of all rows */
};

/* Runs the file's computation on `be` and compares. tol > 0 replaces all tolerances. A difference,
 * an unknown tensor and a kind that cannot be run are failures in the report, not errors. Free the
 * report with verify_report_free in any case.
 * STATUS_DATA if the file is no dump, lacks a tensor or has one of a wrong shape. STATUS_CONFIG if
 * the solver refuses its settings. STATUS_NOMEM, STATUS_DEVICE. */
enum status verify_file(struct verify_report *report, struct backend *be,
                        const struct st_file *file, const char *path, double tol,
                        struct error *err);
void verify_report_free(struct verify_report *report);

#endif
