/* Checking this program against dumps of tensors from another implementation: a safetensors file
 * holds inputs, weights and what became of them; the same computation runs here and every output is
 * compared. The convention of names and layouts: README.md, "Reference dumps".
 *
 * Nothing in a file goes unnoticed: a tensor is an input, is compared, is one of those known not to
 * be computed (with the reason), or counts as a failure.
 */
#ifndef DEQ_VERIFY_VERIFY_H
#define DEQ_VERIFY_VERIFY_H

#include "backend/backend.h"
#include "store/safetensors.h"

struct verify_row {
    char name[128];
    double max_abs; /* largest absolute difference */
    double max_rel; /* that over the largest absolute value of the reference (see verify_impl.h) */
    double tol;     /* on max_rel */
    bool compared;  /* false: not computed, `note` says why */
    bool pass;      /* rows that are not computed pass unless they are unknown */
    char note[160];
};

struct verify_report {
    char kind[32];
    struct verify_row *rows; /* owns */
    int64_t count, capacity;
    bool pass;
};

/* Runs the file's computation on `be` and compares. tol > 0 replaces all tolerances. A difference,
 * an unknown tensor or a kind that cannot be run is in the report, not an error. Free the report
 * with verify_report_free in any case. */
enum status verify_file(struct verify_report *report, struct backend *be,
                        const struct st_file *file, const char *path, double tol,
                        struct error *err);
void verify_report_free(struct verify_report *report);

#endif
