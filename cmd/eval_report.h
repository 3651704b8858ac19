/* What deq eval prints. */
#ifndef DEQ_CMD_EVAL_REPORT_H
#define DEQ_CMD_EVAL_REPORT_H

#include "train/evaluation.h"

/* What was evaluated. All is borrowed. */
struct eval_report {
    const char *checkpoint, *split;
    int64_t step;
    const struct config *config; /* as changed for the evaluation */
    const struct stream *stream;
    const int64_t *nfe;                   /* [row_count] of --nfe */
    const struct evaluation_result *rows; /* [row_count] at so many evaluations */
    int row_count;
};

/* A few lines of text. */
void eval_report_text(const struct eval_report *about, const struct evaluation_result *whole);
/* The table of --nfe, row by row. */
void eval_report_head(void);
void eval_report_row(int64_t nfe, const struct evaluation_result *row);
/* One JSON object: `whole`, and rows[]. */
enum status eval_report_json(const struct eval_report *about, const struct evaluation_result *whole,
                             struct error *err);

#endif
